"""The bench of the evidence chain runs, small, on the real ledger; its figures are its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PATH = Path(__file__).parents[1] / "bench" / "ledger.py"


def test_the_bench_measures_writing_exporting_and_checking(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("bench_ledger", PATH)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    sys.modules["bench_ledger"] = bench
    spec.loader.exec_module(bench)
    result = bench.measure(tmp_path, records=1, batches=1)
    assert abs(result["record_bytes"] - bench.RECORD_BYTES) <= 3
    assert set(bench.LIMITS) <= set(result)
    assert all(value > 0 for value in result.values())
