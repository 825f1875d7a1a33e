"""Every fact and who computes it. A fact that is not listed here cannot be computed, and is a
denial.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from loop4.domain import Fact, FactScalar
from loop4.errors import BackendError, QueryError
from loop4.tools.facts import artefacts, duty, impact, records, traffic
from loop4.tools.facts.sources import Candidate, FactSources, Provider, is_below_work

FLAP_LIMIT = 2


def _catalogue(name: str) -> Provider:
    async def provide(sources: FactSources, candidate: Candidate) -> Fact | None:
        service = sources.catalogue.service(candidate.action.service)
        if service is None:
            return None
        values: dict[str, FactScalar] = {
            "environment": service.environment,
            "tier": service.tier,
            "restart_budget_1h": service.restart_budget_1h,
            "replicas_min": service.replicas_min,
            "replicas_max": service.replicas_max,
        }
        return Fact(values[name], sources.now_ms, "catalogue")

    return provide


async def _service_known(sources: FactSources, candidate: Candidate) -> Fact | None:
    known = sources.catalogue.service(candidate.action.service) is not None
    return Fact(known, sources.now_ms, "catalogue")


async def _runbook_match(sources: FactSources, candidate: Candidate) -> Fact | None:
    """`typed` when the named runbook is loaded and has this very tool as a typed step."""
    runbook = next((r for r in sources.runbooks if r.name == candidate.runbook), None)
    typed = runbook is not None and candidate.action.tool in {s.tool for s in runbook.steps}
    return Fact("typed" if typed else "none", sources.now_ms, "runbooks")


async def _forward_change(sources: FactSources, candidate: Candidate) -> Fact | None:
    declared = sources.policy.tools.get(candidate.action.tool)
    return (
        None if declared is None else Fact(declared.is_forward, sources.now_ms, "tool declaration")
    )


async def _path_in_work(sources: FactSources, candidate: Candidate) -> Fact | None:
    path = candidate.action.arguments.get("path")
    return Fact(isinstance(path, str) and is_below_work(path), sources.now_ms, "arguments")


async def _replicas_after(sources: FactSources, candidate: Candidate) -> Fact | None:
    replicas = candidate.action.arguments.get("replicas")
    return Fact(replicas, sources.now_ms, "arguments") if type(replicas) is int else None


async def _incident_open(sources: FactSources, candidate: Candidate) -> Fact | None:
    return Fact(sources.incident.state != "resolved", sources.now_ms, "ledger")


def _of_sources(name: str) -> Provider:
    async def provide(sources: FactSources, candidate: Candidate) -> Fact | None:
        values: dict[str, FactScalar] = {
            "severity": sources.incident.severity.value,
            "requester_kind": candidate.action.requester_kind.value,
            "context_complete": sources.context_complete,
            "flap_limit": FLAP_LIMIT,
            "within_rollout_plan": False,  # no rollout plan is on record
        }
        return Fact(values[name], sources.now_ms, "fleet")

    return provide


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        **{
            name: _catalogue(name)
            for name in ("environment", "tier", "restart_budget_1h", "replicas_min", "replicas_max")
        },
        **{
            name: _of_sources(name)
            for name in (
                "severity",
                "requester_kind",
                "context_complete",
                "flap_limit",
                "within_rollout_plan",
            )
        },
        "fleet_paused": duty.fleet_paused,
        "deploy_frozen": duty.deploy_frozen,
        "in_maintenance": duty.in_maintenance,
        "page_budget_24h": duty.page_budget_24h,
        "service_known": _service_known,
        "runbook_match": _runbook_match,
        "forward_change": _forward_change,
        "path_in_work": _path_in_work,
        "replicas_after": _replicas_after,
        "incident_open": _incident_open,
        "traffic_share_bp": traffic.traffic_share_bp,
        "known_good": artefacts.known_good,
        "customer_impact_bp": impact.customer_impact,
        "restarts_1h": records.restarts_1h,
        "failed_remediations": records.failed_remediations,
        "evidence_sources": records.evidence_sources,
        "pages_15m": records.pages_15m,
        "pages_24h": records.pages_24h,
        "page_repeat": records.page_repeat,
        "staging_passed": records.staging_passed,
    }
)


async def facts_for(sources: FactSources, candidate: Candidate) -> dict[str, Fact]:
    """The facts that the action's tool declares, in name order; those that cannot be computed are
    absent.
    """
    declared = sources.policy.tools.get(candidate.action.tool)
    facts: dict[str, Fact] = {}
    for name in sorted(declared.facts) if declared is not None else ():
        provider = PROVIDERS.get(name)
        try:
            fact = await provider(sources, candidate) if provider is not None else None
        except (BackendError, QueryError):
            fact = None
        if fact is not None:
            facts[name] = fact
    return facts
