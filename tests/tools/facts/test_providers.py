"""Every declared fact has who computes it, and what cannot be computed is absent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Action, Fact, Incident, Json, RequesterKind, Severity, ToolClass
from loop4.errors import PolicyError, QueryError, Unreachable
from loop4.ledger import parameters
from loop4.ledger.ledger import Ledger
from loop4.policies.calendar import PAGES_PER_DAY, Calendar, Window
from loop4.policies.catalogue import load_catalogue
from loop4.policies.load import load_policy
from loop4.policies.openslo import load_targets
from loop4.policies.runbooks import load_runbooks
from loop4.tools.backends.ports import Series, World
from loop4.tools.facts.impact import customer_impact_bp
from loop4.tools.facts.providers import FLAP_LIMIT, PROVIDERS, facts_for
from loop4.tools.facts.sources import Candidate, FactSources, is_below_work
from tests.graphs.toy import START_MS, ToyWorld

POLICY = load_policy()
INCIDENT = Incident("INC-2026-001", "lab/orders", "orders", "lab", Severity.SEV2, "open", START_MS)
BY_OTHER_PARTS = {"cost_ratio_bp", "vulnerability_affected"}  # no part computes them yet
BY_THE_CHANGE = {"mode_before", "mode_after", "within_ceiling"}  # computed where modes are changed
BY_THE_READER = {"in_scope", "range_s", "secret_source"}  # facts of reads, computed at the read


@pytest.fixture(scope="module")
def toy() -> ToyWorld:
    """A minute of v1, then ten seconds of v1 and v2."""
    toy = ToyWorld()
    toy.run(70)
    toy.deploy()
    toy.run(10)
    return toy


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, toy: ToyWorld) -> Iterator[FactSources]:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with Ledger.open(path) as ledger, as_file(files("loop4.lab") / "operations") as folder:
        policies = folder / "policies"
        yield FactSources(
            world=toy.world(),
            ledger=ledger,
            policy=POLICY,
            catalogue=load_catalogue(policies / "services.yaml"),
            targets=load_targets(policies / "targets"),
            runbooks=load_runbooks(policies / "runbooks", tools=set(POLICY.tools)),
            incident=INCIDENT,
            now_ms=toy.clock.now_ms(),
            context_complete=True,
        )


def action(tool: str = "deployments.roll_back", **arguments: Json) -> Action:
    given = arguments or {"service": "orders", "to_revision": 41}
    target = str(given.get("instance", "orders"))
    return Action(
        "a1", INCIDENT.incident_id, tool, target, "orders", "lab", given, "", "r", "remediation"
    )


def facts(sources: FactSources, of: Action | None = None, *, runbook: str = "") -> dict[str, Fact]:
    asked = Candidate(of if of is not None else action(), runbook=runbook)
    return asyncio.run(facts_for(sources, asked))


def test_every_fact_of_an_acting_tool_has_a_provider_or_is_known_to_have_none() -> None:
    declared = {
        name
        for tool in POLICY.tools.values()
        if tool.tool_class is not ToolClass.READ
        for name in tool.facts
    }
    assert declared - set(PROVIDERS) == BY_OTHER_PARTS | BY_THE_CHANGE
    assert not BY_THE_READER & set(PROVIDERS)


def test_every_provider_computes_a_fact_that_the_schema_knows() -> None:
    assert set(PROVIDERS) <= set(POLICY.facts)


def test_the_facts_of_a_roll_back_are_those_of_its_tool_in_name_order(
    sources: FactSources,
) -> None:
    found = facts(sources)
    assert list(found) == sorted(POLICY.tools["deployments.roll_back"].facts)
    shown = {name: fact.value for name, fact in found.items()}
    assert shown == {
        "context_complete": True,
        "deploy_frozen": False,
        "environment": "lab",
        "evidence_sources": 0,
        "failed_remediations": 0,
        "flap_limit": FLAP_LIMIT,
        "fleet_paused": False,
        "forward_change": False,
        "known_good": True,
        "requester_kind": "agent",
        "runbook_match": "none",
        "service_known": True,
        "tier": 1,
        "traffic_share_bp": 5_000,
    }


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("deployments.roll_back", {"service": "orders", "to_revision": 41}),
        ("workloads.restart", {"instance": "orders-v1", "restarted_at_ms": START_MS}),
        ("workloads.scale", {"service": "orders", "replicas": 3}),
        ("oncall.page", {"path": "work/incidents/INC-2026-001/page-01.md"}),
        ("chaos.run", {"experiment": "kill-one-replica", "digest": "d1"}),
    ],
)
def test_every_computed_value_has_the_type_and_range_of_the_schema(
    sources: FactSources, tool: str, arguments: dict[str, Json]
) -> None:
    found = facts(sources, action(tool, **arguments))
    assert set(found) == set(POLICY.tools[tool].facts)
    for name, fact in found.items():
        assert POLICY.facts[name].fault(found, sources.now_ms) == ""
        assert fact.source


def test_a_tool_that_nobody_declared_has_no_facts(sources: FactSources) -> None:
    assert facts(sources, action("code.rewrite")) == {}


def test_a_service_that_the_catalogue_does_not_know_has_no_environment_or_tier(
    sources: FactSources,
) -> None:
    unknown = replace(action(), service="ledger", target="ledger")
    found = facts(sources, unknown)
    assert found["service_known"].value is False
    assert not {"environment", "tier", "traffic_share_bp"} & set(found)


@pytest.mark.parametrize(
    ("tool", "runbook", "match"),
    [
        ("deployments.roll_back", "bad-deploy-rollback", "typed"),
        ("deployments.roll_back", "replica-crash-loop", "none"),
        ("deployments.roll_back", "bad-deploy", "none"),
        ("deployments.roll_back", "", "none"),
        ("workloads.restart", "replica-crash-loop", "typed"),
    ],
)
def test_a_runbook_matches_when_it_is_loaded_and_has_this_tool_as_a_step(
    sources: FactSources, tool: str, runbook: str, match: str
) -> None:
    assert facts(sources, action(tool), runbook=runbook)["runbook_match"].value == match


def test_only_a_forward_tool_is_a_forward_change(sources: FactSources) -> None:
    deploy = action("deployments.deploy", service="orders", digest="d41", weight_bp=5_000)
    assert facts(sources, deploy)["forward_change"].value is True
    assert facts(sources)["forward_change"].value is False


def test_context_and_requester_are_passed_on(sources: FactSources) -> None:
    other = replace(sources, context_complete=False)
    found = facts(other, replace(action(), requester_kind=RequesterKind.PERSON))
    assert [found[n].value for n in ("context_complete", "requester_kind")] == [False, "person"]


def test_a_pause_holds_from_the_next_decision_on_and_ends_by_itself(sources: FactSources) -> None:
    now_ms = sources.now_ms
    assert facts(sources)["fleet_paused"].value is False
    with sources.ledger.transaction() as tx:
        parameters.put(
            tx, "paused", "yes", by="mira", reason="r", now_ms=now_ms, until_ms=now_ms + 5
        )
    assert facts(sources)["fleet_paused"].value is True
    assert facts(replace(sources, now_ms=now_ms + 4))["fleet_paused"].value is True
    assert facts(replace(sources, now_ms=now_ms + 5))["fleet_paused"].value is False


def test_a_freeze_is_of_its_environment_service_and_time(sources: FactSources) -> None:
    here, service, now_ms = action().environment, action().service, sources.now_ms

    def frozen(window: Window) -> object:
        other = replace(sources, calendar=lambda: Calendar(freezes=(window,)))
        return facts(other)["deploy_frozen"].value

    assert frozen(Window("all", now_ms, now_ms + 1)) is True
    assert frozen(Window("past", now_ms - 9, now_ms)) is False
    assert frozen(Window("to come", now_ms + 1, now_ms + 9)) is False
    assert frozen(Window("here", 0, now_ms + 1, frozenset({here}), frozenset({service}))) is True
    assert frozen(Window("elsewhere", 0, now_ms + 1, frozenset({"moon"}))) is False
    assert frozen(Window("other", 0, now_ms + 1, frozenset(), frozenset({"moon"}))) is False


def test_planned_work_and_the_page_budget_are_facts_of_a_page(sources: FactSources) -> None:
    page = action("oncall.page", path="work/incidents/INC-2026-001/page-01.md")
    window = Window("move", sources.now_ms, sources.now_ms + 1)
    planned = Calendar(maintenance=(window,), pages_per_day=7)
    other = replace(sources, calendar=lambda: planned)
    found = facts(other, page)
    assert found["in_maintenance"].value is True
    assert found["page_budget_24h"].value == 7
    assert found["pages_24h"].value == 0
    assert facts(sources, page)["in_maintenance"].value is False


def test_a_calendar_that_cannot_be_read_stops_writes_and_no_page(sources: FactSources) -> None:
    def broken() -> Calendar:
        raise PolicyError("broken", path="calendar.yaml")

    other = replace(sources, calendar=broken)
    assert "deploy_frozen" not in facts(other)
    page = facts(other, action("oncall.page", path="work/incidents/INC-2026-001/page-01.md"))
    assert page["in_maintenance"].value is False
    assert page["page_budget_24h"].value == PAGES_PER_DAY


@pytest.mark.parametrize("replicas", [True, "3", None, 3.0])
def test_a_replica_count_that_is_no_whole_number_is_no_fact(
    sources: FactSources, replicas: Json
) -> None:
    found = facts(sources, action("workloads.scale", service="orders", replicas=replicas))
    assert "replicas_after" not in found


@pytest.mark.parametrize(("state", "is_open"), [("open", True), ("resolved", False)])
def test_an_incident_is_open_until_it_is_resolved(
    sources: FactSources, state: str, is_open: bool
) -> None:
    other = replace(sources, incident=replace(INCIDENT, state=state))
    found = facts(other, action("chaos.run", experiment="x", digest="d1"))
    assert found["incident_open"].value is is_open


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("work/signals/2026-01-01-x.md", True),
        ("work/./x.md", True),
        ("work", False),
        ("work/", False),
        ("policies/rules/x.yaml", False),
        ("worker/x.md", False),
        ("/etc/x.md", False),
        ("work/../policies/x.yaml", False),
        ("../work/x.md", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_a_path_is_in_work_only_when_it_cannot_leave_it(
    sources: FactSources, path: Json, inside: bool
) -> None:
    assert facts(sources, action("oncall.page", path=path))["path_in_work"].value is inside


@given(parts=st.lists(st.sampled_from(["work", "..", ".", "a", "", "b.md"]), max_size=6))
def test_what_counts_as_below_work_really_lies_below_it(parts: list[str]) -> None:
    path = "/".join(parts)
    if is_below_work(path):
        root = Path("/organisation")
        assert (root / "work") in Path(root / path).resolve().parents


@dataclass
class Silent:
    """Metrics that raise, as a back end does that is away or cannot understand."""

    error: Exception

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        raise self.error

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> Sequence[Series]:
        raise self.error


@pytest.mark.parametrize("error", [Unreachable("no answer"), QueryError("no such function")])
def test_a_back_end_that_fails_leaves_its_facts_out_and_the_others_in(
    sources: FactSources, error: Exception
) -> None:
    other = replace(sources, world=replace(sources.world, metrics=Silent(error)))
    lost = set(facts(sources)) - set(facts(other))
    assert lost == {"traffic_share_bp", "known_good"}


def test_without_any_back_end_only_facts_of_ledger_catalogue_and_fleet_are_left(
    sources: FactSources,
) -> None:
    found = facts(replace(sources, world=World()))
    assert set(facts(sources)) - set(found) == {"traffic_share_bp", "known_good"}


def impact(sources: FactSources) -> int | None:
    return asyncio.run(
        customer_impact_bp(
            sources.world.metrics, sources.catalogue, sources.targets, sources.now_ms
        )
    )


def test_the_impact_is_the_failing_share_at_the_edge(sources: FactSources, toy: ToyWorld) -> None:
    found = impact(sources)
    assert found is not None
    assert found == pytest.approx(3_000, abs=30)  # half of the traffic, 60 % of it failing
    well = replace(sources, now_ms=START_MS + 60_000)
    assert impact(well) == 0


def test_without_edge_requests_the_impact_is_not_zero_but_unknown(sources: FactSources) -> None:
    assert impact(replace(sources, world=World())) is None
    assert impact(replace(sources, now_ms=START_MS - 60_000)) is None
    assert impact(replace(sources, targets=())) is None
    inner = [t for t in sources.targets if t.service != "gateway"]
    assert impact(replace(sources, targets=inner)) is None
