"""How far the fleet may go: what the files bind, and what people set on top while it runs.

Settings only narrow. One that an approval stands behind may widen, as far as the files' ceiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loop4.domain import Mode, ModeSetting, ToolClass
from loop4.policies.rules import STRICTNESS


def is_wider(one: Mode, other: Mode) -> bool:
    """Whether the first mode lets the fleet do more than the second."""
    return STRICTNESS.index(one) > STRICTNESS.index(other)


def strictest(modes: Iterable[Mode]) -> Mode:
    """The narrowest of the modes; `observe` for none."""
    return min(modes, key=STRICTNESS.index, default=Mode.OBSERVE)


def covers(setting: ModeSetting, tool_class: ToolClass, environment: str, service: str) -> bool:
    """Whether the setting speaks about such an action."""
    return (
        setting.tool_class is tool_class
        and setting.environment in ("", environment)
        and setting.service in ("", service)
    )


def in_force(bound: Mode, ceiling: Mode, settings: Sequence[ModeSetting]) -> Mode:
    """The mode that holds, from what the files bind, their ceiling, and the settings that cover.

    Of several settings the strictest holds. One that is wider than the files and that nobody
    approved counts as what the files say.
    """
    if not settings:
        return bound
    found = [s.mode if s.is_approved or not is_wider(s.mode, bound) else bound for s in settings]
    return strictest([*found, ceiling])
