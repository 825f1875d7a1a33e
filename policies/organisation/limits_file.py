"""The limits file that an import makes: rules and limits that only tighten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from loop4.domain import Json
from loop4.errors import Loop4Error, UsageError
from loop4.policies.organisation.claims import Claim
from loop4.policies.organisation.importing import Import
from loop4.policies.organisation.quantities import Unit
from loop4.policies.organisation.reconcile import Limit

NAME = "organisation.yaml"
_HEADER = (
    "# Made by `loop4 policy import`. Import again rather than edit: the next import overwrites it."
)
_FORWARD = ["deployments.deploy", "flags.advance"]
_AGENT, _PERSON = 'facts.requester_kind == "agent"', 'facts.requester_kind == "person"'
_ON_CALL: Json = {"role": "on-call", "need": 1, "ttl_s": 900}
_MOST_VOTES = 10


def limits_text(found: Import) -> str:
    """The text of the limits file: valid for `load_policy`, the same for the same import."""
    rules = [rule for limit in found.limits for rule in _rules(limit)]
    limits = _limits(found)
    lines = [_HEADER]
    for kind, name, spec in (
        ("ActionPolicy", "organisation", {"rules": rules} if rules else None),
        ("PolicyLimits", "organisation-limits", limits or None),
    ):
        if spec is not None:
            lines += ["---"] if len(lines) > 1 else []
            lines += ["apiVersion: loop4/v1", f"kind: {kind}"]
            lines.append(f"metadata: {{name: {name}, owner: operations-policy-author}}")
            lines.append("spec:")
            lines += _yaml(spec, 1)
    return "\n".join(lines) + "\n"


def is_empty(found: Import) -> bool:
    """True when nothing that was imported can be held by a file."""
    return not _limits(found) and not any(True for limit in found.limits for _ in _rules(limit))


def write_limits(found: Import, folder: Path) -> Path:
    """Write the limits file into a folder in one step, and return its path.

    Raises UsageError for a folder that is not there, a file of that name that somebody wrote by
    hand, and an import that holds nothing; Loop4Error when the disk refuses. Nothing is left then.
    """
    if not folder.is_dir():
        raise UsageError(f"--out {str(folder)!r}: is not a folder; make it first")
    if is_empty(found):
        raise UsageError(
            f"{found.root}: no number was found that the gate could hold; nothing written"
        )
    path = folder / NAME
    beside = folder / f".{NAME}.part"
    try:
        if path.exists() and not path.read_text(encoding="utf-8").startswith(_HEADER):
            raise UsageError(f"{str(path)!r} was not made by an import; move it away first")
        beside.write_text(limits_text(found), encoding="utf-8")
        os.replace(beside, path)
    except (OSError, UnicodeDecodeError) as error:
        beside.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Loop4Error(f"{str(path)!r} cannot be written: {reason}") from error
    return path


def _rules(limit: Limit) -> Iterator[dict[str, Json]]:
    """The rules that hold one limit; a limit with an unresolved variable gives one that denies."""
    name = "organisation-" + limit.key.removesuffix("_bp").replace("_", "-")
    name += f"-{limit.environment}" if limit.environment else ""
    if limit.value is None:
        yield from _denials(limit, name)
    elif limit.winner is not None:
        places = limit.winner.place.translate({ord("{"): "(", ord("}"): ")"})
        yield from _holding(limit, name, limit.value, places)


def _denials(limit: Limit, name: str) -> Iterator[dict[str, Json]]:
    denied: dict[str, tuple[dict[str, Json], str]] = {
        "traffic_share_bp": ({"class": "write"}, "facts.traffic_share_bp > 0"),
        "restarts_1h": ({"tools": ["workloads.restart"]}, ""),
        "failed_remediations": ({"class": "write"}, f"{_AGENT} && facts.failed_remediations > 0"),
        "evidence_sources": ({"class": "write"}, _AGENT),
        "replicas_min": ({"tools": ["workloads.scale"]}, ""),
        "approval_ttl_s": ({"class": "write"}, ""),
        "approval_need": ({"class": "write"}, ""),
        "production_change_approvals": ({"tools": _FORWARD}, 'facts.environment == "production"'),
        "verify_within_s": ({"tools": _FORWARD}, ""),
        "rollback_p99_ratio_bp": ({"tools": _FORWARD}, ""),
        "rollback_error_increase_bp": ({"tools": _FORWARD}, ""),
        "rollback_health_failures_bp": ({"tools": _FORWARD}, ""),
    }
    if limit.key in denied:
        match, when = denied[limit.key]
        reason = f"no {limit.key} is granted: {'; '.join(map(why, limit.unresolved))}"
        yield _rule(f"{name}-unresolved", _within(match, limit), when, "deny", reason)


def why(claim: Claim) -> str:
    """Why a bid has no number, in words without braces."""
    if claim.unresolved == ("?",):
        return f"{claim.place} holds a number that cannot be read"
    names = ", ".join(claim.unresolved)
    return f"{claim.place} leaves {names} unresolved".translate({ord("{"): "(", ord("}"): ")"})


def _holding(limit: Limit, name: str, value: int, place: str) -> Iterator[dict[str, Json]]:
    write = _within({"class": "write"}, limit)
    limited = f"the organisation's limit is {value} ({place})"
    match limit.key:
        case "traffic_share_bp":
            yield _rule(
                name, write, f"facts.traffic_share_bp > {value}", "require_approval",
                f"touches {{facts.traffic_share_bp}} bp of traffic; {limited}",
            )  # fmt: skip
        case "restarts_1h":
            restart = _within({"tools": ["workloads.restart"]}, limit)
            said = f"{{facts.restarts_1h}} restarts in the last hour; {limited}"
            when = f"facts.restarts_1h >= {value}"
            yield _rule(name, restart, f"{when} && {_AGENT}", "escalate", said)
            person = f"{when} && {_PERSON}"
            yield _rule(f"{name}-by-a-person", restart, person, "require_approval", said)
        case "failed_remediations":
            when = f"{_AGENT} && facts.failed_remediations >= {value}"
            said = f"{{facts.failed_remediations}} remediations of this target failed; {limited}"
            yield _rule(name, write, when, "escalate", said)
        case "evidence_sources":
            said = f"{{facts.evidence_sources}} independent sources; {limited}"
            when = f"{_AGENT} && facts.evidence_sources < {value}"
            yield _rule(name, write, when, "deny", said)
        case "replicas_min":
            scale = _within({"tools": ["workloads.scale"]}, limit)
            said = f"{{facts.replicas_after}} replicas; {limited}"
            yield _rule(name, scale, f"facts.replicas_after < {value}", "deny", said)
        case "production_change_approvals":
            forward: dict[str, Json] = {"tools": _FORWARD, "environment": "production"}
            need = min(value, _MOST_VOTES)
            effect = "require_approval" if value <= _MOST_VOTES else "deny"
            yield _rule(name, forward, "", effect, f"a change in production; {limited}", need)


def _within(match: dict[str, Json], limit: Limit) -> dict[str, Json]:
    return {**match, "environment": limit.environment} if limit.environment else match


def _rule(
    name: str, match: dict[str, Json], when: str, effect: str, reason: str, need: int = 1
) -> dict[str, Json]:
    rule: dict[str, Json] = {"id": name, "match": match}
    if when:
        rule["when"] = when
    rule["effect"] = effect
    if effect == "require_approval":
        rule["approval"] = {"role": "on-call", "need": need, "ttl_s": 900}
    if effect == "escalate":
        rule["escalate"] = {"to": "on-call"}
    rule["reason"] = reason
    return rule


def _limits(found: Import) -> dict[str, Json]:
    spec: dict[str, Json] = {}
    approval: dict[str, Json] = {}
    clocks: dict[str, dict[str, Json]] = {}
    for limit in found.limits:
        if limit.winner is None or limit.value is None or limit.environment:
            continue
        match limit.key.split("."):
            case ["approval_ttl_s"]:
                approval["ttl_s"] = max(1, limit.value)
            case ["approval_need"]:
                approval["need"] = min(_MOST_VOTES, max(1, limit.value))
            case ["verify_within_s"]:
                spec["verify_within_s"] = max(1, limit.value)
            case ["availability_bp"]:
                spec["objective_bp"] = limit.value
            case ["significant_impact_bp"]:
                spec["significant_bp"] = max(1, limit.value)
            case ["clocks", severity, clock]:
                clocks.setdefault(severity, {})[clock] = _duration(limit)
    if approval:
        spec["approval"] = approval
    if clocks:
        spec["clocks"] = clocks
    if found.until_ms:
        spec["until_ms"] = found.until_ms
    return spec


def _duration(limit: Limit) -> str:
    value = limit.value or 0
    if limit.unit is Unit.BUSINESS_DAYS:
        return f"{max(1, value)}bd"
    if value % 3600 == 0 and value:
        return f"{value // 3600}h"
    return f"{max(1, value)}s"


def _yaml(value: Json, depth: int) -> Iterator[str]:
    """The lines of a mapping: one line an entry, lists of mappings as items, scalars as JSON."""
    assert isinstance(value, dict)  # noqa: S101  (a spec)
    for key, entry in value.items():
        if isinstance(entry, list) and entry and isinstance(entry[0], dict):
            yield f"{'  ' * depth}{key}:"
            for item in entry:
                assert isinstance(item, dict)  # noqa: S101  (made above)
                for number, (name, inner) in enumerate(item.items()):
                    lead = "- " if number == 0 else "  "
                    yield f"{'  ' * depth}{lead}{name}: {json.dumps(inner, ensure_ascii=False)}"
        else:
            yield f"{'  ' * depth}{key}: {json.dumps(entry, ensure_ascii=False)}"
