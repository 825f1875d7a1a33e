"""What holds for every test: properties are judged by what they find, not by how busy the machine
is.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

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
