"""From a setting to a world: `lab:PATH` for the orchestrated kind, a Prometheus URL for metrics
alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loop4.errors import SettingsError
from loop4.tools.backends.ports import WorkloadsWriter, World


@dataclass(frozen=True, slots=True)
class Connected:
    """A world's read handles, and the acting identity's handle where there is one."""

    world: World
    writer: WorkloadsWriter | None


@asynccontextmanager
async def connected(
    world: str, metrics_url: str, *, acting: bool = True
) -> AsyncIterator[Connected]:
    """Connect to what the settings name; close it again at the end.

    Without `acting` the acting identity's token is not even read, and there is no writer.
    `world` is `lab:PATH` with the path of a connection file; `metrics_url` the base URL of a
    Prometheus. Raises SettingsError when they name nothing usable.
    """
    kind, _, place = world.partition(":")
    if kind == "lab" and place:
        from loop4.tools.backends.lab import LabConnection, LabSystem, LabWriter

        connection = LabConnection.read(Path(place))
        async with LabSystem(connection) as system:
            if not acting:
                yield Connected(system.world, None)
                return
            async with LabWriter(connection) as writer:
                yield Connected(system.world, writer)
    elif world:
        raise SettingsError(
            f"world {world!r}: expected 'lab:PATH' with the path of a connection file"
        )
    elif metrics_url:
        from loop4.tools.backends.prometheus import PrometheusMetrics

        async with PrometheusMetrics(metrics_url) as metrics:
            yield Connected(World(metrics=metrics), None)
    else:
        raise SettingsError(
            "no world is set; set LOOP4_WORLD to 'lab:PATH' or LOOP4_METRICS_URL to a "
            "Prometheus URL"
        )
