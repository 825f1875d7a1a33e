"""The toy world with a past: what was deployed and rolled back, and failures that begin late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loop4.domain import Severity
from loop4.tools.backends.ports import Change, World
from tests.agents.conftest import Case, make_case
from tests.agents.worlds import trace_to_the_bank
from tests.graphs.toy import ToyWorld

PROBE_MS = 500
PROBED_S = 20
BROKEN = 0.6  # of the requests, once something is wrong
EACH_S = int(40 * BROKEN)  # failures a second; a service of the toy world gets 40 requests
FAILED = {"service": "payments", "version": "v1", "instance": "payments-x", "outcome": "error"}


@dataclass(frozen=True)
class Listed:
    """A change history as written down."""

    changes: Sequence[Change]

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        return [c for c in self.changes if start_ms <= c.at_ms < end_ms]


@dataclass(frozen=True)
class Past:
    """Somebody did this to payments so many seconds before the diagnosis."""

    ago_s: int
    from_version: str
    to_version: str
    kind: str = "deploy"
    weight_bp: int = 2_000


def payments_breaks(
    past: Sequence[Past],
    *,
    since_s: int,
    in_the_bank: bool = True,
    probed: float | None = 1.0 - BROKEN,
    well_s: int = 300,
    recovered_s: int = 0,
) -> Case:
    """Payments serves v1 alone and fails for `since_s` seconds, after `well_s` of health.

    It fails by itself or in its calls to the bank; `probed` is the share of probes that the bank
    answers since then (None: nobody probes it), and all of them before. After that it is well for
    `recovered_s` seconds.
    """
    toy_start = make_case(deploy=False).toy.clock.at_ms
    now_ms = toy_start + (well_s + since_s + recovered_s) * 1000
    changes = [_change(number, p, now_ms) for number, p in enumerate(past)]

    def change(world: World) -> World:
        return replace(world, changes=Listed(changes))

    case = make_case(deploy=False, change=change)
    toy = case.toy
    toy.run(well_s)
    _fail(toy, since_s, in_the_bank=in_the_bank)
    ended_ms = toy.clock.at_ms
    _recover(toy, recovered_s, float(EACH_S * since_s))
    if probed is not None:
        _probe(toy, ended_ms - since_s * 1000, ended_ms, probed)
    event = replace(case.brief.event, service="payments", at_ms=now_ms)
    case.brief = replace(case.brief, event=event, now_ms=now_ms, severity=Severity.SEV1)
    return case


def _change(number: int, past: Past, now_ms: int) -> Change:
    return Change(
        f"chg-{number}",
        now_ms - past.ago_s * 1000,
        past.kind,
        "payments",
        "",
        int(past.from_version[1:]),
        int(past.to_version[1:]),
        past.from_version,
        past.to_version,
        f"d-{past.from_version}",
        f"d-{past.to_version}",
        past.weight_bp,
        "dana",
    )


def _fail(toy: ToyWorld, since_s: int, *, in_the_bank: bool) -> None:
    toy.store.append("http_requests_total", FAILED, toy.clock.at_ms, 0.0)
    for second in range(since_s):
        toy.run(1)
        at_ms = toy.clock.at_ms
        toy.store.append("http_requests_total", FAILED, at_ms, float(EACH_S * (second + 1)))
        for n in range(EACH_S):
            trace = trace_to_the_bank(f"{second:016x}{n:016x}", at_ms - 1000 + n * 1000 // EACH_S)
            toy.spans_seen.extend(trace if in_the_bank else trace[:-1])


def _recover(toy: ToyWorld, seconds: int, failed: float) -> None:
    """No failure more: the count of them stands still."""
    for _ in range(seconds):
        toy.run(1)
        toy.store.append("http_requests_total", FAILED, toy.clock.at_ms, failed)


def _probe(toy: ToyWorld, broke_ms: int, ended_ms: int, answering: float) -> None:
    """A probe each half second; of those in the outage the share that is answered, spread
    evenly.
    """
    now_ms = toy.clock.at_ms
    owed = 0.0
    for at_ms in range(broke_ms - PROBED_S * 1000, now_ms + 1, PROBE_MS):
        is_answered = True
        if broke_ms < at_ms <= ended_ms:
            owed += answering
            is_answered = owed >= 1.0
            owed -= float(is_answered)
        toy.store.append("probe_success", {"dependency": "bank"}, at_ms, float(is_answered))
