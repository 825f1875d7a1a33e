"""Collecting numbers: scrape every process of the lab, probe the bank from outside."""

from __future__ import annotations

import asyncio
import json

from loop4.domain import Clock
from loop4.lab.exposition import Exposition
from loop4.lab.topology import BANK
from loop4.lab.wire import HttpClient, NoAnswer, NotDelivered, bearer
from loop4.lab.wiring import Wiring
from loop4.tools.backends.series import SeriesStore, StoredSeries

SCRAPE_S = 0.5
SCRAPE_TIMEOUT_S = 0.4
PROBE_TIMEOUT_S = 0.3


class Scraper:
    """Brings all /metrics into one store twice a second; a series of a gone target is ended."""

    def __init__(
        self, wiring: Wiring, client: HttpClient, store: SeriesStore, clock: Clock
    ) -> None:
        self._wiring = wiring
        self._client = client
        self._store = store
        self._clock = clock
        self._exposition = Exposition()
        self._probes = {"ok": 0, "error": 0}
        self._live: dict[int, dict[int, StoredSeries]] = {}

    async def run(self) -> None:
        """Scrape for ever, at an even pace."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self.scrape()
            due = max(due + SCRAPE_S, loop.time())
            await asyncio.sleep(due - loop.time())

    async def probe(self) -> None:
        """Probe the bank for ever, as a customer of it without our code would."""
        while True:
            try:
                reply = await self._client.request(
                    "GET",
                    self._wiring.ports.bank,
                    "/v2/authorisations",
                    timeout_s=PROBE_TIMEOUT_S,
                )
                is_good = reply.status < 500
            except (NotDelivered, NoAnswer):
                is_good = False
            self._probes["ok" if is_good else "error"] += 1
            now_ms = self._clock.now_ms()
            self._store.append("probe_success", {"dependency": BANK}, now_ms, float(is_good))
            for outcome, count in self._probes.items():
                labels = {"dependency": BANK, "outcome": outcome}
                self._store.append("probe_requests_total", labels, now_ms, count)
            await asyncio.sleep(SCRAPE_S)

    async def scrape(self) -> None:
        """One round over router, orchestrator and all ready replicas."""
        ports = self._wiring.ports
        wanted = [ports.router, ports.control, *await self._replicas()]
        await asyncio.gather(*(self._scrape_one(port) for port in wanted))
        for port in set(self._live) - set(wanted):
            self._end(port)

    async def _replicas(self) -> list[int]:
        try:
            reply = await self._client.request(
                "GET",
                self._wiring.ports.control,
                "/targets",
                headers=bearer(self._wiring.tokens.internal),
                timeout_s=SCRAPE_TIMEOUT_S,
            )
        except (NotDelivered, NoAnswer):
            return list(self._live)
        targets: list[int] = json.loads(reply.body) if reply.status == 200 else list(self._live)
        return targets

    async def _scrape_one(self, port: int) -> None:
        try:
            reply = await self._client.request(
                "GET",
                port,
                "/metrics",
                headers=bearer(self._wiring.tokens.internal),
                timeout_s=SCRAPE_TIMEOUT_S,
            )
        except (NotDelivered, NoAnswer):
            return
        if reply.status != 200:
            return
        now_ms = self._clock.now_ms()
        before = self._live.get(port, {})
        present: dict[int, StoredSeries] = {}
        for name, labels, value in self._exposition.parse(reply.body.decode()):
            key = id(labels)  # the exposition keeps one mapping for each series text
            series = before.get(key)
            if series is None:
                series = self._store.series_of(name, labels)
            self._store.append_to(series, now_ms, value)
            present[key] = series
        self._live[port] = present
        for key in before.keys() - present.keys():
            self._mark_ended(before[key], now_ms)

    def _end(self, port: int) -> None:
        now_ms = self._clock.now_ms()
        for series in self._live.pop(port).values():
            self._mark_ended(series, now_ms)
        self._client.forget(port)

    def _mark_ended(self, series: StoredSeries, at_ms: int) -> None:
        labels = dict(series.labels)
        self._store.mark_stale(labels.pop("__name__"), labels, at_ms)
