"""`loop4 run` and `loop4 worker` as processes while their databases are locked, full or gone, while
they are frozen, and while they are flooded. Afterwards they go on by themselves.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from loop4.domain import Json
from loop4.errors import RunnerBusy
from loop4.lab.duty import Duty, clients_file
from loop4.lab.folder import OperationsCopy, make_operations
from loop4.ledger import events, evidence, leases, runs
from loop4.ledger.ledger import Ledger
from loop4.ledger.runner_of_database import DatabaseRunner
from tests.api.test_front_door import EVENTS, vote_path, webhook
from tests.api.test_process import NOBODY
from tests.cli.test_bad_disk import disk, fill
from tests.postgresql import Server, new_server, prepare, remove

pytestmark = pytest.mark.exhaustive  # two minutes of real waits


def until(holds: Callable[[], object], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def copy(tmp_path: Path) -> OperationsCopy:
    return make_operations(tmp_path / "operations")


@pytest.fixture
def token(copy: OperationsCopy) -> str:
    return clients_file(copy.root)


@pytest.fixture
def duty(tmp_path: Path, copy: OperationsCopy) -> Iterator[Duty]:
    made = Duty(tmp_path, copy.root, metrics_url=NOBODY)
    yield made
    made.kill()


def errors_of(duty: Duty) -> str:
    told = (duty.root / "duty.err").read_text("utf-8")
    assert "Traceback" not in told, told
    return told


def placed(place: Path | str) -> int:
    """How many events stand in an incident; fails if the chain does not hold."""
    with Ledger.open(place, read_only=True) as ledger, ledger.read() as tx:
        assert evidence.verify(tx).ok
        return sum(len(events.of_incident(tx, run.incident_id)) for run in runs.list_open(tx))


def ask(duty: Duty, token: str, body: Json, answers: list[tuple[int, str]]) -> threading.Thread:
    """Deliver in a thread, with more patience than `Duty.call` has."""

    def deliver() -> None:
        connection = http.client.HTTPConnection(urlsplit(duty.url).netloc, timeout=60)
        with closing(connection):
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            connection.request("POST", EVENTS, json.dumps(body), headers)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read().decode()))

    thread = threading.Thread(target=deliver)
    thread.start()
    return thread


def test_a_ledger_that_another_process_locks_too_long_is_one_line_and_then_goes_on(
    duty: Duty, token: str
) -> None:
    duty.start()
    ledger = duty.root / "data" / "ledger.db"
    answers: list[tuple[int, str]] = []
    with closing(sqlite3.connect(ledger, isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        asking = ask(duty, token, webhook(1), answers)
        asking.join(40)
        began = time.monotonic()
        assert duty.call("GET", "/healthz", "")[0] == 200
        assert duty.call("POST", EVENTS, token, webhook(1))[0] == 503
        assert time.monotonic() - began < 8, "the full wait is waited once"
        other.execute("ROLLBACK")
    ((status, text),) = answers
    assert status == 503
    assert "another process held its write lock too long" in json.loads(text)["detail"]
    until(lambda: duty.call("GET", "/healthz", "")[0] == 200, 20, "it does not answer")
    assert duty.call("POST", EVENTS, token, webhook(1))[0] == 202, "nothing of the first was kept"
    until(lambda: placed(ledger) == 1, 20, "the event was not placed")
    assert duty.stop() == 0
    errors_of(duty)


def test_an_engine_database_that_another_process_locks_holds_up_nothing_for_good(
    duty: Duty, token: str
) -> None:
    duty.start()
    data = duty.root / "data"
    with closing(sqlite3.connect(data / "engine.db", isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers: list[tuple[int, str]] = []
        asking = ask(duty, token, webhook(1), answers)
        time.sleep(8)  # longer than the engine waits for its lock
        other.execute("ROLLBACK")
        asking.join(40)
    assert answers[0][0] == 202, answers
    until(lambda: placed(data / "ledger.db") == 1, 40, "the event was not placed")
    assert duty.stop() == 0
    errors_of(duty)


def test_a_full_disk_is_one_line_and_the_fleet_goes_on_when_there_is_room(
    duty: Duty, token: str, tmp_path: Path
) -> None:
    with disk(tmp_path / "data", "size=24m") as folder:
        duty.start()
        try:
            assert duty.call("POST", EVENTS, token, webhook(1))[0] == 202
            until(lambda: placed(folder / "ledger.db") == 1, 30, "the first was not placed")
            fill(folder, 0)
            seen: list[str] = []

            def is_refused() -> bool:
                status, text = duty.call("POST", EVENTS, token, webhook(len(seen) + 2))
                seen.append(f"{status} {text}")
                return status == 503

            until(is_refused, 30, "a full disk was never met")
            assert "disk" in seen[-1]
            assert duty.process is not None
            assert duty.process.poll() is None
            time.sleep(4)  # ticks of every kind meet it
            (folder / "filler").unlink()
            until(
                lambda: duty.call("POST", EVENTS, token, webhook(60))[0] in (200, 202),
                30,
                "it did not come back",
            )
            until(lambda: placed(folder / "ledger.db") == 60, 60, "events were lost")
            until(lambda: duty.call("GET", "/metrics", token)[0] == 200, 20, "no metrics")
            assert duty.stop() == 0
            errors_of(duty)
        finally:
            duty.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own, since it is killed."""
    made = new_server()
    try:
        made.start()
        prepare(made)
        yield made
    finally:
        remove(made)


def is_driven(db: str) -> bool:
    """Whether workers hold the right to drive the runs of a database."""
    try:
        with DatabaseRunner(db, by_leases=False):
            return False
    except RunnerBusy:
        return True


