"""What the commands that run the fleet are tried on: an operations folder, a data folder, a world
of metrics, and a way to say a command and see that it was refused without a trace.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.lab.folder import make_operations
from loop4.ledger import evidence
from loop4.ledger.evidence import EvidenceRecord
from loop4.ledger.ledger import Ledger
from tests.cli.serving import served
from tests.graphs.toy import ToyClock, ToyWorld

HEALTHY_S, BROKEN_S = 70, 20


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Desk:
    """A person's terminal: folders, and commands said in this process."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def operations(self) -> Path:
        return self.root / "operations"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def policy(self, name: str) -> Path:
        return self.operations / "policies" / name

    def write(self, name: str, body: object) -> Path:
        """A file beside the folders: bytes, text, or JSON of anything else."""
        path = self.root / name
        if isinstance(body, bytes):
            path.write_bytes(body)
        else:
            path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
        return path

    def say(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one command line."""
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err

    def json(self, *words: str | Path) -> dict[str, object]:
        """What a command that succeeds prints with --json."""
        code, out, err = self.say(*words, "--json")
        assert (code, err) == (0, ""), err
        body = json.loads(out)
        assert isinstance(body, dict)
        return body

    def refused(self, *words: str | Path) -> tuple[int, str]:
        """Say a command that must come to nothing: one line, exit code 1 or 2, no trace of it."""
        before = self.traces()
        code, out, err = self.say(*words)
        assert out == ""
        return self.is_clean(code, err, before)

    def is_clean(self, code: int, err: str, before: object) -> tuple[int, str]:
        """Check the one line, the code, and that folders and chain are as they were."""
        assert err.startswith("loop4: "), err
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        assert code in (1, 2)
        assert self.traces() == before
        return code, err

    def traces(self) -> tuple[list[str], str]:
        """Every path below the root, and the head of the chain. SQLite's own side files come and
        go.
        """
        paths = sorted(
            p.relative_to(self.root).as_posix()
            for p in self.root.rglob("*")
            if not p.name.endswith(("-wal", "-shm"))
        )
        return paths, self.head()

    def head(self) -> str:
        if not (self.data / "ledger.db").is_file():
            return ""
        with Ledger.open(self.data / "ledger.db") as ledger, ledger.read() as tx:
            report = evidence.verify(tx)
        assert report.ok
        return report.head

    def records(self, *kinds: str) -> tuple[EvidenceRecord, ...]:
        with Ledger.open(self.data / "ledger.db") as ledger, ledger.read() as tx:
            return evidence.list_records(tx, kinds=kinds or None)


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    """Folders, no settings but the operations folder, and no world yet."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATA", "OPERATIONS", "RULES", "WORLD", "METRICS_URL", "TOKEN", "CONFIG"):
        monkeypatch.delenv(f"LOOP4_{name}", raising=False)
    make_operations(tmp_path / "operations")
    monkeypatch.setenv("LOOP4_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOOP4_OPERATIONS", str(tmp_path / "operations"))
    return Desk(tmp_path, capsys)


@pytest.fixture(scope="session")
def broken_world() -> ToyWorld:
    """A minute of health and twenty seconds in which orders v2 fails, ending about now."""
    began_ms = now_ms() - (HEALTHY_S + BROKEN_S) * 1000
    toy = ToyWorld(clock=ToyClock(began_ms))
    toy.run(HEALTHY_S)
    toy.deploy()
    toy.run(BROKEN_S)
    return toy


@pytest.fixture(scope="session")
def metrics_url(broken_world: ToyWorld) -> Iterator[str]:
    """A Prometheus over the broken world."""
    with served(broken_world.store) as url:
        yield url


@pytest.fixture
def watched(desk: Desk, metrics_url: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The desk with those metrics as its world."""
    monkeypatch.setenv("LOOP4_METRICS_URL", metrics_url)
    return desk


def alert(
    service: str = "orders",
    *,
    resolved: bool = False,
    began_ms: int = 0,
    query: str = "",
    name: str = "ErrorBudgetBurn",
    environment: str = "",
) -> dict[str, object]:
    """One alert of an Alertmanager body. Without `began_ms` it began ten seconds ago."""
    began_ms = began_ms or now_ms() - 10_000
    named = {"alertname": name, "severity": "page"}
    named |= {"service": service} if service else {}
    named |= {"environment": environment} if environment else {}
    return {
        "status": "resolved" if resolved else "firing",
        "labels": named,
        "annotations": {"summary": f"{service} burns its budget"},
        "startsAt": _moment(began_ms),
        "endsAt": _moment(now_ms()) if resolved else "0001-01-01T00:00:00Z",
        "generatorURL": f"http://prometheus.example:9090/graph?{query}",
        "fingerprint": hashlib.sha256(f"{service}/{name}".encode()).hexdigest()[:16],
    }


def webhook(alerts: Sequence[dict[str, object]]) -> dict[str, object]:
    """A whole Alertmanager v4 body."""
    return {
        "receiver": "loop4",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
    }


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
