"""The lab as one object: start every process, inject a scenario, end everything.

Only tests, benchmarks, `loop4 lab` and `loop4 demo` use this; the fleet knows the lab by its
loopback URLs alone.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TextIO

from loop4.domain import Json
from loop4.errors import LabError
from loop4.lab.assembly import prepare, start_child, start_processes
from loop4.lab.clock import WallClock
from loop4.lab.faults import Profile, Target
from loop4.lab.processes import HOST, Child, end_all
from loop4.lab.scenarios import Plan, draw
from loop4.lab.topology import ENVIRONMENT, REPLICAS, SERVICES
from loop4.lab.wire import bearer
from loop4.lab.wiring import (
    CONNECTION_FILE,
    EDGE_LOG,
    EFFECTS_LOG,
    FILE,
    INJECTOR_LOG,
    Wiring,
    read_wiring,
    write_private,
)

START_TIMEOUT_S = 45.0
WARM_UP_S = 15.0
POLL_S = 0.05
GRACE_S = 6.0  # longer than the orchestrator needs to end its replicas
CALL_TIMEOUT_S = 5.0


class Lab:
    """A running lab. Leave the `with` block, or call `stop`, to end every process of it."""

    def __init__(
        self, directory: Path, wiring: Wiring, children: list[Child], lock: TextIO
    ) -> None:
        self.directory = directory
        self._wiring = wiring
        self._children = children
        self._lock = lock
        self._ready_ms = 0

    @staticmethod
    def start(
        directory: Path, seed: int = 0, *, port: int = 0, timeout_s: float = START_TIMEOUT_S
    ) -> Lab:
        """A lab whose replicas all take traffic and whose telemetry answers.

        `directory` is made; what an earlier lab left there is removed. Raises LabError if a port is
        taken, the folder cannot be used, a lab runs in it, or a process does not come up.
        """
        lock = prepare(directory)
        children: list[Child] = []
        try:
            wiring = start_processes(directory, seed, port, children)
            lab = Lab(directory, wiring, children, lock)
            lab._wait_until(lab._is_routed, timeout_s)
            children.append(start_child(directory, "load", {}))
            lab._wait_until(lab._is_observed, timeout_s)
            lab._ready_ms = WallClock().now_ms()
            lab._write_connection()
        except BaseException:
            end_all(children, grace_s=GRACE_S)
            lock.close()
            raise
        return lab

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process and wait for it. Calling it again does nothing."""
        end_all(self._children, grace_s=GRACE_S)
        self._children.clear()
        self._lock.close()

    def check(self) -> None:
        """Raise LabError if a process of the lab itself (not a replica) has ended."""
        for child in self._children:
            if child.exit_code() is not None:
                raise LabError(_why(self.directory, child))

    @property
    def connection(self) -> Path:
        """The file that tells an outsider where things are and which token files to read."""
        return self.directory / CONNECTION_FILE

    @property
    def edge_url(self) -> str:
        """Where customers come in."""
        return _url(self._wiring.ports.edge)

    @property
    def injector_port(self) -> int:
        """Where the injector listens; not in `lab.json`, the fleet has no business there."""
        return self._wiring.ports.injector

    @property
    def ready_ms(self) -> int:
        """When the lab was ready."""
        return self._ready_ms

    @property
    def edge_log(self) -> Path:
        """The router's record: one JSON line for each customer request."""
        return self.directory / EDGE_LOG

    @property
    def effects_log(self) -> Path:
        """The orchestrator's record: one JSON line for each write that changed something."""
        return self.directory / EFFECTS_LOG

    @property
    def injector_log(self) -> Path:
        """The injector's record: one JSON line for each step of a scenario."""
        return self.directory / INJECTOR_LOG

    def inject(self, scenario: str, seed: int = 0, *, warm_up_s: float = WARM_UP_S) -> Plan:
        """Begin a scenario once the lab has run for `warm_up_s`; returns its plan at once."""
        plan = draw(scenario, seed)
        inject_into(self.directory, scenario, seed, self._ready_ms + int(warm_up_s * 1000))
        return plan

    def injected(self) -> list[Mapping[str, Json]]:
        """The injector's record so far."""
        if not self.injector_log.exists():
            return []
        return [json.loads(line) for line in self.injector_log.read_text("utf-8").splitlines()]

    def replicas(self) -> frozenset[str]:
        """Names of the replicas that are ready now; a deploy makes new ones, names never return."""
        tokens, ports = self._wiring.tokens, self._wiring.ports
        inventory = _call("GET", ports.control, "/api/inventory", tokens.read)
        workloads = inventory["workloads"] if isinstance(inventory, Mapping) else []
        return frozenset(
            str(instance["instance"])
            for workload in (workloads if isinstance(workloads, list) else [])
            for instance in workload["instances"]
            if instance["state"] == "ready"
        )

    def begin_fault(self, target: Target, profile: Profile, *, lasts_s: float = 0.0) -> None:
        """Put one fault in force, outside of any scenario."""
        body: Json = {
            "target": asdict(target),
            "profile": asdict(profile),
            "lasts_s": lasts_s,
        }
        tokens, ports = self._wiring.tokens, self._wiring.ports
        _call("POST", ports.injector, "/faults", tokens.injector, body)

    def deploy(
        self, service: str, *, weight_bp: int, actor: str = "dana", text: str = ""
    ) -> Mapping[str, Json]:
        """Deploy as the delivery pipeline does; the Change as JSON."""
        body: Json = {"weight_bp": weight_bp, "actor": actor, "text": text}
        answer = _call(
            "POST",
            self._wiring.ports.control,
            f"/api/workloads/{service}/deploy",
            self._wiring.tokens.pipeline,
            body,
        )
        return answer if isinstance(answer, Mapping) else {}

    def _wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._asks(is_ready):
            self.check()
            if time.monotonic() > deadline:
                raise LabError(
                    f"the lab was not ready after {timeout_s:.0f} s; see {self.directory}/logs"
                )
            time.sleep(POLL_S)

    def _asks(self, condition: Callable[[], bool]) -> bool:
        try:
            return condition()
        except LabError:
            return False

    def _is_routed(self) -> bool:
        tokens, ports = self._wiring.tokens, self._wiring.ports
        inventory = _call("GET", ports.control, "/api/inventory", tokens.read)
        if not isinstance(inventory, Mapping):
            return False
        workloads = inventory["workloads"]
        routed = [
            instance
            for workload in (workloads if isinstance(workloads, list) else [])
            for instance in workload["instances"]
            if instance["state"] == "ready" and instance["weight_bp"] > 0
        ]
        return len(routed) == REPLICAS * len(SERVICES)

    def _is_observed(self) -> bool:
        tokens, ports = self._wiring.tokens, self._wiring.ports
        path = "/api/v1/query?query=sum(rate(router_edge_requests_total[2s]))"
        answer = _call("GET", ports.store, path, tokens.read)
        data = answer.get("data") if isinstance(answer, Mapping) else None
        result = data["result"] if isinstance(data, Mapping) else None
        return isinstance(result, list) and bool(result) and float(result[0]["value"][1]) > 0

    def _write_connection(self) -> None:
        tokens, ports = self._wiring.tokens, self._wiring.ports
        write_private(self.directory / "read.token", tokens.read)
        write_private(self.directory / "act.token", tokens.act)
        document = {
            "version": 1,
            "environment": ENVIRONMENT,
            "seed": self._wiring.seed,
            "ready_ms": self._ready_ms,
            "edge_url": _url(ports.edge),
            "control_url": _url(ports.control),
            "store_url": _url(ports.store),
            "read_token_file": "read.token",
            "act_token_file": "act.token",
        }
        write_private(self.connection, json.dumps(document, indent=2) + "\n")


