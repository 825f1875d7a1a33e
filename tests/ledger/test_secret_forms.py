"""Each known form of a secret, wherever the ledger writes words: only its salted hash is stored."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import (
    Action,
    Approval,
    ApprovalState,
    Event,
    EventKind,
    IntentState,
    Json,
    Outcome,
    RequesterKind,
    Severity,
)
from loop4.graphs.drafts import Drafts
from loop4.ledger import approvals, contents, events, evidence, incidents, intents, outbox
from loop4.ledger.ledger import Ledger
from loop4.ledger.redaction import holds_secret, redact
from loop4.ledger.secret_forms import FORMS, may_hold

SALT = b"salt of one ledger"
SECRET = "fake-S3cret/value+77"  # noqa: S105  (what must not come through)
WORD = "fakeS3cretvalue77"
KEYS = (
    "sk-proj-FAKE7Qm2xV9tLp4RzKc81Ns",
    "sk_live_FAKE7Qm2xV9tLp4R",
    "gho_FAKE7Qm2xV9tLp4RzKc8",
    "github_pat_FAKE7Qm2xV9tLp4RzKc8",
    "glpat-FAKE7Qm2xV9tLp4R",
    "glsa_FAKE7Qm2xV9tLp4RzKc8",
    "xoxb-1234567890-FAKE",
    "xapp-1-FAKE7Qm2xV9t",
    "ASIAFAKE9XVLP4RZKC81",
    "AIzaFAKE7Qm2xV9tLp4RzKc81NsWdY3b",
    "ya29.FAKE7Qm2xV9tLp4R",
    "hvs.FAKE7Qm2xV9tLp4R",
    "npm_FAKE7Qm2xV9tLp4RzKc8",
    "pypi-FAKE7Qm2xV9tLp4RzKc8",
    "hf_FAKE7Qm2xV9tLp4RzKc8",
    "whsec_FAKE7Qm2xV9tLp4R",
    "SG.FAKE7Qm2xV9tLp4R.FAKE7Qm2xV9tLp4R",
    "dapi0123456789abcdef0123456789abcdef",
    "AGE-SECRET-KEY-1FAKE7QM2XV9TLP4R",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJmYWtlIn0.ZmFrZS1zaWduYXR1cmU",
)
# text that holds a secret -> the part that must be gone
TEXTS = {
    f"Authorization: Bearer {WORD} was refused": WORD,
    "Proxy-Authorization: Basic ZmFrZTpmYWtlZmFrZQ==": "ZmFrZTpmYWtlZmFrZQ==",
    f"authorization: ApiKey {WORD}": WORD,
    f'{{"Authorization": "Token {WORD}"}}': WORD,
    f"Cookie: session={WORD}; theme=dark": WORD,
    f"Set-Cookie: sid={WORD}; HttpOnly": WORD,
    f"cannot reach postgresql://app:{WORD}@db:5432/orders": WORD,
    "redis://:fake@ss@cache:6379/0 timed out": "fake@ss",
    f"https://{WORD}{WORD}@git.example/repo.git": WORD,
    f"DB_PASSWORD={SECRET}": SECRET,
    f"export AWS_SECRET_ACCESS_KEY={SECRET} REGION=eu": SECRET,
    f"?client_secret={WORD}&grant=code": WORD,
    f"/callback?access_token={WORD}&state=1": WORD,
    f"AccountKey={WORD}==;EndpointSuffix=core": WORD,
    f'{{"password": "{WORD} with spaces"}}': f"{WORD} with spaces",
    f"{{'db_password': '{WORD}'}}": WORD,
    f'{{\\"password\\":\\"{WORD}\\"}}': WORD,
    f'password = "{WORD}\\"{WORD}"': WORD,
    f"passphrase => {WORD}": WORD,
    f"mysqldump --password {WORD} orders": WORD,
    f"mysqldump --password={WORD} orders": WORD,
    f"loop --api-token {WORD}": WORD,
    f"curl -u deploy:{WORD} https://x": WORD,
    f"GET /blob?sv=1&sig={WORD}%3D": WORD,
    f"GET /o?X-Amz-Signature={WORD}&X-Amz-Date=1": WORD,
    f"POST https://hooks.slack.com/services/T00/B00/{WORD}": WORD,
    f"https://chat.example/api/webhooks/123/{WORD}": WORD,
    f"https://api.telegram.org/bot123:{WORD}/send": WORD,
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{WORD}\n-----END OPENSSH PRIVATE KEY-----": WORD,
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{WORD}": WORD,
    f"-----BEGIN EC PRIVATE KEY-----\\n{WORD}\\n-----END EC PRIVATE KEY-----": WORD,
    **{f"gateway-{key} fails": key for key in KEYS},
}
# structures that hold a secret beside its name
BODIES: tuple[Json, ...] = (
    {"env": [{"name": "DB_PASSWORD", "value": WORD}]},
    {"env": [{"key": "api-token", "value": WORD}]},
    {"headers": [{"name": "Authorization", "value": WORD}]},
    {"headers": [["Cookie", WORD], ["Accept", "*/*"]]},
    {"args": ["serve", "--db-password", WORD, "--port", "80"]},
    {"dbpassword": WORD},
    {"authtoken": WORD},
    {"AWS_SECRET_ACCESS_KEY": WORD},
    {"auth_key": WORD},
    {"jwt": WORD},
    {"password": [WORD, {"deep": WORD}]},
    {f"sk-live-{WORD}": 1},
)
HARMLESS: tuple[Json, ...] = (
    {"args": ["serve", "--port", "80"], "env": [{"name": "REGION", "value": "eu"}]},
    {"name": "tokens_per_second", "value": 3},
    {"text": "the secret of a good canary; tokens: 300; pass: yes; see http://orders:8080/a@b"},
    {"text": "keyboard: us, monkey=banana, compass: north, design=new, sigma=3, author: me"},
    {"query": 'sum(rate(http_requests_total{code=~"5.."}[1m])) by (service)'},
    {"rules": ["restart-within-budget"], "digest": "a" * 64, "token_budget": 9},
    {"text": "sign-in tokens expire; the cookie: none; authorization: denied"},
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_is_hashed_and_its_surroundings_stay(text: str) -> None:
    secret = TEXTS[text]
    out = redact({"line": text}, SALT)
    assert isinstance(out, dict)
    line = str(out["line"])
    assert secret not in line
    assert "redacted:" in line
    assert line[0] == text[0] or text.startswith("-----")
    assert redact(out, SALT) == out
    assert holds_secret(text)


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_long_text_is_found_as_well(text: str) -> None:
    padded = "no harm in this. " * 20 + text
    assert TEXTS[text] not in str(redact(padded, SALT))


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_a_secret_beside_its_name_is_hashed(body: Json) -> None:
    out = redact(body, SALT)
    assert WORD not in json.dumps(out)
    assert redact(out, SALT) == out


@pytest.mark.parametrize("body", HARMLESS, ids=str)
def test_what_only_sounds_like_a_secret_stays(body: Json) -> None:
    assert redact(body, SALT) == body


@given(st.data())
def test_the_quick_look_never_misses_what_a_form_matches(data: st.DataObject) -> None:
    form = FORMS[data.draw(st.sampled_from(sorted(FORMS)))]
    match = data.draw(st.from_regex(re.compile(form, re.DOTALL)))
    if re.search(form, match, re.DOTALL):
        assert may_hold(match + " and so on" * 10)


@given(st.data())
def test_a_text_of_any_form_is_changed_once_and_not_again(data: st.DataObject) -> None:
    form = FORMS[data.draw(st.sampled_from(sorted(FORMS)))]
    text = data.draw(st.from_regex(re.compile(form, re.DOTALL)))
    once = redact({"text": text, "again": f"{text} {text}"}, SALT)
    assert redact(once, SALT) == once


@pytest.mark.parametrize(
    "unit",
    ['a', '-', '"', ' ', "password ", "--a-", "token:", "eyJ", "://", '\\"', "authorization ",
     "cookie:a", "-----BEGIN ", "password='\\\\", "-u a", "sk-", "basic ", "a@", "?sig="],
)  # fmt: skip
def test_a_long_text_costs_time_in_proportion(unit: str) -> None:
    times = []
    for size in (10_000, 80_000):
        text = unit * (size // len(unit))
        started = time.process_time()
        redact(text, SALT)
        times.append(time.process_time() - started)
    assert times[1] < 40 * times[0] + 0.25, times  # eight times the text; quadratic would be 64


def test_nothing_that_the_ledger_stores_holds_a_secret(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        for number, text in enumerate(TEXTS):
            _write_everywhere(ledger, number, text)
        with ledger.read() as tx:
            assert evidence.verify(tx).ok
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"redacted:" in stored
    for text, secret in TEXTS.items():
        assert secret.encode() not in stored, text
        assert json.dumps(secret)[1:-1].encode() not in stored, text


def test_the_arguments_that_a_person_approves_are_shown_as_they_will_run(ledger: Ledger) -> None:
    said = f"password={WORD}"
    arguments: dict[str, Json] = {"service": "orders", "access_key": 7, "note": "token=yes"}
    payload: dict[str, Json] = {
        "action_requests": [{"name": "t", "args": arguments, "description": said}],
        "loop4": {"reasons": [said]},
    }
    approval = _approval(0)
    with ledger.transaction() as tx:
        approvals.request(tx, approval, incident_id="", run_id="", payload=payload)
        known = approvals.get(tx, approval.approval_id)
    assert known is not None
    (asked,) = json.loads(json.dumps(known.payload["action_requests"]))
    assert asked["args"] == arguments
    assert WORD not in json.dumps(known.payload)


def _approval(number: int) -> Approval:
    return Approval(
        approval_id=f"p{number}",
        action_id=f"a{number}",
        action_digest="d",
        policy_version="v",
        state=ApprovalState.PENDING,
        requester="remediation",
        role="on-call",
        need=1,
        requested_ms=1,
        expires_ms=9,
    )


def _write_everywhere(ledger: Ledger, number: int, text: str) -> None:
    drafts = Drafts(ledger)
    name = drafts.put({"claim": text, "of": [text]})
    action = Action(
        action_id=f"a{number}",
        tool="workloads.restart",
        target="orders-1",
        service="orders",
        environment="lab",
        arguments={},
        target_revision="r1",
        incident_id="",
        agent="remediation",
        requester="remediation",
        requester_kind=RequesterKind.AGENT,
    )
    approval = _approval(number)
    event = Event(
        event_id=f"e{number}",
        kind=EventKind.ALERT,
        source="alertmanager",
        service="orders",
        environment="lab",
        at_ms=1,
        correlation=f"c{number}",
        labels={"said": text},
        text=text,
    )
    with drafts.transaction() as tx:
        evidence.append(tx, "fact", "", "", {"error": text, "lines": [text]}, at_ms=1)
        approvals.request(
            tx, approval, incident_id="", run_id="", payload={"reason": text, "args": {"x": text}}
        )
        approvals.expire(tx, now_ms=10)
        outbox.put(tx, f"o{number}", "handover", {"reason": text}, now_ms=1)
        events.accept(tx, event, now_ms=1)
        incident, _ = incidents.open_or_find(
            tx,
            event.correlation,
            service="orders",
            environment="lab",
            severity=Severity.SEV3,
            detected_ms=1,
            now_ms=1,
        )
        incidents.update(tx, incident.incident_id, cause=text)
        assert intents.intend(
            tx,
            replace(action, incident_id=incident.incident_id),
            action_digest="d",
            policy_version="v",
            approval_id="",
            permit_nonce="",
            precondition={},
            fence=1,
            run_id="",
            now_ms=1,
        )
        failed = Outcome(IntentState.FAILED, text, {"was": text}, {"is": text})
        assert intents.settle(tx, action.action_id, failed, fence=1, now_ms=2)
        assert contents.find(tx, name) == (drafts.get(name),)
