"""The bounds that `bench/model.py` measures; its times are its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from loop4.tools.backends.recording_file import read_recording

PATH = Path(__file__).parents[1] / "bench" / "model.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """bench/model.py, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("bench_model", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_model"] = module
    spec.loader.exec_module(module)
    return module


def test_a_model_that_reads_all_it_may_stays_under_the_prompt_limit(bench: ModuleType) -> None:
    name, _ = bench.truths()[0]
    with bench.server() as url:
        planner = bench.planner_at(url, "greedy")
        share = bench.run_once(read_recording(bench.INCIDENTS / name), planner).replayed.model
    assert share.calls >= 4 * 3
    assert 1_000 < share.largest_prompt < bench.MOST_PROMPT_TOKENS


def test_a_sentence_is_checked_long_before_its_time_is_up(bench: ModuleType) -> None:
    assert bench.sentence_ms() < bench.MOST_SENTENCE_MS


def test_what_is_over_its_limit_is_said(bench: ModuleType) -> None:
    good = {"max_prompt_tokens": 5_999, "overhead_ms_per_turn": 19.9, "sentence_check_ms": 1.0}
    assert bench.problems(good) == []
    assert bench.problems({**good, "overhead_ms_per_turn": None}) == [
        "overhead_ms_per_turn is None, the limit is 20.0"
    ]
    assert len(bench.problems({**good, "max_prompt_tokens": 6_000})) == 1
