"""One worker from start to drain: session, engine, API."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loop4.api.access import Access
from loop4.api.app import application
from loop4.api.serving import serve_until, told_to_stop
from loop4.graphs.session import Session
from loop4.heartbeat import Heartbeat
from loop4.ledger.checkpoints import Signing
from loop4.metronome import Metronome
from loop4.policies.fleet_schedule import FleetSchedule
from loop4.service import Service

DRAIN_S = 25


@dataclass(frozen=True, slots=True)
class Post:
    """Where a worker stands: its name, its folders, the engine's database, who hears its beats.

    Without a socket it serves no API. `is_shared`: other workers drive runs of the same ledger.
    `signing`: None if nobody signs the evidence.
    """

    worker: str
    data: Path
    operations: Path
    engine_url: str
    heartbeat_url: str
    listening: socket.socket | None
    is_shared: bool = False
    signing: Signing | None = None


async def stay_on_duty(
    post: Post, session: Session, schedule: FleetSchedule, *, ready: Callable[[], None]
) -> None:
    """Work until SIGTERM or SIGINT, then drain: no new work, legs in hand come to their pause."""
    heartbeat = Heartbeat(post.data, post.worker, post.heartbeat_url)
    service = Service(session, schedule, heartbeat, post.signing)
    if post.is_shared:
        await service.sign_on(post.worker)
    with told_to_stop() as stop:
        renewing_ends = asyncio.Event()
        renewing = asyncio.create_task(service.renew_leases(renewing_ends))
        metronome = Metronome(schedule.duties, session.fleet.clock, service.tick)
        ticking = asyncio.create_task(metronome.keep(stop))
        try:
            await service.start(post.engine_url, post.worker)
            await service.heartbeat.beat(session.fleet.clock.now_ms())
            ready()
            if post.listening is None:
                await stop.wait()
            else:
                access = Access(post.operations / "policies", session.fleet.clock)
                await serve_until(application(service, access), post.listening, stop)
        finally:
            stop.set()
            await service.drain(DRAIN_S)
            renewing_ends.set()
            await renewing
            await ticking
