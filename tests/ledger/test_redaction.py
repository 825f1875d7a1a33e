from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Json
from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger
from loop4.ledger.redaction import holds_secret, redact, redact_outside

SALT = b"salt of one ledger"
SECRET = "hunter2-hunter2"  # noqa: S105  (the secret that must not come through)


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db_password",
        "DB-PASSWORD",
        "clientSecret",
        "token",
        "accessToken",
        "LOOP4_TOKEN",
        "apiKey",
        "api_key",
        "X-API-Key",
        "ssh_private_key",
        "Authorization",
        "Set-Cookie",
        "credentials",
    ],
)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: [s], lambda s: {"value": s}])
def test_what_stands_under_a_secret_key_is_hashed(key: str, wrap: object) -> None:
    assert callable(wrap)
    out = redact({"outer": [{key: wrap(SECRET)}]}, SALT)
    assert SECRET not in json.dumps(out)
    assert "redacted:" in json.dumps(out)


@pytest.mark.parametrize(
    "text",
    [
        f"curl -H 'Authorization: Bearer {SECRET}' failed",
        f"cannot connect to postgresql://app:{SECRET}@db:5432/orders",
        f"started with --password={SECRET}",
        f"env: API_KEY={SECRET} REGION=eu",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_a_secret_inside_free_text_is_hashed_and_the_rest_stays(text: str) -> None:
    out = redact({"line": text}, SALT)
    assert isinstance(out, dict)
    assert SECRET not in str(out["line"])
    assert str(out["line"]).startswith(text[:5].split("-----")[0])


def test_what_is_no_secret_stays(ledger: Ledger) -> None:
    body: Json = {
        "token_count": 12,
        "tokens": 300,
        "max_tokens": 9,
        "token_budget": 1000,
        "secret_source": {"value": False, "age_ms": 0},
        "password": None,
        "secret": "",
        "has_secret": True,
        "secret_name": "db-login",
        "monkey": "banana",
        "key": "restart:orders",
        "idempotency_key": "k1",
        "text": "the token of gratitude; see http://orders:8080/path",
    }
    assert redact(body, SALT) == body


def test_the_same_secret_gives_the_same_hash_in_one_ledger_and_another_elsewhere() -> None:
    here = redact({"password": SECRET, "token": SECRET}, SALT)
    assert isinstance(here, dict)
    assert here["password"] == here["token"]
    assert redact({"password": SECRET}, b"another") != redact({"password": SECRET}, SALT)


def test_evidence_never_holds_the_secret(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger.transaction() as tx:
        record = evidence.append(tx, "fact", "", "", {"env": {"DB_PASSWORD": SECRET}}, at_ms=1)
        assert SECRET not in json.dumps(evidence.get(tx, 1), default=str)
        assert record == evidence.get(tx, 1)
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["password", "a", "token", "count"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_redacting_twice_is_redacting_once(value: Json) -> None:
    once = redact(value, SALT)
    assert redact(once, SALT) == once


@given(st.text(st.characters(codec="utf-8", exclude_characters=" "), min_size=12))
def test_no_secret_under_a_secret_key_survives(secret: str) -> None:
    out = redact({"a": [{"password": secret}, {"apiKey": [secret]}]}, SALT)
    assert json.dumps(secret)[1:-1] not in json.dumps(out)


@pytest.mark.parametrize(
    "key",
    [
        "sk-live-FAKE7Qm2xV9tLp4RzKc81Ns",
        "AKIAFAKE9XVLP4RZKC81",
        "ghp_FAKE7Qm2xV9tLp4RzKc81NsWdY3b",
        "glpat-FAKE7Qm2xV9tLp4R",
        "xoxb-1234567890-FAKE",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJmYWtlIn0.ZmFrZS1zaWduYXR1cmU",
    ],
)
def test_a_key_is_known_by_its_beginning_wherever_it_stands(key: str) -> None:
    said = f"gateway 2.76.0-{key} fails"
    kept = redact({"claim": said}, SALT)
    assert isinstance(kept, dict)
    assert key not in str(kept["claim"])
    assert str(kept["claim"]).startswith("gateway 2.76.0-redacted:")
    assert holds_secret(said)
    assert redact(kept, SALT) == kept


def test_peoples_addresses_go_only_where_the_words_are_from_outside() -> None:
    said = "mail fake.customer@mailbox.example"
    assert redact({"by": said}, SALT) == {"by": said}
    assert "customer" not in redact_outside(said, SALT)
    assert not holds_secret("orders-7d9f6c-x2lqp 2.76.0 asks risk-assessment-service")
