"""One change of how far the fleet may go, and what it does to every service in its scope. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loop4.domain import Json, Mode, ModeSetting, ToolClass
from loop4.policies.modes import is_wider
from loop4.policies.policy import Policy
from loop4.policies.rules import STRICTNESS

FILES = "files"  # the mode that gives the word back to the policy files


@dataclass(frozen=True, slots=True)
class ModeChange:
    """What is asked for: a mode for one scope.

    `service` "" = every one; `mode` None = as the files say. `services` are those of the
    environment that the catalogue knows.
    """

    environment: str
    service: str
    tool_class: ToolClass
    mode: Mode | None
    services: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """The scope as people write it: `lab/orders write`, `lab write`."""
        place = f"{self.environment}/{self.service}" if self.service else self.environment
        return f"{place} {self.tool_class}"

    def arguments(self, before: Mode) -> dict[str, Json]:
        """As the action carries it."""
        return {
            "environment": self.environment,
            "service": self.service,
            "class": self.tool_class.value,
            "mode": str(self.mode or FILES),
            "before": before.value,
        }


@dataclass(frozen=True, slots=True)
class ModeEffect:
    """The modes of a scope before and after a change.

    `is_wider`: somewhere in the scope the fleet may do more than before; `after` is then the widest
    that is asked for.
    """

    before: Mode
    after: Mode
    is_wider: bool
    is_within_ceiling: bool


def effect_of(policy: Policy, settings: Sequence[ModeSetting], change: ModeChange) -> ModeEffect:
    """What the change would do if it were approved, on top of the other settings.

    A mode above the files' ceiling is a widening too, if one that never comes into force.
    """
    key = change.environment, change.service, change.tool_class
    others = [s for s in settings if (s.environment, s.service, s.tool_class) != key]
    mine = [] if change.mode is None else [ModeSetting(*key, change.mode, is_approved=True)]
    now, then = policy.under(settings), policy.under([*others, *mine])
    where = (change.service,) if change.service else ("", *change.services)
    before, after = (
        [p.mode_for(change.tool_class, change.environment, s) for s in where] for p in (now, then)
    )
    ceiling = policy.ceiling(change.tool_class, change.environment, change.service)
    is_beyond = change.mode is not None and is_wider(change.mode, ceiling)
    wider = [new for old, new in zip(before, after, strict=True) if is_wider(new, old)]
    if not wider and not is_beyond:
        return ModeEffect(before[0], after[0], is_wider=False, is_within_ceiling=True)
    asked = change.mode or max(wider, key=STRICTNESS.index)
    return ModeEffect(before[0], asked, is_wider=True, is_within_ceiling=not is_beyond)
