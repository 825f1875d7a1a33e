"""One cell of the crash matrix: a world, its workers, one death, and what is left in the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loop4.domain import Json
from loop4.errors import LabError
from loop4.lab.duty import Duty
from loop4.lab.folder import OperationsCopy, make_operations
from loop4.lab.wiring import EFFECTS_LOG
from loop4.ledger import evidence, incidents, intents, outbox, runs
from loop4.ledger.ledger import Ledger
from loop4.ledger.runs import RunState

HERE = Path(__file__).resolve().parent
POINTS = (
    "before_intent",
    "after_intent",
    "after_effect",
    "after_outcome",
    "approval_wait",
    "after_vote",
    "wake_at",
)
LEDGER_ALONE = "ledger_alone"  # dies after the effect; engine and checkpoints are deleted
IN_THE_CALL = "in_the_call"  # dies while the target, which is slow, still works on the call
SHOWN_LATE = "shown_late"  # dies after the effect, which the target does not show at first
BESIDE = (LEDGER_ALONE, IN_THE_CALL, SHOWN_LATE)
DIES_AT = {LEDGER_ALONE: "after_effect", SHOWN_LATE: "after_effect"}
SLOW_TO = {IN_THE_CALL: ("--slow-to", "apply"), SHOWN_LATE: ("--slow-to", "show")}
LEASE_S = 8
POLL_S = 0.2
PATIENCE_S = 180.0  # far more than a busy machine needs
SHORTER = (
    ("targets", "60s/10s@4", "60s/4s@4"),
    ("targets", '"15s"', '"3s"'),
    ("fleet.yaml", "lease_s: 15", f"lease_s: {LEASE_S}"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Where the death comes, over which database, and how many workers there are."""

    point: str
    database: str  # sqlite or postgresql
    workers: int  # 2 on SQLite: another process waits to take over

    @property
    def name(self) -> str:
        return f"{self.point}-{self.database}-{self.workers}"


@dataclass(slots=True)
class Outcome:
    """What became of a cell. `effects` by the target's own log."""

    cell: Cell
    effects: int = -1
    incident: str = ""
    intents: str = ""
    records: int = 0
    refused: int = 0
    death_s: float = 0.0
    took_s: float = 0.0
    is_lost: bool = False  # no effect, an incident that is not resolved, or work left open
    problems: list[str] = field(default_factory=list)

    @property
    def is_exactly_one(self) -> bool:
        return self.effects == 1 and not self.problems

    def to_json(self) -> dict[str, Json]:
        return {
            "point": self.cell.point,
            "database": self.cell.database,
            "workers": self.cell.workers,
            "effects": self.effects,
            "incident": self.incident,
            "intents": self.intents,
            "evidence_records": self.records,
            "refused_while_the_first_lived": self.refused,
            "death_s": round(self.death_s, 1),
            "took_s": round(self.took_s, 1),
            "problems": list(self.problems),
        }


