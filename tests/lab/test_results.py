"""When customers stopped failing, by the router's log, and what an episode came to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Json
from loop4.graphs.session import Session
from loop4.lab.episode import Episode
from loop4.lab.folder import make_operations
from loop4.lab.lab import Lab
from loop4.lab.results import WINDOW_MS, Result, mitigated_at, result_of
from loop4.lab.scenarios import draw
from loop4.lab.wiring import EDGE_LOG, EFFECTS_LOG, Ports, Tokens, Wiring
from tests.graphs.conftest import Play, Stage

ONSET_MS = 1_790_000_002_000  # one second into a window of three
WINDOW_END_MS = ONSET_MS + 2_000

Request = tuple[int, str]  # milliseconds after the onset, outcome


def written(folder: Path, name: str, rows: Sequence[Mapping[str, Json]]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def mitigated(
    folder: Path, requests: Sequence[Request], effects: Sequence[Mapping[str, Json]] = ()
) -> int:
    """Milliseconds after the onset; -ONSET_MS when nothing happened."""
    edge = written(
        folder, EDGE_LOG, [{"at_ms": ONSET_MS + at, "outcome": outcome} for at, outcome in requests]
    )
    acted = written(folder, EFFECTS_LOG, effects)
    return mitigated_at(edge, acted, ONSET_MS) - ONSET_MS


def traffic(seconds: range, *, failing: int = 0, of: int = 10, how: str = "error") -> list[Request]:
    """So many requests in each second after the onset, so many of them failing."""
    return [
        (second * 1000 + 10 * n, how if n < failing else "ok")
        for second in seconds
        for n in range(of)
    ]


def effect(after_ms: int, mark: str = "act-1") -> dict[str, Json]:
    return {"at_ms": ONSET_MS + after_ms, "kind": "rollback", "mark": mark}


@pytest.mark.parametrize("how", ["error", "slow"])
def test_customers_failures_end_with_the_last_bad_three_seconds(tmp_path: Path, how: str) -> None:
    requests = [*traffic(range(7), failing=5, how=how), *traffic(range(7, 30))]
    assert mitigated(tmp_path, requests) == 8_000  # the window of second 6 ends there


def test_failures_that_come_back_count_until_they_end_again(tmp_path: Path) -> None:
    requests = [
        *traffic(range(5), failing=5),
        *traffic(range(5, 20)),
        *traffic(range(20, 21), failing=5),
        *traffic(range(21, 30)),
    ]
    assert mitigated(tmp_path, requests) == 23_000


def test_the_routers_log_counts_more_than_our_own_act(tmp_path: Path) -> None:
    requests = [*traffic(range(7), failing=5), *traffic(range(7, 30))]
    assert mitigated(tmp_path, requests, [effect(500)]) == 8_000


def test_what_failed_before_the_onset_does_not_count(tmp_path: Path) -> None:
    before = [(at - 10_000, outcome) for at, outcome in traffic(range(9), failing=9)]
    assert mitigated(tmp_path, [*before, *traffic(range(20))], [effect(4_000)]) == 4_000


@pytest.mark.parametrize(
    ("failures", "requests", "is_bad"),
    [(3, 30, False), (4, 30, True), (4, 133, True), (4, 134, False), (30, 999, True)],
)
def test_a_window_is_bad_from_four_failures_and_above_three_percent(
    tmp_path: Path, failures: int, requests: int, is_bad: bool
) -> None:
    window = [(n, "error" if n < failures else "ok") for n in range(requests)]
    window += traffic(range(20, 23))
    ended = mitigated(tmp_path, window, [effect(1)])
    assert ended == (WINDOW_END_MS - ONSET_MS if is_bad else 1)


def test_without_failing_customers_our_first_act_after_the_onset_counts(tmp_path: Path) -> None:
    acts = [effect(-1_000), effect(2_000, mark=""), effect(6_500), effect(9_000)]
    assert mitigated(tmp_path, traffic(range(20)), acts) == 6_500


@pytest.mark.parametrize("acts", [[], [effect(-1)], [effect(2_000, mark="")]])
def test_where_nothing_failed_and_nothing_was_done_nothing_was_mitigated(
    tmp_path: Path, acts: list[dict[str, Json]]
) -> None:
    assert mitigated(tmp_path, traffic(range(20)), acts) == -ONSET_MS


def test_logs_that_are_not_there_hold_nothing(tmp_path: Path) -> None:
    assert mitigated_at(tmp_path / "none", tmp_path / "none", ONSET_MS) == 0


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    edge = written(tmp_path, EDGE_LOG, [])
    edge.write_text('{"at_ms": 1, "outcome": "ok"}\n{"at_ms": 17900', encoding="utf-8")
    assert mitigated_at(edge, tmp_path / "none", ONSET_MS) == 0


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 20_000), st.sampled_from(["ok", "error", "slow"])), max_size=80
    ),
    rng=st.randoms(use_true_random=False),
)
def test_the_end_of_the_failures_is_the_end_of_the_last_bad_window_in_any_order_of_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Request], rng: Random
) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows = [*rows, (23_500, "ok")]  # the log goes on: whatever failed has ended
    ended = mitigated(folder, rows)
    assert mitigated(folder, rng.sample(rows, len(rows))) == ended
    bad_ends = [
        end
        for end in range(2_000, 24_000, WINDOW_MS)
        for outcomes in [[o for at, o in rows if end - WINDOW_MS <= at < end]]
        for failed in [len(outcomes) - outcomes.count("ok")]
        if failed >= 4 and failed * 100 > 3 * len(outcomes)
    ]
    assert ended == max(bad_ends, default=-ONSET_MS)


def test_failures_that_go_on_to_the_end_of_the_log_have_not_ended(tmp_path: Path) -> None:
    assert mitigated(tmp_path, traffic(range(30), failing=15)) == -ONSET_MS


def lab_at(folder: Path) -> Lab:
    """A lab of which only the logs are looked at; none of its processes runs."""
    nowhere = Wiring(0, 0, Ports(0, 0, 0, 0, 0, 0, 0), Tokens("", "", "", "", ""))
    lock = (folder / "lock").open("w")
    return Lab(folder, nowhere, [], lock)


def lived_through(folder: Path, *, thinking_s: int) -> Result:
    """A bad deploy of orders, approved so many seconds after the question."""
    make_operations(folder / "operations")
    stage = Stage(folder)

    async def story() -> Result:
        stage.bad_deploy()
        onset_ms = stage.toy.clock.now_ms()
        async with stage.opened() as play:
            asked = await play.asked()
            stage.toy.run(thinking_s)
            assert play.vote(asked.approval.approval_id)
            await play.resolved()
            return read(play, onset_ms)

    def read(play: Play, onset_ms: int) -> Result:
        session: Session = play.session
        (incident,) = play.incidents()
        now_ms = stage.toy.clock.now_ms()
        with lab_at(folder) as lab:
            episode = Episode(draw("bad-deploy", 1), incident, onset_ms, now_ms)
            return result_of(lab, session, episode)

    return asyncio.run(story())


def test_the_time_that_a_person_took_to_answer_is_left_out(tmp_path: Path) -> None:
    results = []
    for name, thinking_s in (("quick", 0), ("slow", 45)):
        (tmp_path / name).mkdir()
        results.append(lived_through(tmp_path / name, thinking_s=thinking_s))
    quick, slow = results
    assert quick.verified_s is not None
    assert slow.verified_s is not None
    assert slow.detected_s == quick.detected_s
    assert abs(slow.verified_s - quick.verified_s) <= 1.0
    assert quick.verified_s > 15  # the verification window of the lab's targets
    for result in results:
        (act,) = result.acts
        assert (act.tool, act.target, act.effect, act.outcome) == (
            "deployments.roll_back",
            "orders",
            "require_approval",
            "done",
        )
        assert act.approved_by == ("mira",)
        assert (result.state, result.cause, result.denied) == (
            "resolved",
            "guilty_change:orders",
            (),
        )
        assert result.mitigated_s is None  # this world has no router's log
        assert any("/page-" in path for path in result.paths)


def test_where_no_incident_was_opened_the_result_is_empty(tmp_path: Path) -> None:
    make_operations(tmp_path / "operations")

    async def story() -> Result:
        async with Stage(tmp_path).opened() as play:
            with lab_at(tmp_path) as lab:
                return result_of(lab, play.session, Episode(draw("quiet", 3), None, 0, 0))

    result = asyncio.run(story())
    assert (result.severity, result.cause, result.acts) == ("none", "none", ())
    assert (result.detected_s, result.mitigated_s, result.verified_s) == (None, None, None)
    assert not result.is_fault
    assert not result.needs_act
