"""What one incident costs in commits and checkpoint bytes; the time is `bench/graph.py`'s own."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[1] / "bench" / "graph.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """bench/graph.py, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("bench_graph", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_graph"] = module
    spec.loader.exec_module(module)
    return module


def test_one_incident_stays_inside_its_commits_and_checkpoint_bytes(
    bench: ModuleType, tmp_path: Path
) -> None:
    figures = asyncio.run(bench.run(2, 0, tmp_path, tmp_path))

    assert figures["interrupts"] == 2, "a person's vote and the verification window"
    assert 0 < figures["durable_commits"] <= 12
    assert 0 < figures["checkpoint_bytes"] <= 40 * 1024


def test_the_bare_graph_makes_the_same_visits_and_as_many_bytes(
    bench: ModuleType, tmp_path: Path
) -> None:
    async def both() -> tuple[int, int]:
        async with bench.bench_in(tmp_path, tmp_path) as stage:
            run, visits = await stage.incident()
            await stage.bare(visits, "bare-00000000")
        (ours, size), (theirs, bare_size) = (
            bench.stored_bytes(tmp_path / "checkpoints.db", run.run_id),
            bench.stored_bytes(tmp_path / "bare.db", "bare-00000000"),
        )
        assert abs(size - bare_size) < size / 20
        return ours, theirs

    ours, theirs = asyncio.run(both())
    assert ours == theirs > 0
