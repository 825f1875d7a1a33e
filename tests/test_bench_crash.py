"""Eight cells of the crash matrix: each point of no return once, both databases, one worker and
two, and once the ledger alone.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.postgresql import INSTALL, binaries

pytestmark = pytest.mark.live

PATH = Path(__file__).parents[1] / "bench" / "crash.py"
CELLS = (
    ("before_intent", "postgresql", 1),
    ("after_intent", "sqlite", 2),
    ("after_effect", "postgresql", 2),
    ("after_outcome", "sqlite", 1),
    ("approval_wait", "sqlite", 2),
    ("after_vote", "postgresql", 2),
    ("wake_at", "sqlite", 1),
    ("ledger_alone", "sqlite", 1),
)
AT_ONCE = 4


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """bench/crash.py, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("bench_crash", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_crash"] = module
    spec.loader.exec_module(module)
    return module


def test_a_worker_that_is_killed_at_any_point_leaves_one_effect_and_nothing_lost(
    bench: ModuleType, tmp_path: Path
) -> None:
    if binaries() is None:
        pytest.skip(INSTALL)
    report = bench.run([bench.Cell(*cell) for cell in CELLS], 1, AT_ONCE, tmp_path, say=False)

    assert [row["problems"] for row in report["rows"]] == [[]] * len(CELLS)
    assert [row["effects"] for row in report["rows"]] == [1] * len(CELLS)
    assert (report["cells"], report["exactly_one"]) == (7, 7)
    assert (report["lost"], report["doubled"]) == (0, 0)
    assert report["beside"]["exactly_one"] == 1
    assert report["holds"] is True