class Play:
    """The processes of one cell. `url`: its PostgreSQL database, empty for SQLite. `wipe` deletes
    the engine and the checkpoints.
    """

    def __init__(self, root: Path, cell: Cell, url: str, wipe: Callable[[], None]) -> None:
        self.root, self.cell, self.url, self._wipe = root, cell, url, wipe
        self.note = root / "died"
        self.copy = _operations(root)
        names = ("a", "b")[: cell.workers]
        self.workers = [self._duty(name) for name in names]
        self.refused = 0  # how often the second worker on SQLite was told to wait
        self._standby: threading.Thread | None = None
        self._is_over = threading.Event()

    @property
    def place(self) -> Path | str:
        """Where the ledger is."""
        return self.url or self.root / "a" / "data" / "ledger.db"

    @property
    def may_vote(self) -> bool:
        """Whether it is time: the death that comes first is over, and who waits was refused."""
        if self.note.exists():
            return True
        return self.cell.point != "approval_wait" and (self._standby is None or self.refused > 0)

    def _duty(self, name: str) -> Duty:
        """A worker that dies at the cell's point if nobody did before."""
        folder = self.root / (name if self.url else "a")
        folder.mkdir(exist_ok=True)
        point = DIES_AT.get(self.cell.point, self.cell.point)
        command = ("worker", "--db", self.url, "--worker-id", name) if self.url else ("run",)
        return Duty(
            folder,
            self.copy.root,
            f"lab:{self.root / 'target'}",
            arguments=(*command, "--port", "0", "--json"),
            program=(str(HERE / "crash_worker.py"), point, str(self.note)),
        )

    def start(self) -> None:
        """All workers; on SQLite the second one is refused until the first is dead."""
        now = self.workers if self.url else self.workers[:1]
        with ThreadPoolExecutor(len(now)) as pool:
            list(pool.map(self._start, now))
        for second in self.workers[len(now) :]:
            self._standby = threading.Thread(target=self._stand_by, args=(second,))
            self._standby.start()

    def _start(self, one: Duty) -> None:
        try:
            one.start()
        except LabError:
            if not _was_killed(one):  # it may reach its point before it has said that it is ready
                raise

    def _stand_by(self, second: Duty) -> None:
        """Try to take over: at once, which is refused, and again when the first is dead."""
        while not self._is_over.is_set():
            try:
                second.start()
                return
            except LabError:
                self.refused += 1
            while not self.note.exists() and not self._is_over.wait(POLL_S):
                pass

    def living(self) -> list[Duty]:
        """The workers that serve."""
        return [w for w in self.workers if w.url and w.process and w.process.poll() is None]

    def dead(self) -> list[Duty]:
        """Those that were killed and are not buried."""
        return [w for w in self.workers if _was_killed(w) and not w.kills]

    def bury(self, dead: Duty) -> None:
        """A worker died: let its successor begin."""
        dead.kill()  # closes the pipes and counts
        if self.cell.point == LEDGER_ALONE:
            self._wipe()
        if self.cell.workers == 1:
            dead.start()

    def vote(self) -> None:
        """Approve what waits, by HTTP with the on-call's token."""
        for worker in self.living():
            status, text = worker.call("GET", "/v1/approvals", self.copy.token)
            if status != 200:
                continue
            for request in json.loads(text)["approvals"]:
                path = f"/v1/approvals/{request['approval_id']}/votes"
                worker.call("POST", path, self.copy.token, {"decision": "approve"})
            return

    def stop(self) -> list[str]:
        """End what lives; what was wrong with it."""
        self._is_over.set()
        if self._standby is not None:
            self._standby.join()
        problems = []
        living = self.living()
        for one in living:
            if one.process is not None:
                one.process.send_signal(signal.SIGTERM)
        for one in living:
            code = one.stop()
            if code:
                problems.append(f"a worker drained with {code}: {_errors_of(one)}")
        problems += [
            f"a worker said: {_errors_of(one)}"
            for one in self.workers
            if "Traceback" in _errors_of(one)
        ]
        return problems


def play(root: Path, cell: Cell, url: str, wipe: Callable[[], None]) -> Outcome:
    """Play one cell in a fresh folder. `url`: the PostgreSQL database, empty for SQLite."""
    root.mkdir(parents=True)
    outcome = Outcome(cell)
    began = time.monotonic()
    game = Play(root, cell, url, wipe)
    with _target(root / "target", *SLOW_TO.get(cell.point, ())):
        try:
            game.start()
            _course(game, outcome, began)
        except LabError as error:
            outcome.problems.append(str(error))
        finally:
            outcome.problems += game.stop()
        _judge(game, outcome)
    outcome.took_s = time.monotonic() - began
    return outcome


