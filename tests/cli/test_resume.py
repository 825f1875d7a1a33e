"""`loop4 resume`: what can go on goes on; what cannot is named with what it waits for."""

from __future__ import annotations

from typing import cast

import pytest

from tests.cli.conftest import Desk
from tests.cli.test_handle import event


def test_a_sleeping_run_is_named_until_it_is_due_and_then_goes_on(watched: Desk) -> None:
    run = watched.json("handle", watched.write("1.json", event()))["run"]
    early = watched.json("resume")
    assert early["continued"] == []
    waiting = cast("list[dict[str, object]]", early["waiting"])
    assert [(w["run"], w["state"]) for w in waiting] == [(run, "sleeping")]
    seen = len(watched.records("verification", "triage", "finding"))
    late = watched.json("resume", "--wait", "8")
    assert run in cast("list[str]", late["continued"])
    assert len(watched.records("verification", "triage", "finding")) > seen


def test_nothing_open_is_said_plainly(watched: Desk) -> None:
    watched.json("handle", watched.write("1.json", event(service="nobody")))
    code, out, _ = watched.say("resume")
    assert (code, out) == (0, "nothing could go on\n")


def test_a_folder_without_a_ledger_is_refused_and_stays_as_it_is(watched: Desk) -> None:
    code, err = watched.refused("resume")
    assert code == 2
    assert "holds no ledger" in err


@pytest.mark.parametrize("seconds", ["-1", "x", "1.5"])
def test_a_wait_that_is_no_whole_number_is_refused(watched: Desk, seconds: str) -> None:
    assert watched.refused("resume", "--wait", seconds)[0] == 2
