"""The import of a repository: everything it says, in one report. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop4.policies.organisation.claims import Claim, Unmapped, read_page, variables_of
from loop4.policies.organisation.exceptions import Granted, read_exception
from loop4.policies.organisation.files import Fault, read_repository
from loop4.policies.organisation.markdown import parse_page
from loop4.policies.organisation.reconcile import Limit, reconcile
from loop4.policies.organisation.vocabulary import KINDS
from loop4.policies.policy import Policy
from loop4.policies.severity import SeverityPolicy


@dataclass(frozen=True, slots=True)
class Import:
    """What a repository says: limits with what holds, what is not enforced, what is wrong.

    `files` maps each policy that was read to its version line, empty if it has none.
    """

    root: str
    files: tuple[tuple[str, str], ...]
    limits: tuple[Limit, ...]
    unmapped: tuple[Unmapped, ...]
    exceptions: tuple[Granted, ...]
    faults: tuple[Fault, ...]

    @property
    def conflicts(self) -> tuple[Limit, ...]:
        """Limits for which two places name different numbers."""
        return tuple(limit for limit in self.limits if limit.is_conflict)

    @property
    def unresolved(self) -> tuple[Limit, ...]:
        """Limits of which a variable is not filled in."""
        return tuple(limit for limit in self.limits if limit.unresolved)

    @property
    def until_ms(self) -> int:
        """When the first honoured exception runs out; 0 without one."""
        return min((e.until_ms for e in self.exceptions if not e.refusal), default=0)


def import_repository(root: Path, policy: Policy, severity: SeverityPolicy, now_ms: int) -> Import:
    """Read the repository against the loaded rules. Raises PolicyError if it holds no policy."""
    repository = read_repository(root)
    variables, faults = variables_of(repository.config)
    found = [*repository.faults, *faults]
    claims: list[Claim] = []
    unmapped: list[Unmapped] = []
    files: list[tuple[str, str]] = []
    for source in repository.policies:
        page = parse_page(source)
        reading = read_page(page, variables)
        files.append((source.path, page.metadata.get("version", "")))
        claims += reading.claims
        unmapped += reading.unmapped
        found += reading.faults
    exceptions = tuple(read_exception(source, now_ms) for source in repository.exceptions)
    return Import(
        root=str(root),
        files=tuple(files),
        limits=reconcile([_relaxed(c, exceptions) for c in claims], policy, severity),
        unmapped=tuple(unmapped),
        exceptions=exceptions,
        faults=tuple(found),
    )


def _relaxed(claim: Claim, exceptions: tuple[Granted, ...]) -> Claim:
    """The claim under an honoured exception: its number, where that is looser. Never resolves a
    variable.
    """
    kind = KINDS.get(claim.key)
    if kind is None or claim.unresolved:
        return claim
    value, text = claim.value, claim.text
    for granted in exceptions:
        if granted.refusal or granted.key != claim.key:
            continue
        is_looser = granted.value > value if kind.stricter == "lower" else granted.value < value
        if is_looser:
            value, text = granted.value, f"{granted.exception_id}: {claim.text}"
    return Claim(claim.key, value, claim.unit, claim.path, claim.line, text, claim.environment)
