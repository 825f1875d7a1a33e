"""The wall clock, the one place of the lab that reads the time of day."""

from __future__ import annotations

import time


class WallClock:
    """Milliseconds since the epoch, from the operating system."""

    def now_ms(self) -> int:
        """The present moment, UTC."""
        return time.time_ns() // 1_000_000
