"""When changes rest and when work is planned: freezes, maintenance windows, pages a day.

A freeze holds back forward changes only. Planned maintenance keeps pages below SEV1 from people.
Without a file nothing is frozen and nothing is planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop4.policies.documents import Node, file_stamp, read_documents
from loop4.policies.moments import read_moment

PAGES_PER_DAY = 40
_KINDS = ("DutyCalendar",)


@dataclass(frozen=True, slots=True)
class Window:
    """A time from `start_ms` up to, not including, `end_ms`; for these environments and services,
    or for all where none is named.
    """

    name: str
    start_ms: int
    end_ms: int
    environments: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    reason: str = ""

    def holds(self, environment: str, service: str, now_ms: int) -> bool:
        """Whether it is about this service, now."""
        return (
            self.start_ms <= now_ms < self.end_ms
            and (not self.environments or environment in self.environments)
            and (not self.services or service in self.services)
        )


@dataclass(frozen=True, slots=True)
class Calendar:
    """All windows of an organisation."""

    freezes: Sequence[Window] = field(default_factory=tuple)
    maintenance: Sequence[Window] = field(default_factory=tuple)
    pages_per_day: int = PAGES_PER_DAY

    def freeze(self, environment: str, service: str, now_ms: int) -> Window | None:
        """The freeze that holds for a service now."""
        return _first(self.freezes, environment, service, now_ms)

    def planned(self, environment: str, service: str, now_ms: int) -> Window | None:
        """The maintenance that is planned for a service now."""
        return _first(self.maintenance, environment, service, now_ms)


@dataclass(slots=True)
class CalendarFile:
    """The calendar of a file, read again only when that changed, came or went."""

    path: Path
    _calendar: Calendar | None = None
    _stamp: tuple[int, int] = (0, 0)

    def load(self) -> Calendar:
        """The calendar of this moment. Raises PolicyError while it cannot be read."""
        stamp = file_stamp(self.path)
        if self._calendar is None or stamp != self._stamp:
            self._calendar = None
            self._calendar = load_calendar(self.path)
            self._stamp = stamp
        return self._calendar


def load_calendar(path: Path) -> Calendar:
    """Read a calendar file; an empty calendar where there is none.

    Raises PolicyError with file, line and column for what is not as it should be.
    """
    if not path.exists():
        return Calendar()
    freezes: list[Window] = []
    maintenance: list[Window] = []
    pages_per_day = PAGES_PER_DAY
    for document in read_documents(path, _KINDS):
        fields = document.spec.fields((), ("freezes", "maintenance", "pages_per_day"))
        if "pages_per_day" in fields:
            pages_per_day = fields["pages_per_day"].integer(1, 10_000)
        for name, windows in (("freezes", freezes), ("maintenance", maintenance)):
            for node in fields[name].items() if name in fields else ():
                windows.append(_window(node, windows))
    return Calendar(tuple(freezes), tuple(maintenance), pages_per_day)


def _window(node: Node, known: Sequence[Window]) -> Window:
    fields = node.fields(("name", "from", "until"), ("environments", "services", "reason"))
    name = fields["name"].text()
    if any(w.name == name for w in known):
        raise fields["name"].error(f"window {name!r} stands twice")
    start_ms, end_ms = read_moment(fields["from"]), read_moment(fields["until"])
    if end_ms <= start_ms:
        raise fields["until"].error(f"window {name!r} ends before it begins")
    return Window(
        name,
        start_ms,
        end_ms,
        _words(fields.get("environments")),
        _words(fields.get("services")),
        fields["reason"].text() if "reason" in fields else "",
    )


def _words(node: Node | None) -> frozenset[str]:
    return frozenset() if node is None else frozenset(n.text() for n in node.one_or_more())


def _first(windows: Sequence[Window], environment: str, service: str, now_ms: int) -> Window | None:
    return next((w for w in windows if w.holds(environment, service, now_ms)), None)
