from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from loop4.tools.backends.series import SeriesStore

MISSING = "apt-get install -y prometheus"
ORIGIN_MS = 1_790_000_000_000


@pytest.fixture(scope="session")
def store() -> SeriesStore:
    """Ten minutes of a small system: counters with resets and gaps, a histogram, gauges.

    No sample lies on a whole second, so ranges that are open on the left (Prometheus 3, ours) and
    closed ones (Prometheus 2) hold the same samples.
    """
    store = SeriesStore()
    for number, service in enumerate(("gateway", "orders", "payments")):
        for replica in (1, 2):
            labels = {"service": service, "instance": f"{service}-{replica}", "version": "1.2"}
            _counters(store, labels, step=number + replica)
            _histogram(store, labels, step=number + replica)
            for tick in range(120):
                at_ms = ORIGIN_MS + tick * 5000 + 137 * replica
                store.append("queue_length", labels, at_ms, (tick * 7 + number) % 11 - 3.5)
    for weight, version in ((7400, "1.2"), (2600, "1.3")):
        at_ms = ORIGIN_MS + 300_123
        store.append("router_weight_bp", {"service": "orders", "version": version}, at_ms, weight)
    store.append("odd_value", {"kind": "none"}, ORIGIN_MS + 299_001, float("nan"))
    store.append("odd_value", {"kind": "huge"}, ORIGIN_MS + 299_001, float("inf"))
    store.append("odd_value", {"kind": "zero"}, ORIGIN_MS + 299_001, 0.0)
    return store


def _counters(store: SeriesStore, labels: dict[str, str], *, step: int) -> None:
    for outcome, growth in (("ok", 9 * step), ("error", step % 3)):
        total = 0.0
        for tick in range(120):
            at_ms = ORIGIN_MS + tick * 5000 + 137 * step
            if tick == 61 and step == 2:
                total = 3.0  # the process began again
            if step == 3 and 40 <= tick < 50:
                continue  # nobody scraped
            if step == 4 and tick < 70:
                continue  # began late
            store.append("http_requests_total", labels | {"outcome": outcome}, at_ms, total)
            total += growth + (tick % 4) * 0.5


def _histogram(store: SeriesStore, labels: dict[str, str], *, step: int) -> None:
    for tick in range(120):
        at_ms = ORIGIN_MS + tick * 5000 + 137 * step
        for bound, share in (("0.05", 1), ("0.1", 4), ("0.25", 7), ("1", 9), ("+Inf", 10)):
            value = tick * share * step
            store.append("request_seconds_bucket", labels | {"le": bound}, at_ms, value)


@pytest.fixture(scope="session")
def prometheus(store: SeriesStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base address of a real Prometheus that holds the same samples."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples.om").write_text(_open_metrics(store))
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    _run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "samples.om", "data"], folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                str(shutil.which("prometheus")),
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--storage.tsdb.retention.time=100y",
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(lambda: _is_ready(url), server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _wait_for(holds: Callable[[], bool], server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert server.poll() is None, "prometheus ended"
        assert time.monotonic() < deadline, "prometheus is not ready"
        time.sleep(0.05)


def _open_metrics(store: SeriesStore) -> str:
    lines: list[str] = []
    name = ""
    for series in store.all_series():
        labels = dict(series.labels)
        if labels["__name__"] != name:
            name = labels["__name__"]
            lines.append(f"# TYPE {name} unknown")
        shown = ",".join(f'{k}="{v}"' for k, v in series.labels if k != "__name__")
        lines += [
            f"{name}{{{shown}}} {value!r} {at_ms / 1000:.3f}".replace("inf", "+Inf")
            for at_ms, value in zip(series.times, map(float, series.values), strict=True)
        ]
    return "\n".join([*lines, "# EOF", ""])
