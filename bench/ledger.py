"""How fast evidence is written, exported and checked: `python bench/ledger.py [--json]`.

    python bench/ledger.py [--records 600] [--batches 100] [--folder DIR] [--json]

Single records, each in a transaction of its own with synchronous=FULL, take turns with bare appends
of the same 453 bytes to a file, each with its own fsync: what the disk allows. Rates are medians
over the turns; the ratio is the median over pairs of turns, since a shared disk's speed drifts.
Batches have 100 records in one transaction, and take turns with bare appends of 45,300 bytes. The
folder must lie on a disk: fsync costs nothing in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loop4.canonical import canonical_bytes
from loop4.domain import Json
from loop4.ledger import evidence, signing
from loop4.ledger.chain import COLUMNS
from loop4.ledger.checkpoints import checkpoint_now
from loop4.ledger.evidence import EvidenceRecord
from loop4.ledger.export_check import check_export
from loop4.ledger.export_write import write_export
from loop4.ledger.ledger import Ledger

RECORD_BYTES = 453
BATCH = 100
TURN = 30  # records that one side writes before the other has its turn
LIMITS = {"single_ratio": 0.45, "batched_per_s": 5000.0}


def main() -> int:
    """Measure, print, and return 0 when the limits hold."""
    parser = argparse.ArgumentParser(description="the evidence chain")
    parser.add_argument("--records", type=int, default=600)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loop4-bench-", dir=given.folder) as folder:
        result = measure(Path(folder), given.records, given.batches)
    holds = (
        result["single_ratio"] >= LIMITS["single_ratio"]
        and result["batched_per_s"] >= LIMITS["batched_per_s"]
    )
    if given.json:
        print(json.dumps({**result, "limits": LIMITS, "holds": holds}, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:<22}{value:>12,.2f}")
        print(f"limits {LIMITS}: {'hold' if holds else 'DO NOT HOLD'}")
    return 0 if holds else 1


def measure(folder: Path, records: int, batches: int) -> dict[str, float]:
    """Rates in records a second, and their ratios."""
    result: dict[str, float] = {}
    with Ledger.open(folder / "ledger.db") as ledger:
        body = _body(ledger)
        turns = max(records // TURN, 3)
        bare, single, ratio = _in_turns(
            turns,
            lambda log: _bare(log, RECORD_BYTES, TURN),
            lambda: _append(ledger, body, TURN, each=1),
            folder / "single.log",
        )
        result |= {
            "record_bytes": _size(ledger),
            "bare_fsync_per_s": TURN / bare,
            "single_per_s": TURN / single,
            "single_ratio": ratio,
        }
        per_turn = 10 * BATCH
        _, batched, ratio = _in_turns(
            max(batches // 10, 3),
            lambda log: _bare(log, RECORD_BYTES * BATCH, 10),
            lambda: _append(ledger, body, per_turn, each=BATCH),
            folder / "batch.log",
        )
        result |= {"batched_per_s": per_turn / batched, "batched_ratio": ratio}
        result |= _reading(ledger, folder)
    return result


def _in_turns(
    turns: int, bare: Callable[[int], None], ours: Callable[[], None], log: Path
) -> tuple[float, float, float]:
    """The median seconds of a turn of each, and the median of bare / ours within a pair of turns.

    Which one begins changes from pair to pair.
    """
    number = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    sides: list[tuple[str, Callable[[], None]]] = [("bare", lambda: bare(number)), ("ours", ours)]
    for _, work in sides:  # the first turn warms caches and files
        work()
    for turn in range(turns):
        for side, work in sides if turn % 2 else sides[::-1]:
            started = time.perf_counter()
            work()
            times[side].append(time.perf_counter() - started)
    os.close(number)
    ratios = [bare / ours for bare, ours in zip(times["bare"], times["ours"], strict=True)]
    return (
        statistics.median(times["bare"]),
        statistics.median(times["ours"]),
        statistics.median(ratios),
    )


def _bare(log: int, size: int, count: int) -> None:
    line = b"x" * (size - 1) + b"\n"
    for _ in range(count):
        os.write(log, line)
        os.fsync(log)


def _append(ledger: Ledger, body: dict[str, Json], count: int, *, each: int) -> None:
    number = 10_000
    for _ in range(count // each):
        with ledger.transaction() as tx:
            for _ in range(each):
                number += 1
                own = {**body, "target": f"orders-v2-{number}"}  # none like another
                evidence.append(
                    tx, "decision", "INC-2026-001", "run-1", own, at_ms=1_790_000_000_000
                )


def _body(ledger: Ledger) -> dict[str, Json]:
    """A decision's body, padded so that a stored record has `RECORD_BYTES`."""
    body: dict[str, Json] = {
        "tool": "workloads.restart",
        "target": "orders-v2",
        "facts": {"restarts_1h": 0, "traffic_share_bp": 1250},
        "effect": "allow",
        "rules": ["restart-within-budget"],
    }
    _append(ledger, body, 1, each=1)
    body["reason"] = ""
    _append(ledger, body, 1, each=1)
    body["reason"] = "x" * (RECORD_BYTES - round(_size(ledger)))
    _append(ledger, body, 1, each=1)
    return body


def _size(ledger: Ledger) -> float:
    """Bytes of the last record as text, without names of columns."""
    with ledger.read() as tx:
        record = evidence.list_records(tx)[-1]
    return float(len("".join(_text(record, name) for name in COLUMNS)))


def _text(record: EvidenceRecord, name: str) -> str:
    value = getattr(record, name)
    return canonical_bytes(value).decode() if name == "body" else str(value)


def _reading(ledger: Ledger, folder: Path) -> dict[str, float]:
    signer, out = signing.generate_keys(folder), folder / "export.jsonl"
    with ledger.read() as tx:
        started = time.perf_counter()
        report = evidence.verify(tx)
        walked = time.perf_counter() - started
    if not report.ok:
        raise SystemExit(f"the chain does not verify: {report.problem}")
    started = time.perf_counter()
    signed = checkpoint_now(ledger, signer, 1)
    first = time.perf_counter() - started
    with ledger.read() as tx:
        started = time.perf_counter()
        write_export(tx, signer, out, 1)
        exported = time.perf_counter() - started
    started = time.perf_counter()
    checked = check_export(out, [signer.public], [("kept", signed)] if signed else [])
    took = time.perf_counter() - started
    if checked.tampering is not None:
        raise SystemExit(f"the export does not verify: {checked.problem}")
    return {
        "records": report.records,
        "walk_per_s": report.records / walked,
        "checkpoint_per_s": report.records / first,
        "export_per_s": report.records / exported,
        "check_per_s": report.records / took,
    }


if __name__ == "__main__":
    sys.exit(main())
