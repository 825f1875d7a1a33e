"""What an import found, in lines for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator

from loop4.domain import Json
from loop4.policies.organisation.claims import Claim
from loop4.policies.organisation.importing import Import
from loop4.policies.organisation.limits_file import why
from loop4.policies.organisation.quantities import Unit
from loop4.policies.organisation.reconcile import Limit
from loop4.policies.organisation.vocabulary import KINDS


def amount(value: int, unit: Unit) -> str:
    """A value with its unit; a count stands alone."""
    return str(value) if unit is Unit.COUNT else f"{value} {unit}"


def outcome(limit: Limit) -> str:
    """What holds now and why, in a sentence part."""
    if limit.value is None:
        kind = KINDS.get(limit.key)
        said = "nothing is granted" if kind and kind.is_permission else "no number, nothing is held"
        return f"{said}: " + "; ".join(why(claim) for claim in limit.unresolved)
    if limit.unresolved and limit.winner is None:
        return f"{amount(limit.value, limit.unit)} of Loop4 stays: a variable is unresolved"
    if limit.is_looser:
        return f"looser than Loop4's own {amount(limit.value, limit.unit)}, which holds"
    said = f"{amount(limit.value, limit.unit)} holds"
    return said if limit.held_by else f"{said} on paper; not enforced by Loop4"


def lines(found: Import) -> Iterator[str]:
    """The report: mapping, conflicts, unresolved, exceptions, not enforced, and what is wrong."""
    bids = sum(len(limit.claims) for limit in found.limits)
    yield (
        f"{len(found.files)} policies read, {bids} numbers for {len(found.limits)} limits, "
        f"{len(found.conflicts)} conflicts, {len(found.unresolved)} unresolved, "
        f"{len(found.unmapped)} requirements not enforced"
    )
    yield ""
    yield "MAPPING"
    for limit in found.limits:
        yield f"  {_name(limit)}: {outcome(limit)}"
        for claim in limit.claims:
            said = "unresolved" if claim.unresolved else amount(claim.value, claim.unit)
            yield f"    {claim.place}: {said}"
        if limit.held_by and limit.winner is not None:
            yield f"    held by {limit.held_by}"
    yield from _section("CONFLICTS", [_conflict(limit) for limit in found.conflicts])
    yield from _section(
        "UNRESOLVED (grants nothing)",
        [f"{_name(limit)}: {why(c)}" for limit in found.unresolved for c in limit.unresolved],
    )
    yield from _section(
        "EXCEPTIONS",
        [
            f"{e.exception_id} ({e.path}): "
            + (f"not honoured: {e.refusal}" if e.refusal else f"honoured for {e.key}")
            for e in found.exceptions
        ],
    )
    yield from _section(
        "NOT ENFORCED BY LOOP4 (nothing was taken from these lines)",
        [f"{item.path}:{item.line}: {item.text}" for item in found.unmapped],
    )
    yield from _section("NOT READ", [f"{fault.place}: {fault.message}" for fault in found.faults])


def _section(title: str, rows: list[str]) -> Iterator[str]:
    if rows:
        yield ""
        yield title
        for row in rows:
            yield f"  {row}"


def _name(limit: Limit) -> str:
    return f"{limit.key} in {limit.environment}" if limit.environment else limit.key


def _conflict(limit: Limit) -> str:
    bids = ", ".join(f"{c.place} says {amount(c.value, c.unit)}" for c in _resolved(limit))
    if limit.value is None:
        return f"{_name(limit)}: {bids}; nothing is granted while a variable is unresolved"
    return f"{_name(limit)}: {bids}; {amount(limit.value, limit.unit)} holds, the stricter"


def _resolved(limit: Limit) -> list[Claim]:
    return [claim for claim in limit.claims if not claim.unresolved]


def to_json(found: Import) -> Json:
    """The same as JSON."""
    return {
        "root": found.root,
        "policies": [{"path": path, "version": version} for path, version in found.files],
        "limits": [_limit_json(limit) for limit in found.limits],
        "conflicts": [_name(limit) for limit in found.conflicts],
        "unresolved": [
            {"limit": _name(limit), "place": c.place, "why": why(c)}
            for limit in found.unresolved
            for c in limit.unresolved
        ],
        "exceptions": [
            {
                "id": e.exception_id,
                "path": e.path,
                "limit": e.key,
                "honoured": not e.refusal,
                "reason": e.refusal,
                "until_ms": e.until_ms,
            }
            for e in found.exceptions
        ],
        "not_enforced": [{"path": u.path, "line": u.line, "text": u.text} for u in found.unmapped],
        "not_read": [{"path": f.path, "line": f.line, "message": f.message} for f in found.faults],
    }


def _limit_json(limit: Limit) -> Json:
    return {
        "limit": limit.key,
        "environment": limit.environment,
        "unit": limit.unit.value,
        "holds": limit.value,
        "own": limit.own,
        "outcome": outcome(limit),
        "held_by": limit.held_by,
        "winner": limit.winner.place if limit.winner else "",
        "claims": [
            {
                "path": c.path,
                "line": c.line,
                "value": None if c.unresolved else c.value,
                "unit": c.unit.value,
                "unresolved": list(c.unresolved),
                "text": c.text,
            }
            for c in limit.claims
        ],
    }
