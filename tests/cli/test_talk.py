"""`loop4 ask` and `loop4 chat` as a person says them."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from loop4.policies.people import People, Person, render, token_digest
from tests.cli.conftest import Desk

TOKEN = "a-token-for-this-test"  # noqa: S105  (a test's own)


def sign_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.policy("people.yaml")
    jonas = Person("jonas", ("on-call",), token_digest(TOKEN))
    others = [p for p in People.load(path).persons if p.name != "jonas"]
    path.write_text(render([*others, jonas]), encoding="utf-8")
    monkeypatch.setenv("LOOP4_TOKEN", TOKEN)


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str | bytes) -> None:
    typed = b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines)
    stdin = SimpleNamespace(buffer=io.BytesIO(typed), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)


def test_ask_answers_with_evidence_from_metrics_alone(watched: Desk) -> None:
    code, out, err = watched.say("ask", "how is orders?")
    assert (code, err) == (0, "")
    assert out.startswith("I understood: state of orders.\n")
    assert "orders-availability: breached" in out
    assert "[ev-" in out
    assert "no data: what runs of orders could not be read" in out
    assert not watched.data.exists(), "asking makes no data folder"


def test_ask_as_json_names_reads_and_evidence(watched: Desk) -> None:
    body = watched.json("ask", "how much error budget is left for orders?")
    assert body["understood"] == "error budget of orders (by keyword)"
    reads, evidence = body["reads"], body["evidence"]
    assert isinstance(reads, list)
    assert isinstance(evidence, list)
    assert {e for e in evidence if e.startswith("ev-")} <= {r["evidence"] for r in reads}


def test_ask_without_a_world_still_answers_from_documents(desk: Desk) -> None:
    code, out, _ = desk.say("ask", "what did we decide about the bank?")
    assert code == 0
    assert "file work/decisions/2026-03-09-one-way-to-the-bank.md:" in out
    code, out, _ = desk.say("ask", "what is going on?")
    assert "no incident is open [no ledger in the data folder yet]" in out


@pytest.mark.parametrize(
    "question",
    ["", "x" * 100_000, "how is\x1b[2J orders?", "how \u202eis orders?"],
    ids=["empty", "long", "escape", "direction"],
)
def test_what_is_no_question_is_refused_in_one_line(desk: Desk, question: str) -> None:
    assert desk.refused("ask", question)[0] == 2


@pytest.mark.parametrize("question", ["Wie geht es?", "how is ordrs?", "may you delete orders?"])
def test_what_has_no_answer_says_so_and_exits_1(desk: Desk, question: str) -> None:
    before = desk.traces()
    code, out, err = desk.say("ask", question)
    assert (code, err) == (1, "")
    assert out
    assert desk.traces() == before


def test_an_act_is_asked_for_only_with_yes_and_a_name(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("ask", "scale orders to 4")
    code, out, _ = watched.say(*wanted, "--yes")
    assert code == 1
    assert "nobody is signed in" in out
    sign_in(watched, monkeypatch)
    code, out, _ = watched.say(*wanted)
    assert code == 0
    assert "nothing was asked for; say it again with --yes" in out
    assert not watched.data.exists()
    code, out, _ = watched.say(*wanted, "--yes")
    assert code == 0
    assert "asked by jonas" in out
    (record,) = watched.records("decision")
    assert (record.body["requester"], record.body["effect"]) == ("jonas", "deny")
    assert "nothing was changed" in out


def test_a_token_of_nobody_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", TOKEN)
    for command in (("ask", "help"), ("chat",)):
        code, err = desk.refused(*command)
        assert code == 2
        assert "belongs to nobody" in err
        assert TOKEN not in err


def test_no_operations_folder_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOP4_OPERATIONS")
    assert "--operations" in desk.refused("ask", "help")[1]


def test_a_chat_keeps_the_subject_and_outlives_every_bad_line(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(
        monkeypatch,
        "how is orders?",
        "",
        b"\xff\xfe\x00",
        "y" * 100_000,
        "and gateway?",
        "exit",
        "how is payments?",
    )
    code, out, err = watched.say("chat")
    assert (code, err) == (0, "")
    assert "nobody is signed in (LOOP4_TOKEN)" in out
    assert out.count("loop4: the question ") == 2
    assert "state of gateway (as before)" in out
    assert "state of payments" not in out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_a_chat_asks_for_exactly_what_it_showed(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(watched, monkeypatch)
    type_in(monkeypatch, "scale orders to 4", "yes", "yes", "what is going on?")
    code, out, _ = watched.say("chat")
    assert code == 0
    assert "signed in as jonas (on-call)" in out
    assert "say yes to ask for exactly this" in out
    assert out.count("asked by jonas") == 1
    assert "nothing waits for a yes or no here" in out
    (record,) = watched.records("decision")
    assert record.body["arguments"] == {"service": "orders", "replicas": 4}


def test_at_a_terminal_there_is_a_prompt_with_history_and_completion(desk: Desk) -> None:
    desk.data.mkdir()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "loop4.cli.main", "chat"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )
    os.close(theirs)
    terminal = Terminal(ours)
    answer = "orders: owner team-orders, on call orders-on-call"
    try:
        terminal.expect("loop4>")
        terminal.type("who is on c\t")
        terminal.expect("all for orders?")  # completed by the table's example
        terminal.type("\r")
        terminal.expect(answer, "loop4>")
        terminal.type("\x1b[A\r")  # the line before, from the history
        terminal.expect(answer, "loop4>")
        terminal.type("\x04")
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    history = desk.data / "chat_history"
    assert "+who is on call for orders?" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0


@dataclass
class Terminal:
    """Our end of a terminal. `ahead` is what was read and not yet expected."""

    end: int
    ahead: str = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def expect(self, *texts: str, within_s: float = 20.0) -> None:
        """Read until the texts have come, one after the other."""
        until = time.monotonic() + within_s
        for text in texts:
            while text not in self.ahead:
                left_s = until - time.monotonic()
                assert left_s > 0, self.ahead
                assert select.select([self.end], [], [], left_s)[0], self.ahead
                self.ahead += os.read(self.end, 65_536).decode(errors="replace")
            self.ahead = self.ahead.split(text, 1)[1]


def test_a_model_that_is_down_is_one_line_and_the_answer_stands(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP4_MODEL", "some-model")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-9f8e7d6c5b4a39281706")
    code, out, err = watched.say("ask", "how is orders?")
    assert code == 0
    assert "orders-availability: breached" in out
    assert err.startswith("loop4: ")
    assert err.count("\n") == 1
    assert "sk-test" not in out + err
