"""What holds for every test: properties are judged by what they find, not by how busy the machine
is.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgresql import Server, new_server, prepare, remove

settings.register_profile("loop4", deadline=None)
settings.load_profile("loop4")

# Started with `&` in a script, a process ignores SIGINT and so do its children; tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# modules that take more than a few seconds; `.ci/run --quick` leaves them out
SLOW = frozenset(
    {
        "test_answers",
        "test_bad_disk",
        "test_bad_endpoint",
        "test_bad_input",
        "test_bench_graph",
        "test_bench_model",
        "test_crash_anywhere",
        "test_database_gone",
        "test_engine",
        "test_histories",
        "test_ingest",
        "test_injection",
        "test_investigate",
        "test_kill",
        "test_lab_backend",
        "test_model_planner",
        "test_process",
        "test_prometheus",
        "test_promql",
        "test_prove_mutants",
        "test_recorded",
        "test_recording",
        "test_replay",
        "test_replay_model",
        "test_resume",
        "test_rogues",
        "test_service",
        "test_talk",
        "test_wheel",
        "test_workers",
    }
)


# the second database doubles many tests; `.ci/run --quick` leaves it out
BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow modules; leave the exhaustive tests to those who ask for them."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
    if "exhaustive" not in config.option.markexpr:
        left = [item for item in items if item.get_closest_marker("exhaustive")]
        items[:] = [item for item in items if item not in left]
        if left:
            config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server for the whole run; its database `ready` holds an empty ledger."""
    server = new_server()
    try:
        server.start()
        prepare(server)
        yield server
    finally:
        remove(server)


@pytest.fixture(scope="module", params=BOTH)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database that a ledger can lie in."""
    return str(request.param)


@pytest.fixture(scope="module")
def new_place(
    request: pytest.FixtureRequest, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Path | str]:
    """Gives a place for one more ledger, of the kind in question, with nothing in it yet."""

    def make() -> Path | str:
        if kind == "sqlite":
            return tmp_path_factory.mktemp("ledger") / "ledger.db"
        server: Server = request.getfixturevalue("postgresql")
        return server.url(server.database())

    return make


@pytest.fixture
def place(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Path | str:
    """Where this test's ledger lies. In PostgreSQL its empty tables are there already."""
    if kind == "sqlite":
        return tmp_path / "ledger.db"
    server: Server = request.getfixturevalue("postgresql")
    return server.url(server.database("ready"))
