"""`loop4 fleet mode`: narrower at once, wider by others' votes and the gate's word, all written
down.
"""

from __future__ import annotations

import json

import pytest
from sqlalchemy import insert

from loop4.ledger.ledger import Ledger
from loop4.ledger.schema import parameters
from loop4.policies.people import Person
from tests.cli.conftest import Desk
from tests.tokens import give_tokens, token_of

SET = ("fleet", "mode", "set")


class Office:
    """The desk, with several people who can sit down at it."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk, self._monkeypatch = desk, monkeypatch
        give_tokens(
            desk.operations,
            Person("noor", ("policy-author",), ""),
            Person("lee", ("developer",), ""),
            Person("remediation", ("on-call",), ""),
        )
        desk.data.mkdir()
        Ledger.open(desk.data / "ledger.db").close()

    def say(self, person: str, *words: str, code: int = 0) -> str:
        """What the person's command prints: its output, or its one line of error.

        Code -1: it fails and prints its answer all the same, with --json.
        """
        self._monkeypatch.setenv("LOOP4_TOKEN", token_of(person))
        found, out, err = self.desk.say(*words)
        if code == -1:
            assert (found, err) == (1, "")
            return out
        assert found == code, err or out
        assert err == "" if code == 0 else err.count("\n") == 1, err
        return out if code == 0 else err

    def set(self, person: str, place: str, mode: str, code: int = 0) -> str:
        return self.say(person, *SET, place, "write", mode, "--reason", "because", code=code)

    def mode(self, place: str = "lab", tool_class: str = "write") -> str:
        environment, _, service = place.partition("/")
        lines = self.desk.json("fleet", "mode")["modes"]
        assert isinstance(lines, list)
        return next(
            str(line["mode"])
            for line in lines
            if (line["environment"], line["service"], line["class"])
            == (environment, service, tool_class)
        )

    def asked(self) -> str:
        """The id of the one request that waits."""
        self.desk.capsys.readouterr()
        _, out, _ = self.desk.say("approvals", "list", "--json")
        (request,) = json.loads(out)
        return str(request["approval_id"])

    def bodies(self, kind: str) -> list[dict[str, object]]:
        return [dict(r.body) for r in self.desk.records(kind)]

    def ceiling(self, mode: str) -> None:
        """The policy author lets an approval widen production as far as that."""
        path = self.desk.policy("bindings.yaml")
        text = path.read_text("utf-8")
        said = "match: {environment: production}\n  mode: suggest\n"
        assert said in text
        path.write_text(text.replace(said, f"{said}  widest: {mode}\n"), "utf-8")


@pytest.fixture
def office(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(desk, monkeypatch)


def test_narrower_holds_at_once_and_is_somebodys(office: Office) -> None:
    assert office.mode() == "act"
    told = office.set("mira", "lab", "suggest")
    assert told == "lab write: act -> suggest, from the next decision on\n"
    assert office.mode() == "suggest"
    assert office.mode(tool_class="notify") == "act"
    assert "nothing was changed" in office.set("jonas", "lab", "suggest")
    (record,) = office.bodies("parameter")
    assert (record["person"], record["reason"]) == ("mira", "because")
    assert (record["parameter"], record["value"]) == ("mode.lab/*/write", "suggest")
    office.set("mira", "lab/orders", "observe")
    assert office.mode("lab/orders") == "observe"
    assert office.mode() == "suggest"
    out = office.say("mira", "fleet", "mode")
    assert "lab write: suggest (the files say act)\n" in out
    assert "lab/orders write: observe (the files say act)\n" in out
    assert "mode.lab/orders/write: observe, set by mira" in out


def test_wider_is_a_request_that_others_vote_on_and_the_gate_judges_again(office: Office) -> None:
    office.set("mira", "lab", "observe")
    told = office.set("ade", "lab", "act")
    assert "lab write stays observe until 1 x policy-author approve act" in told
    assert office.mode() == "observe"
    approval_id = office.asked()
    assert office.set("noor", "lab", "act").count(approval_id) == 1  # asked already
    refused = office.say("ade", "approvals", "approve", approval_id, code=1)
    assert "'ade' requested this action and cannot vote on it" in refused
    refused = office.say("mira", "approvals", "approve", approval_id, code=1)
    assert "needs the role 'policy-author'" in refused
    assert office.mode() == "observe"
    told = office.say("noor", "approvals", "approve", approval_id)
    assert "lab write is act from the next decision on" in told
    assert office.mode() == "act"
    effects = [(b["effect"], b["requester"], b["approval_id"]) for b in office.bodies("decision")]
    assert effects == [("require_approval", "ade", ""), ("allow", "ade", approval_id)]
    assert office.bodies("parameter")[-1]["value"] == f"act {approval_id}"
    told = office.say("noor", "approvals", "approve", approval_id, code=1)
    assert "is consumed, not pending" in told


def test_one_rejection_closes_a_widening(office: Office) -> None:
    office.set("mira", "lab", "observe")
    office.set("mira", "lab", "suggest")
    approval_id = office.asked()
    office.say("jonas", "approvals", "reject", approval_id)
    assert office.mode() == "observe"
    told = office.say("jonas", "approvals", "approve", approval_id, code=1)
    assert "is rejected, not pending" in told
    assert office.mode() == "observe"


def test_suggesting_again_is_on_calls_to_approve(office: Office) -> None:
    office.set("mira", "production", "observe")
    assert "1 x on-call approve suggest" in office.set("mira", "production", "suggest")
    office.say("jonas", "approvals", "approve", office.asked())
    assert office.mode("production") == "suggest"


def test_nobody_gets_beyond_what_the_files_let_an_approval_widen(office: Office) -> None:
    told = office.set("ade", "production", "act", code=1)
    assert "production write stays suggest: the policy files do not let an approval widen" in told
    assert office.bodies("decision")[-1]["effect"] == "deny"
    assert office.desk.records("parameter") == ()
    office.ceiling("act")
    assert "until 2 x policy-author approve act" in office.set("ade", "production", "act")
    approval_id = office.asked()
    told = office.say("noor", "approvals", "approve", approval_id)
    assert "pending (1 of 2)" in told
    assert office.mode("production") == "suggest"


def test_what_the_files_take_back_holds_before_any_approval(office: Office) -> None:
    office.ceiling("act")
    give_tokens(office.desk.operations, Person("kim", ("policy-author",), ""))
    office.set("ade", "production", "act")
    approval_id = office.asked()
    for person in ("noor", "kim"):
        office.say(person, "approvals", "approve", approval_id)
    assert office.mode("production") == "act"
    assert "an approval may widen it to act" in office.say("ade", "fleet", "mode")
    path = office.desk.policy("bindings.yaml")
    path.write_text(path.read_text("utf-8").replace("  widest: act\n", ""), "utf-8")
    assert office.mode("production") == "suggest"


def test_an_approval_fits_no_other_state_of_the_mode_and_no_other_files(office: Office) -> None:
    office.set("mira", "lab/orders", "observe")
    office.set("mira", "lab/orders", "act")
    approval_id = office.asked()
    office.ceiling("act")  # other files than those the request was judged by
    told = office.say("ade", "approvals", "approve", approval_id, code=1)
    assert "approved, but not carried out" in told
    assert "another policy version" in told
    assert office.mode("lab/orders") == "observe"
    office.set("mira", "lab/orders", "act")
    again = office.asked()
    office.set("jonas", "lab", "suggest")  # what holds for all of the lab is part of the state
    told = office.say("ade", "approvals", "approve", again, code=1)
    assert "given for another action" in told
    assert office.mode("lab/orders") == "observe"
    reasons = [str(r.body["reason"]) for r in office.desk.records("approval_closed")]
    assert len(reasons) == 2
    assert all("not carried out" in reason for reason in reasons)


def test_a_pause_stops_a_widening_that_was_approved_before_nobody_voted(office: Office) -> None:
    office.set("mira", "lab", "observe")
    office.set("mira", "lab", "suggest")
    approval_id = office.asked()
    office.say("mira", "fleet", "pause", "--reason", "storm")
    told = office.say("jonas", "approvals", "approve", approval_id, code=1)
    assert "not carried out: the fleet is paused" in told
    assert office.mode() == "observe"
    office.say("mira", "fleet", "unpause", "--reason", "over")
    assert office.mode() == "observe"  # what was withdrawn is asked anew


def test_narrowing_goes_before_a_request_to_widen(office: Office) -> None:
    office.set("mira", "lab", "suggest")
    office.set("mira", "lab", "act")
    approval_id = office.asked()
    office.set("jonas", "lab", "observe")
    told = office.say("ade", "approvals", "approve", approval_id, code=1)
    assert "is superseded, not pending" in told
    assert office.mode() == "observe"


def test_giving_the_word_back_to_wider_files_is_a_widening(office: Office) -> None:
    clear = ("fleet", "mode", "clear", "lab", "write", "--reason", "over")
    assert "nothing was changed" in office.say("mira", *clear)
    office.set("mira", "lab", "observe")
    assert "1 x policy-author approve act" in office.say("mira", *clear)
    assert office.mode() == "observe"
    office.say("ade", "approvals", "approve", office.asked())
    assert office.mode() == "act"
    assert office.desk.json("fleet", "mode")["set"] == []


@pytest.mark.parametrize(
    ("person", "words", "code", "told"),
    [
        ("mira", ("lab", "write", "observe"), 2, "--reason"),
        ("mira", ("lab", "write", "observ", "--reason", "r"), 2, "did you mean 'observe'?"),
        ("mira", ("lab", "read", "observe", "--reason", "r"), 2, "unknown class 'read'"),
        ("mira", ("labb", "write", "observe", "--reason", "r"), 2, "did you mean 'lab'?"),
        ("mira", ("lab/order", "write", "observe", "--reason", "r"), 2, "did you mean 'orders'?"),
        ("mira", ("lab/", "write", "observe", "--reason", "r"), 2, "unknown service ''"),
        ("mira", ("lab", "write", "observe", "--reason", " "), 2, "--reason: say why"),
        ("nobody", ("lab", "write", "observe", "--reason", "r"), 1, "belongs to nobody"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    office: Office,
    monkeypatch: pytest.MonkeyPatch,
    person: str,
    words: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", token_of(person))
    found, said = office.desk.refused(*SET, *words)
    assert (found, told in said) == (code, True), said


@pytest.mark.parametrize("mode", ["observe", "act"])
@pytest.mark.parametrize("person", ["lee", "remediation"])
def test_who_has_not_the_role_or_is_an_agent_changes_nothing_and_it_is_written_down(
    office: Office, person: str, mode: str
) -> None:
    office.set("mira", "lab", "suggest")
    told = office.set(person, "lab", mode, code=1)
    assert "needs one of the roles" in told or "only people change the fleet" in told
    assert office.mode() == "suggest"
    (refused,) = office.bodies("mode_refused")
    assert (refused["person"], refused["mode"]) == (person, mode)
    assert office.desk.records("decision") == ()


def test_nobody_silences_the_fleet_by_a_mode(office: Office) -> None:
    words = (*SET, "lab", "notify", "observe", "--reason", "quiet")
    told = office.say("mira", *words, code=1)
    assert "lab notify stays act: a mode does not silence the fleet" in told
    assert office.mode(tool_class="notify") == "act"
    (refused,) = office.bodies("mode_refused")
    assert (refused["person"], refused["scope"]) == ("mira", "lab notify")


def test_a_row_that_nobody_approved_or_can_read_never_widens_and_is_told(office: Office) -> None:
    office.ceiling("act")
    with Ledger.open(office.desk.data / "ledger.db") as ledger, ledger.transaction() as tx:
        for name, value in (
            ("mode.production/*/write", "act apr-forged"),
            ("mode.lab/*/write", "everything"),
        ):
            tx.change(insert(parameters).values(name=name, value=value, set_by="x"))
    assert office.mode("production") == "suggest"
    assert office.mode("lab") == "observe"
    out = office.say("mira", "fleet", "mode")
    assert "approval 'apr-forged' does not stand behind it" in out
    assert "unknown mode 'everything': observe" in out
    assert "mode.lab/*/write: unknown mode 'everything'" in office.say("mira", "status")


def test_status_and_explain_show_the_mode_in_force(office: Office) -> None:
    office.set("mira", "lab", "suggest")
    out = office.say("mira", "status")
    assert "mode of lab: suggest (the files say act)\n" in out
    body = office.desk.json("status")
    assert {(m["name"], m["mode"]) for m in body["modes_set"]} == {("mode.lab/*/write", "suggest")}  # type: ignore[attr-defined]  # a list of objects
    out = office.say("mira", "policy", "explain", "--agent", "remediation")
    assert "mode: production suggest, staging suggest, development observe, lab suggest\n" in out
    assert "set by people while it runs: lab suggest\n" in out
    office.desk.policy("bindings.yaml").write_text("kind: Nonsense\n")
    out = office.say("mira", "status")
    assert "modes unknown, the policy cannot be loaded" in out


def test_a_request_to_widen_is_shown_and_cannot_be_edited(office: Office) -> None:
    office.set("mira", "lab", "observe")
    office.set("mira", "lab", "suggest")
    approval_id = office.asked()
    out = office.say("jonas", "approvals", "list")
    assert "the fleet itself, asked by mira; role on-call" in out
    told = office.say("jonas", "approvals", "edit", approval_id, "--set", "mode=act", code=1)
    assert "reject it and ask anew" in told
    assert office.asked() == approval_id


def test_json_says_what_came_of_it(office: Office) -> None:
    body = json.loads(
        office.say("mira", *SET, "lab", "write", "observe", "--reason", "r", "--json")
    )
    assert (body["outcome"], body["before"], body["after"]) == ("done", "act", "observe")
    body = json.loads(office.say("mira", *SET, "lab", "write", "act", "--reason", "r", "--json"))
    assert (body["outcome"], body["role"], body["need"]) == ("asked", "policy-author", 1)
    voted = json.loads(
        office.say("ade", "approvals", "approve", str(body["approval_id"]), "--json")
    )
    assert voted["carried_out"] == {
        "done": True, "scope": "lab write", "mode": "act", "reasons": [],
    }  # fmt: skip
    refused = json.loads(
        office.say("ade", *SET, "production", "write", "act", "--reason", "r", "--json", code=-1)
    )
    assert (refused["outcome"], refused["after"]) == ("refused", "suggest")
    assert "the policy files do not let an approval" in refused["reasons"][0]


def test_the_one_who_comes_on_call_is_told_who_changed_what(office: Office) -> None:
    office.set("mira", "lab", "suggest")
    out = office.say("jonas", "handoff")
    assert "mira set mode.lab/*/write: suggest, because\n" in out
    changes = office.desk.json("handoff")["changes"]
    assert isinstance(changes, list)
    (change,) = changes
    assert (change["person"], change["value"]) == ("mira", "suggest")
