"""A small world in memory for graph tests: real series store, real evaluator, real ledger, real
gate.

Three services as in the lab; `break_version` makes one version fail from a moment on; the writer
really changes routing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from loop4.errors import Conflict
from loop4.tools.backends.ports import (
    Change,
    Instance,
    Inventory,
    LogRecord,
    Revision,
    Span,
    Workload,
    World,
    WriteResult,
)
from loop4.tools.backends.promql import EmbeddedMetrics
from loop4.tools.backends.series import SeriesStore

START_MS = 1_790_000_000_000
SERVICES = ("gateway", "orders", "payments")


@dataclass
class ToyClock:
    at_ms: int = START_MS

    def now_ms(self) -> int:
        return self.at_ms


@dataclass
class ToyWorld:
    """Orders has revision 41 (v1) and, from `deploy` on, revision 42 (v2) beside it at
    `weight_bp`.
    """

    clock: ToyClock = field(default_factory=ToyClock)
    weight_bp: int = 5_000
    failing_bp: int = 6_000
    is_stubborn: bool = False  # customers fail whatever is done
    store: SeriesStore = field(default_factory=SeriesStore)
    effects: list[str] = field(default_factory=list)
    effects_log: Path | None = None  # one line an effect, appended before the writer answers
    state_file: Path | None = None  # what a second process needs to go on: `restore` reads it
    deployed_ms: int = 0
    rolled_back: bool = False
    rolled_back_ms: int = 0
    mark: str = ""
    version: int = 1
    generation: int = 1  # of what is desired; another hand's change raises it
    crashed: str = ""
    spans_seen: list[Span] = field(default_factory=list)
    counts: dict[tuple[str, ...], float] = field(default_factory=dict)

    def run(self, seconds: int) -> None:
        """Let time pass: one sample of every counter each second, 40 edge requests a second."""
        for _ in range(seconds):
            self.clock.at_ms += 1000
            self._second()
        self._save()

    def deploy(self) -> None:
        self.deployed_ms = self.clock.at_ms
        self._save()

    def _save(self) -> None:
        if self.state_file is None:
            return
        kept = {
            "clock_ms": self.clock.at_ms,
            "deployed_ms": self.deployed_ms,
            "rolled_back_ms": self.rolled_back_ms,
            "version": self.version,
            "generation": self.generation,
            "mark": self.mark,
            "weight_bp": self.weight_bp,
            "failing_bp": self.failing_bp,
        }
        self.state_file.write_text(json.dumps(kept), encoding="utf-8")

    @classmethod
    def restore(cls, state_file: Path, effects_log: Path) -> ToyWorld:
        """The world as another process left it: its seconds run again, with the same changes."""
        kept = json.loads(state_file.read_text(encoding="utf-8"))
        toy = cls(weight_bp=kept["weight_bp"], failing_bp=kept["failing_bp"])
        while toy.clock.at_ms < kept["clock_ms"]:
            if kept["deployed_ms"] and toy.clock.at_ms >= kept["deployed_ms"]:
                toy.deployed_ms = kept["deployed_ms"]
            if kept["rolled_back_ms"] and toy.clock.at_ms >= kept["rolled_back_ms"]:
                toy.rolled_back = True
            toy.clock.at_ms += 1000
            toy._second()
        toy.deployed_ms, toy.rolled_back_ms = kept["deployed_ms"], kept["rolled_back_ms"]
        toy.rolled_back = bool(toy.rolled_back_ms)
        toy.version, toy.generation = kept["version"], kept["generation"]
        toy.mark = kept["mark"]
        toy.state_file, toy.effects_log = state_file, effects_log
        return toy

    def world(self) -> World:
        return World(
            metrics=EmbeddedMetrics(self.store),
            traces=self,
            logs=self,
            changes=self,
            workloads=self,
        )

    def _bad_share(self) -> float:
        if not self.deployed_ms or self.rolled_back:
            return 0.0
        return self.weight_bp / 10_000

    def _second(self) -> None:
        share = self._bad_share()
        failing = max(share * self.failing_bp / 10_000, 0.3 if self.is_stubborn else 0.0)
        for service in SERVICES:
            for version in ("v1", "v2") if service == "orders" else ("v1",):
                part = 1.0
                if service == "orders":
                    part = share if version == "v2" else 1.0 - share
                bad = failing if service == "gateway" else 0.0
                if service == "orders" and version == "v2" and share:
                    bad = self.failing_bp / 10_000
                self._count(
                    "http_requests_total",
                    40 * part * (1 - bad),
                    service=service,
                    version=version,
                    instance=f"{service}-{version}",
                    outcome="ok",
                )
                self._count(
                    "http_requests_total",
                    40 * part * bad,
                    service=service,
                    version=version,
                    instance=f"{service}-{version}",
                    outcome="error",
                )
                self._gauge(
                    "router_weight_bp", round(part * 10_000), service=service, version=version
                )
                self._gauge(
                    "router_instance_weight_bp",
                    0 if self.crashed else round(part * 10_000),
                    service=service,
                    version=version,
                    instance=f"{service}-{version}",
                )
                self._count(
                    "router_edge_touched_total",
                    40 * part,
                    service=service,
                    version=version,
                    instance=f"{service}-{version}",
                )
        for name, le in (("bucket", "0.3"), ("bucket", "+Inf"), ("count", "")):
            more = {"le": le} if le else {}
            self._count(
                f"http_request_duration_seconds_{name}",
                40,
                service="gateway",
                version="v1",
                instance="gateway-v1",
                **more,
            )
        self._count("router_edge_requests_total", 40 * (1 - failing), outcome="ok")
        self._count("router_edge_requests_total", 40 * failing, outcome="error")
        if failing:
            self._failing_trace()

    def _count(self, name: str, more: float, **labels: str) -> None:
        key = (name, *itertools.chain.from_iterable(sorted(labels.items())))
        self.counts[key] = self.counts.get(key, 0.0) + more
        self.store.append(name, labels, self.clock.at_ms, self.counts[key])

    def _gauge(self, name: str, value: float, **labels: str) -> None:
        self.store.append(name, labels, self.clock.at_ms, value)

    def _failing_trace(self) -> None:
        at, trace = self.clock.at_ms, f"{len(self.spans_seen):032x}"
        chain = (
            ("s1", "", "gateway", "v1", "server", ""),
            ("s2", "s1", "gateway", "v1", "client", "orders"),
            ("s3", "s2", "orders", "v2", "server", ""),
        )
        for span, parent, service, version, kind, peer in chain:
            self.spans_seen.append(
                Span(
                    trace,
                    span,
                    parent,
                    f"{kind} {service}",
                    service,
                    version,
                    f"{service}-{version}",
                    kind,
                    peer,
                    at,
                    5,
                    True,
                    500,
                )
            )

    async def spans(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        errors_only: bool = False,
        limit: int = 1000,
    ) -> Sequence[Span]:
        return [s for s in self.spans_seen if start_ms <= s.start_ms < end_ms][-limit:]

    async def records(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        min_severity: str = "",
        limit: int = 500,
    ) -> Sequence[LogRecord]:
        if service != "orders" or not self._bad_share():
            return []
        return [LogRecord(end_ms - 1, "orders", "v2", "orders-v2", "ERROR", "boom")]

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        if not self.deployed_ms or not start_ms <= self.deployed_ms < end_ms:
            return []
        return [
            Change(
                "chg-42",
                self.deployed_ms,
                "deploy",
                "orders",
                "",
                41,
                42,
                "v1",
                "v2",
                "d41",
                "d42",
                self.weight_bp,
                "dana",
            )
        ]

    async def inventory(self) -> Inventory:
        return Inventory(self.clock.at_ms, tuple(self._workload(s) for s in SERVICES), ("bank",))

    def _workload(self, service: str) -> Workload:
        split = service == "orders" and bool(self.deployed_ms) and not self.rolled_back
        share = self.weight_bp if split else 0
        revisions = [Revision(41, "v1", "d41", 0, 10_000 - share)]
        if service == "orders" and self.deployed_ms:
            revisions.append(Revision(42, "v2", "d42", self.deployed_ms, share))
        state = "crashed" if self.crashed == service else "ready"
        instance = Instance(
            f"{service}-v1", service, 41, "v1", state, False, 0, 0, 10_000 - share, ""
        )
        return Workload(
            service,
            f"rv{self.version}",
            self.generation,
            "d42" if split else "d41",
            42 if split else 41,
            1,
            self.deployed_ms or START_MS,
            self.mark if service == "orders" else "",
            tuple(revisions),
            (instance, replace(instance, instance=f"{service}-v2", version="v2"))
            if split
            else (instance,),
        )

    async def roll_back(
        self, service: str, to_revision: int, *, expected: str, mark: str
    ) -> WriteResult:
        if expected != f"rv{self.version}":
            raise Conflict("stale")
        self.version += 1
        self.generation += 1
        self.rolled_back, self.rolled_back_ms, self.mark = True, self.clock.at_ms, mark
        self.effects.append(f"roll_back {service} {to_revision}")
        if self.effects_log is not None:
            with self.effects_log.open("a") as log:
                log.write(f"roll_back {service} {to_revision} {mark}\n")
        self._save()
        return WriteResult(True, {"revision": 42}, {"revision": to_revision})

    async def restart(
        self, instance: str, restarted_at_ms: int, *, expected: str, mark: str
    ) -> WriteResult:
        self.effects.append(f"restart {instance}")
        return WriteResult(True, {}, {})

    async def scale(self, service: str, replicas: int, *, expected: str, mark: str) -> WriteResult:
        self.effects.append(f"scale {service} {replicas}")
        return WriteResult(True, {}, {})