def _course(game: Play, outcome: Outcome, began: float) -> None:
    """Vote, bury the dead, and wait for the end of the incident."""
    deadline = time.monotonic() + PATIENCE_S
    while not _is_over(game.place):
        if time.monotonic() > deadline:
            outcome.problems.append(f"not over after {PATIENCE_S:g} s")
            return
        for one in game.dead():
            outcome.death_s = time.monotonic() - began
            game.bury(one)
        if game.may_vote:
            game.vote()
        time.sleep(POLL_S)


def _is_over(place: Path | str) -> bool:
    with Ledger.open(place, read_only=True) as ledger, ledger.read() as tx:
        found = incidents.list_all(tx)
        is_closed = bool(found) and not incidents.list_open(tx)
        return is_closed and not runs.list_open(tx) and not outbox.due(tx, _now_ms())


def _judge(game: Play, outcome: Outcome) -> None:
    """Count the effects in the target's log; look for anything lost in the ledger."""
    log = (game.root / "target" / EFFECTS_LOG).read_text("utf-8")
    marks = [json.loads(line)["mark"] for line in log.splitlines()]
    outcome.effects = len(marks)
    problems = outcome.problems
    if not game.note.exists():
        problems.append("nobody died")
    deaths = sum(w.kills for w in game.workers)
    if deaths != 1:
        problems.append(f"{deaths} workers died, expected one")
    with Ledger.open(game.place, read_only=True) as ledger, ledger.read() as tx:
        acts = [i for i in intents.list_all(tx) if "path" not in i.arguments]
        found = incidents.list_all(tx)
        chain = evidence.verify(tx)
        opened, undone = runs.list_open(tx), outbox.due(tx, _now_ms())
        closed = runs.list_closed(tx, after_ms=0, until_ms=_now_ms(), limit=1000)
    outcome.incident = ", ".join(i.state for i in found)
    outcome.intents = ", ".join(i.state.value for i in acts)
    outcome.records = chain.records
    outcome.refused = game.refused
    if [i.state for i in found] != ["resolved"]:
        problems.append(f"incidents: {outcome.incident or 'none'}; expected one, resolved")
    if outcome.intents != "done" or [i.action_id for i in acts] != marks:
        problems.append(f"intents: {outcome.intents or 'none'}; expected the one of the effect")
    failed = [r.run_id for r in closed if r.state is RunState.FAILED]
    if opened or failed:
        problems.append(f"{len(opened)} runs are open, {len(failed)} failed")
    if undone:
        problems.append(f"the outbox still holds {[row.key for row in undone]}")
    is_open = bool(opened or failed or undone) or [i.state for i in found] != ["resolved"]
    outcome.is_lost = outcome.effects < 1 or is_open
    if not chain.ok:
        problems.append(f"the chain does not verify: {chain}")


@contextmanager
def _target(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir()
    program = str(HERE / "crash_target.py")
    process = subprocess.Popen(
        [sys.executable, program, str(folder), *options],
        stdin=subprocess.PIPE,  # its lifeline
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the target did not start")
        yield
    finally:
        process.kill()
        process.communicate()


def _operations(root: Path) -> OperationsCopy:
    """The lab's folder with shorter windows, leases and sweeps."""
    copy = make_operations(root / "operations")
    for place, old, new in SHORTER:
        path = copy.root / "policies" / place
        for file in path.glob("*.yaml") if path.is_dir() else [path]:
            text = file.read_text("utf-8")
            if old not in text:
                raise LabError(f"{file}: expected {old!r}")
            file.write_text(text.replace(old, new), "utf-8")
    return copy


def wipe_files(data: Path) -> None:
    """Delete the engine's and the checkpoints' files of a data folder."""
    for name in ("engine.db", "checkpoints.db"):
        for path in data.glob(f"{name}*"):
            path.unlink()


def _was_killed(one: Duty) -> bool:
    return one.process is not None and one.process.poll() == -signal.SIGKILL


def _errors_of(one: Duty) -> str:
    path = one.root / "duty.err"
    return path.read_text("utf-8").strip()[-2000:] if path.exists() else ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
