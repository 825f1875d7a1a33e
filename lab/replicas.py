"""The replicas of all services as processes: start, watch, respawn, stop, clean start.

A respawn keeps the replica's local state; only a clean start wipes it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from loop4.domain import Clock
from loop4.lab.local_state import wipe
from loop4.lab.processes import Child, bound_socket, end_all, spawn
from loop4.lab.wire import HttpClient, NoAnswer, NotDelivered

BACKOFF_FIRST_MS = 1000
BACKOFF_MAX_MS = 2000
DRAIN_S = 0.3  # from leaving the routing table to the stop signal
POLL_S = 0.02
GRACE_S = 1.5


@dataclass(slots=True)
class Replica:
    """One replica and its process. `state`: starting | ready | crashed | backoff | stopped.

    `restarts` counts respawns since the last clean start, `respawns_total` all of them. `is_routed`
    False keeps it out of the routing table. `is_held` True: a deliberate stop or start is going on,
    its exit is no crash.
    """

    name: str
    service: str
    revision: int
    version: str
    child: Child | None = None
    port: int = 0
    state: str = "starting"
    restarts: int = 0
    respawns_total: int = 0
    started_ms: int = 0
    respawn_at_ms: int = 0
    restarted_at_ms: int = 0
    mark: str = ""
    ejected: bool = False
    weight_bp: int = 0
    is_routed: bool = True
    is_held: bool = False

    def status(self) -> tuple[str, str, int, bool, int, str]:
        """What an outsider sees change."""
        return self.name, self.state, self.restarts, self.ejected, self.weight_bp, self.mark


class Replicas:
    """All replicas of the lab. Belongs to one event loop."""

    def __init__(self, directory: Path, client: HttpClient, clock: Clock) -> None:
        self._directory = directory
        self._client = client
        self._clock = clock
        self._all: dict[str, Replica] = {}
        self._ordinals: dict[str, int] = {}

    def all(self) -> list[Replica]:
        """Every replica that is not stopped."""
        return list(self._all.values())

    def of(self, service: str, revision: int | None = None) -> list[Replica]:
        """Those of one service, or of one of its revisions."""
        return [
            replica
            for replica in self._all.values()
            if replica.service == service and revision in (None, replica.revision)
        ]

    def find(self, name: str) -> Replica | None:
        """The replica of that name, or None."""
        return self._all.get(name)

    def add(self, service: str, revision: int, version: str) -> Replica:
        """Start one more replica."""
        self._ordinals[service] = self._ordinals.get(service, 0) + 1
        name = f"{service}-{self._ordinals[service]}"
        replica = self._all[name] = Replica(name, service, revision, version)
        self._start(replica)
        return replica

    async def stop(self, replica: Replica) -> None:
        """Take one out of routing, let it finish, end it and forget it."""
        if replica.is_held:
            return
        replica.is_held, replica.is_routed = True, False
        await asyncio.sleep(DRAIN_S)
        await self._end(replica)
        replica.state = "stopped"
        self._all.pop(replica.name, None)

    async def clean_start(self, replica: Replica) -> None:
        """End one, wipe its local state and start it again under the same name."""
        replica.is_held, replica.is_routed = True, False
        if replica.state == "ready":
            await asyncio.sleep(DRAIN_S)
        await self._end(replica)
        wipe(self._directory / "state" / replica.name)
        replica.restarts = 0
        self._start(replica)
        replica.is_held, replica.is_routed = False, True

    async def watch(self) -> None:
        """Notice crashes, respawn what is due, notice readiness. Call a few times a second."""
        now_ms = self._clock.now_ms()
        starting: list[Replica] = []
        for replica in self.all():
            if replica.is_held:
                continue
            if replica.state in ("starting", "ready") and _is_dead(replica):
                self._note_crash(replica, now_ms)
            elif replica.state == "crashed":
                replica.state = "backoff"
            elif replica.state == "backoff" and now_ms >= replica.respawn_at_ms:
                replica.restarts += 1
                replica.respawns_total += 1
                self._start(replica)
            elif replica.state == "starting":
                starting.append(replica)
        if starting:
            await asyncio.gather(*map(self._check_ready, starting))

    def end_all(self) -> None:
        """End every replica and wait."""
        end_all(_children(self._all.values()), grace_s=GRACE_S)

    def _start(self, replica: Replica) -> None:
        bound = bound_socket()
        replica.port = int(bound.getsockname()[1])
        arguments = [
            str(self._directory),
            replica.service,
            replica.name,
            replica.version,
            str(replica.revision),
        ]
        log = self._directory / "logs" / f"{replica.name}.log"
        replica.child = spawn(
            replica.name, "loop4.lab.service", arguments, log=log, sockets={"serve": bound}
        )
        replica.state = "starting"
        replica.started_ms = self._clock.now_ms()

    def _note_crash(self, replica: Replica, now_ms: int) -> None:
        if replica.child is not None:
            replica.child.reap(0)
        self._client.forget(replica.port)
        replica.state = "crashed"
        backoff_ms = min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS + 250 * replica.restarts)
        replica.respawn_at_ms = now_ms + backoff_ms

    async def _check_ready(self, replica: Replica) -> None:
        try:
            reply = await self._client.request("GET", replica.port, "/healthz", timeout_s=0.3)
        except (NotDelivered, NoAnswer):
            return
        if reply.status == 200 and replica.state == "starting":
            replica.state = "ready"

    async def _end(self, replica: Replica) -> None:
        child = replica.child
        if child is None:
            return
        child.signal(signal.SIGTERM)
        for attempt in range(150):
            if child.reap(0):
                break
            if attempt == 75:
                child.signal(signal.SIGKILL)
            await asyncio.sleep(POLL_S)
        self._client.forget(replica.port)
        replica.child = None


def _is_dead(replica: Replica) -> bool:
    return replica.child is None or replica.child.exit_code() is not None


def _children(replicas: Iterable[Replica]) -> list[Child]:
    return [replica.child for replica in replicas if replica.child is not None]
