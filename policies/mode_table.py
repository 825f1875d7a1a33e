"""The modes in force, place by place: what the files bind, how far they let an approval widen, and
what holds now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loop4.domain import Json, Mode, ToolClass
from loop4.policies.catalogue import Catalogue
from loop4.policies.policy import Policy

CLASSES = (ToolClass.WRITE, ToolClass.NOTIFY)


@dataclass(frozen=True, slots=True)
class ModeLine:
    """One environment, or one service in it that stands out, and one class of action.

    `is_set`: people have set something that speaks about it.
    """

    environment: str
    service: str
    tool_class: ToolClass
    mode: Mode
    bound: Mode
    ceiling: Mode
    is_set: bool

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "environment": self.environment,
            "service": self.service,
            "class": self.tool_class.value,
            "mode": self.mode.value,
            "files": self.bound.value,
            "ceiling": self.ceiling.value,
            "set": self.is_set,
        }


def mode_lines(policy: Policy, catalogue: Catalogue) -> tuple[ModeLine, ...]:
    """Every environment that services, bindings or settings name, by name and class.

    A service has a line of its own where something else holds for it than for its environment.
    """
    return tuple(_lines(policy, catalogue))


def environments_of(policy: Policy, catalogue: Catalogue) -> tuple[str, ...]:
    """The environments that services, bindings or settings name."""
    found = {service.environment for service in catalogue.services}
    found |= {s.environment for s in policy.settings if s.environment}
    for binding in policy.bindings:
        found |= binding.environments or frozenset()
    return tuple(sorted(found))


def _lines(policy: Policy, catalogue: Catalogue) -> Iterator[ModeLine]:
    for environment in environments_of(policy, catalogue):
        known = {s.name for s in catalogue.services if s.environment == environment}
        named = known | {
            s.service for s in policy.settings if s.environment == environment and s.service
        }
        for tool_class in CLASSES:
            every = _line(policy, environment, "", tool_class)
            yield every
            for service in sorted(named):
                own = _line(policy, environment, service, tool_class)
                if _holds(own) != _holds(every):
                    yield own


def _line(policy: Policy, environment: str, service: str, tool_class: ToolClass) -> ModeLine:
    return ModeLine(
        environment=environment,
        service=service,
        tool_class=tool_class,
        mode=policy.mode_for(tool_class, environment, service),
        bound=policy.bound_mode(tool_class, environment, service),
        ceiling=policy.ceiling(tool_class, environment, service),
        is_set=any(
            s.tool_class is tool_class
            and s.environment in ("", environment)
            and s.service in ("", service)
            for s in policy.settings
        ),
    )


def _holds(line: ModeLine) -> tuple[Mode, Mode, Mode, bool]:
    return line.mode, line.bound, line.ceiling, line.is_set
