"""What an investigation has read so far: evidence ids by kind, and the gaps."""

from __future__ import annotations

from typing import TypeVar

from loop4.domain import SourceKind
from loop4.tools.reader import NOTHING, Read

T = TypeVar("T")


class Notebook:
    """Collects evidence ids of answered reads and the gaps."""

    def __init__(self) -> None:
        self.evidence: dict[SourceKind, tuple[str, ...]] = {}
        self.missing: list[str] = []

    def note(self, read: Read[T], *, quiet: bool = False) -> None:
        """Keep the id of an answered read, or what was missing; `quiet`: no answer is no gap."""
        if read.value is not None:
            held = self.evidence.get(read.source, ())
            if read.evidence not in held:
                self.evidence[read.source] = (*held, read.evidence)
        elif not (quiet and read.missing.endswith(NOTHING)):
            gap = read.denied or read.missing
            if gap and gap not in self.missing:
                self.missing.append(gap)