def inject_into(directory: Path, scenario: str, seed: int, not_before_ms: int = 0) -> None:
    """Begin a scenario in the lab that runs in `directory`. Raises LabError or InputError."""
    draw(scenario, seed)
    if not (directory / FILE).exists():
        raise LabError(f"no lab runs in {str(directory)!r}; start one with `loop4 lab up --dir`")
    wiring = read_wiring(directory)
    body: Json = {"scenario": scenario, "seed": seed, "not_before_ms": not_before_ms}
    _call("POST", wiring.ports.injector, "/scenario", wiring.tokens.injector, body)


def _call(method: str, port: int, path: str, token: str, body: Json = None) -> Json:
    """One JSON request to a part of the lab. Raises LabError."""
    connection = http.client.HTTPConnection(HOST, port, timeout=CALL_TIMEOUT_S)
    headers = bearer(token) | {"content-type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LabError(f"the lab does not answer on port {port}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LabError(f"{path} was answered {response.status}: {content[:200].decode()}")
    answer: Json = json.loads(content)
    return answer


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _why(directory: Path, child: Child) -> str:
    lines: list[str] = []
    with suppress(OSError):
        lines = (directory / "logs" / f"{child.name}.log").read_text("utf-8").splitlines()
    last = f": {lines[-1]}" if lines else ""
    return f"the {child.name} process ended with {child.exit_code()}{last}"
