"""What a tool is: `@observe` makes a read tool, `@act` a frozen specification that nobody can call.

An `ActTool` has no `__call__`: calling it is a TypeError. Its implementation is kept here under its
name and handed out to `tools.executors` alone, which demands a permit first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loop4.domain import Action, Outcome, SourceKind
from loop4.tools.backends.ports import FileSystem, WorkloadsReader, WorkloadsWriter


@dataclass(frozen=True, slots=True)
class Hands:
    """The acting identity's handles. Only executors hold one; a missing handle is None."""

    workloads: WorkloadsWriter | None = None
    inventory: WorkloadsReader | None = None
    files: FileSystem | None = None


Implementation = Callable[[Hands, Action], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a target shows when it is asked after a crash.

    `mark` is True when our own mark for this action is on it, `state` is the digest of its desired
    state for the comparison with the recorded precondition, and `answered` is False for a target
    that cannot be asked.
    """

    answered: bool
    mark: bool = False
    state: str = ""


ProbeTarget = Callable[[Hands, Action], Awaitable[Probe]]


@dataclass(frozen=True, slots=True)
class ActTool:
    """The specification of an acting tool: a value, not a function."""

    name: str
    effect: str
    reversible: bool


@dataclass(frozen=True, slots=True)
class ObserveTool:
    """The specification of a read tool and the kind of evidence it yields."""

    name: str
    source: SourceKind


_IMPLEMENTATIONS: dict[str, tuple[Implementation, ProbeTarget]] = {}


def act(
    name: str, *, effect: str, reversible: bool, probe: ProbeTarget
) -> Callable[[Implementation], ActTool]:
    """Turn a coroutine function into an `ActTool`; the function itself goes out of reach.

    `probe` asks the target what happened, for the reconcile rules after a crash.
    """

    def keep(implementation: Implementation) -> ActTool:
        if name in _IMPLEMENTATIONS:
            raise ValueError(f"tool {name!r} is implemented twice")
        _IMPLEMENTATIONS[name] = (implementation, probe)
        return ActTool(name, effect, reversible)

    return keep


def implementations() -> Mapping[str, tuple[Implementation, ProbeTarget]]:
    """Everything that can act, by tool name. For `tools.executors` alone (a test holds that)."""
    return MappingProxyType(_IMPLEMENTATIONS)