def worker(duty: Duty, name: str, db: str) -> Duty:
    root = duty.root / name
    root.mkdir()
    words = ("worker", "--db", db, "--worker-id", name, "--port", "0", "--json")
    return Duty(root, duty.operations, metrics_url=NOBODY, arguments=words)


def test_a_worker_outlives_its_database_server_and_says_so_meanwhile(
    duty: Duty, copy: OperationsCopy, token: str, server: Server
) -> None:
    db = server.url(server.database("ready"))
    one = worker(duty, "one", db)
    try:
        one.start()
        assert one.call("POST", EVENTS, token, webhook(1))[0] == 202
        server.kill()
        try:
            for method, path, who, body in (
                ("POST", EVENTS, token, webhook(2)),
                ("GET", "/v1/approvals", copy.token, None),
                ("GET", "/metrics", token, None),
                ("POST", vote_path("x"), copy.token, {"decision": "approve"}),
            ):
                status, text = one.call(method, path, who, body)
                assert status == 503, (path, status, text)
                assert "\n" not in json.loads(text)["detail"]
            time.sleep(5)
            assert one.call("GET", "/healthz", "")[0] == 200
        finally:
            server.start()
        until(lambda: one.call("POST", EVENTS, token, webhook(3))[0] == 202, 30, "not back")
        until(lambda: placed(db) == 3, 60, "events were lost")
        until(lambda: one.call("GET", "/metrics", token)[0] == 200, 30, "no metrics")
        until(lambda: is_driven(db), 20, "a command could drive its runs beside it")
        assert one.stop() == 0
        assert "cannot be reached" in errors_of(one)
    finally:
        one.kill()


def test_a_worker_that_is_frozen_past_its_lease_is_overtaken_and_writes_nothing(
    duty: Duty, token: str, postgresql: Server
) -> None:
    """The first leg waits for metrics that nobody serves, so that it can be frozen inside it."""
    fleet = duty.operations / "policies" / "fleet.yaml"
    fleet.write_text(fleet.read_text("utf-8").replace("lease_s: 15", "lease_s: 2"), "utf-8")
    db = postgresql.url(postgresql.database("ready"))
    workers = {name: worker(duty, name, db) for name in ("a", "b")}

    def holder() -> str:
        with Ledger.open(db, read_only=True) as ledger, ledger.read() as tx:
            held = [x for x in leases.list_held(tx) if not x.run_id.startswith("worker:")]
            return held[0].holder if held else ""

    try:
        for one in workers.values():
            one.start()
        assert workers["a"].call("POST", EVENTS, token, webhook(1))[0] == 202
        until(holder, 20, "nobody took the run")
        first = holder()
        frozen = workers.pop(first)
        (other,) = workers
        assert frozen.process is not None
        os.kill(frozen.process.pid, signal.SIGSTOP)
        until(lambda: holder() == other, 30, "nobody took it over")
        os.kill(frozen.process.pid, signal.SIGCONT)
        until(lambda: frozen.call("GET", "/healthz", "")[0] == 200, 20, "it does not go on")
        with Ledger.open(db, read_only=True) as ledger:

            def triaged() -> int:
                with ledger.read() as tx:
                    assert evidence.verify(tx).ok
                    return len(evidence.list_records(tx, kinds=("triage",)))

            until(triaged, 60, "the run did not go on")
            assert frozen.call("POST", EVENTS, token, webhook(2))[0] == 202
            time.sleep(3)
            assert triaged() == 1
        until(lambda: placed(db) == 2, 30, "an event was lost")
        assert (frozen.stop(), workers[other].stop()) == (0, 0)
        assert "stale" in errors_of(frozen) or "ran out" in errors_of(frozen)
        errors_of(workers[other])
    finally:
        frozen_or_not = [*workers.values(), frozen]
        for one in frozen_or_not:
            one.kill()


def test_ten_thousand_duplicates_over_http_are_one_run_in_bounded_time_and_memory(
    duty: Duty, token: str
) -> None:
    duty.start()
    assert duty.process is not None
    connection = http.client.HTTPConnection(urlsplit(duty.url).netloc, timeout=30)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    bodies = [json.dumps(webhook(5, same=True)), json.dumps(webhook(1))]

    def deliver(count: int) -> set[int]:
        statuses = set()
        for n in range(count):
            connection.request("POST", EVENTS, bodies[n % 2], headers)
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
        return statuses

    assert deliver(200) == {200, 202}
    before = resident_bytes(duty.process.pid)
    began = time.monotonic()
    assert deliver(3200) == {200}
    took_s = time.monotonic() - began
    connection.close()
    assert took_s < 60
    assert resident_bytes(duty.process.pid) - before < 64 * 1024 * 1024
    status, text = duty.call("GET", "/metrics", token)
    assert status == 200
    assert 'loop4_queue_depth{queue="events"} 0' in text
    ledger = duty.root / "data" / "ledger.db"
    until(lambda: placed(ledger) == 1, 20, "the one event was not placed")
    assert duty.stop() == 0
    errors_of(duty)


def test_hundreds_of_different_alerts_at_once_are_all_placed_and_the_door_stays_open(
    duty: Duty, token: str
) -> None:
    duty.start()
    assert duty.call("POST", EVENTS, token, webhook(200)) == (
        202,
        '{"events":200,"accepted":200}',
    )
    longest_s = 0.0

    def all_placed() -> bool:
        nonlocal longest_s
        began = time.monotonic()
        assert duty.call("GET", "/healthz", "")[0] == 200
        longest_s = max(longest_s, time.monotonic() - began)
        return placed(duty.root / "data" / "ledger.db") == 200

    until(all_placed, 120, "they were not all placed")
    assert longest_s < 5
    assert duty.stop() == 0
    errors_of(duty)


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
