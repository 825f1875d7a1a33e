"""Facts from the ledger: what was restarted, what failed, who was paged, what passed in staging."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop4.domain import (
    Action,
    Fact,
    FactScalar,
    Incident,
    IntentState,
    Json,
    JsonObject,
    Outcome,
    Reading,
    Severity,
)
from loop4.ledger import evidence, intents
from loop4.ledger.ledger import Ledger
from loop4.policies.catalogue import shipped_catalogue
from loop4.policies.load import load_policy
from loop4.policies.policy import Policy
from loop4.tools.backends.ports import World
from loop4.tools.facts import records
from loop4.tools.facts.sources import Candidate, FactSources, Provider

NOW_MS = 1_790_000_000_000
MINUTE_MS = 60_000
INCIDENT = Incident("INC-2026-001", "lab/orders", "orders", "lab", Severity.SEV2, "open", NOW_MS)
PAGE = "work/incidents/INC-2026-001/page-01.md"
ASKED = Action(
    "asked",
    INCIDENT.incident_id,
    "workloads.restart",
    "orders-1",
    "orders",
    "lab",
    {},
    "",
    "r",
    "r",
)


PAGED = replace(ASKED, tool="oncall.page", arguments={"path": PAGE})


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


@pytest.fixture
def sources(tmp_path: Path, policy: Policy) -> Iterator[FactSources]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield FactSources(
            World(), ledger, policy, shipped_catalogue(), (), (), INCIDENT, NOW_MS, True
        )


def value(provider: Provider, sources: FactSources, action: Action = ASKED) -> FactScalar:
    async def ask() -> Fact | None:
        return await provider(sources, Candidate(action))

    fact = asyncio.run(ask())
    assert fact is not None
    assert (fact.at_ms, fact.source) == (sources.now_ms, "ledger")
    return fact.value


def acted(
    sources: FactSources,
    name: str,
    *,
    ago_ms: int = 0,
    ended: IntentState = IntentState.DONE,
    verified: Reading | None = None,
    like: Action = ASKED,
) -> None:
    """Write an intent and, unless it is still intended, how it ended."""
    action = replace(like, action_id=name)
    at_ms = NOW_MS - ago_ms
    with sources.ledger.transaction() as tx:
        assert intents.intend(
            tx,
            action,
            action_digest=name,
            policy_version="p",
            approval_id="",
            permit_nonce=name,
            precondition={},
            fence=1,
            run_id="run-1",
            now_ms=at_ms,
        )
        if ended is not IntentState.INTENDED:
            intents.settle(tx, name, Outcome(ended, "-"), fence=1, now_ms=at_ms)
        if verified is not None:
            intents.set_verified(tx, name, verified, now_ms=at_ms)


def test_an_empty_ledger_counts_nothing(sources: FactSources) -> None:
    for provider in (records.restarts_1h, records.failed_remediations, records.pages_15m):
        assert value(provider, sources) == 0
    assert value(records.page_repeat, sources) is False
    assert value(records.staging_passed, sources) is False


def test_restarts_in_flight_count_and_failed_ones_do_not(sources: FactSources) -> None:
    for state in IntentState:
        acted(sources, f"a-{state.value}", ended=state)
    assert value(records.restarts_1h, sources) == len(IntentState) - 1


@pytest.mark.parametrize(("ago_ms", "count"), [(60 * MINUTE_MS, 1), (60 * MINUTE_MS + 1, 0)])
def test_restarts_count_for_an_hour(sources: FactSources, ago_ms: int, count: int) -> None:
    acted(sources, "a1", ago_ms=ago_ms)
    assert value(records.restarts_1h, sources) == count


def test_restarts_of_all_replicas_of_the_service_count_whatever_the_incident(
    sources: FactSources,
) -> None:
    acted(sources, "a1", like=replace(ASKED, target="orders-2"))
    acted(sources, "a2", like=replace(ASKED, incident_id="INC-2026-002"))
    acted(sources, "a3", like=replace(ASKED, service="gateway", target="gateway-1"))
    acted(sources, "a4", like=replace(ASKED, tool="deployments.roll_back"))
    assert value(records.restarts_1h, sources) == 2


def test_an_action_does_not_count_against_itself(sources: FactSources) -> None:
    acted(sources, ASKED.action_id, ended=IntentState.INTENDED)
    assert value(records.restarts_1h, sources) == 0
    acted(sources, "page", like=PAGED)
    page = replace(PAGED, action_id="page")
    assert value(records.pages_15m, sources, page) == 0
    assert value(records.page_repeat, sources, page) is False


@pytest.mark.parametrize(
    ("ended", "verified", "count"),
    [
        (IntentState.DONE, None, 0),
        (IntentState.DONE, Reading.PASS, 0),
        (IntentState.DONE, Reading.NO_DATA, 0),
        (IntentState.DONE, Reading.FAIL, 1),
        (IntentState.FAILED, None, 1),
        (IntentState.UNKNOWN, None, 1),
        (IntentState.INTENDED, None, 0),
    ],
)
def test_what_failed_is_unknown_or_did_not_help_is_a_failed_remediation(
    sources: FactSources, ended: IntentState, verified: Reading | None, count: int
) -> None:
    acted(sources, "a1", ended=ended, verified=verified)
    acted(sources, "a2", ended=ended, verified=verified, ago_ms=60 * MINUTE_MS + 1)
    acted(sources, "a3", ended=ended, verified=verified, like=replace(ASKED, target="orders-2"))
    assert value(records.failed_remediations, sources) == count


@pytest.mark.parametrize(("ago_ms", "count"), [(15 * MINUTE_MS, 1), (15 * MINUTE_MS + 1, 0)])
def test_pages_count_for_fifteen_minutes(sources: FactSources, ago_ms: int, count: int) -> None:
    acted(sources, "a1", ago_ms=ago_ms, like=PAGED)
    assert value(records.pages_15m, sources) == count


def test_pages_of_all_incidents_count_and_other_messages_do_not(sources: FactSources) -> None:
    acted(sources, "a1", like=PAGED)
    acted(sources, "a2", like=replace(PAGED, incident_id="INC-2026-002", service="gateway"))
    acted(sources, "a3", like=replace(PAGED, tool="incidents.notify"))
    assert value(records.pages_15m, sources) == 2


@pytest.mark.parametrize(
    ("earlier", "repeated"),
    [
        (PAGED, True),
        (replace(PAGED, arguments={"path": PAGE, "text": "other words"}), True),
        (replace(PAGED, arguments={"path": PAGE.replace("01", "02")}), False),
        (replace(PAGED, tool="incidents.notify"), False),
        (replace(PAGED, incident_id="INC-2026-002"), False),
    ],
)
def test_a_page_repeats_when_this_incident_sent_it_for_this_state_before(
    sources: FactSources, earlier: Action, repeated: bool
) -> None:
    acted(sources, "a1", like=earlier)
    assert value(records.page_repeat, sources, PAGED) is repeated


def passed(sources: FactSources, body: JsonObject, kind: str = "staging_pass") -> None:
    with sources.ledger.transaction() as tx:
        evidence.append(tx, kind, "", "run-1", body, at_ms=NOW_MS)


def experiment(**arguments: Json) -> Action:
    return replace(ASKED, tool="chaos.run", arguments=arguments)


def test_an_experiment_passed_in_staging_when_its_own_digest_did(sources: FactSources) -> None:
    passed(sources, {"experiment_digest": "d1"})
    asked = experiment(experiment="kill-one-replica", digest="d1")
    assert value(records.staging_passed, sources, asked) is True
    other = experiment(experiment="kill-one-replica", digest="d2")
    assert value(records.staging_passed, sources, other) is False


def test_an_experiment_without_a_digest_never_passed(sources: FactSources) -> None:
    passed(sources, {"experiment": "kill-one-replica"})
    passed(sources, {"experiment_digest": None})
    assert value(records.staging_passed, sources, experiment(experiment="x")) is False
    assert value(records.staging_passed, sources, experiment(digest=None)) is False


def test_only_a_record_of_a_staging_pass_is_one(sources: FactSources) -> None:
    passed(sources, {"experiment_digest": "d1"}, kind="finding")
    assert value(records.staging_passed, sources, experiment(digest="d1")) is False
