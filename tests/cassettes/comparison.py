"""Print the five recordings decided without a model and with the small one of the cassettes:
`python tests/cassettes/comparison.py`. Times with it are those of playing, not of a model.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from loop4.evals.with_model import Pair, table
from tests.cassettes.stories import NOWHERE, RECORDINGS, planner_at, replay_story
from tests.cassettes.tape import RECORD, RECORDED, tape


def pair_of(name: str) -> Pair:
    """One recording both ways."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        without = asyncio.run(replay_story(name, Path(folder) / "without", None))
        between = time.monotonic()
        with tape(RECORDED / f"{name.removesuffix('.jsonl.gz')}.json"):
            aided = asyncio.run(replay_story(name, Path(folder) / "aided", planner_at(NOWHERE)))
        ended = time.monotonic()
    return Pair(name, without, aided, between - started, ended - between)


def main() -> int:
    """Print the table; 0 when all are the same."""
    os.environ.pop(RECORD, None)
    pairs = [pair_of(name) for name in RECORDINGS]
    print(table(pairs))
    return 0 if all(pair.is_same for pair in pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
