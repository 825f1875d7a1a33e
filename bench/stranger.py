"""Evidence in a stranger's hands: a fresh virtual environment, the export, the public key.

    python bench/stranger.py [--json]

Makes an environment, installs this package without its dependencies and the three packages that
checking needs, and runs `loop4 evidence verify --export` there: on a good export, and on five that
were tampered with, each of which must be named. Needs the package index; takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from loop4.ledger import evidence, signing
from loop4.ledger.export_write import write_export
from loop4.ledger.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("cryptography", "rfc8785", "typer")
RECORDS = 1000
EXPECTED = {
    "good": "",
    "edited": "edited",
    "removed": "removed",
    "reordered": "reordered",
    "truncated": "truncated",
    "forged": "signed by another key",
}


def main() -> int:
    """Print one row an export; 0 when each is named as expected."""
    parser = argparse.ArgumentParser(description="evidence checked by a stranger")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loop4-bench-") as folder:
        rows = _rows(Path(folder))
    holds = all(row["named"] == EXPECTED[str(row["export"])] for row in rows)
    if given.json:
        print(json.dumps({"rows": rows, "holds": holds}, indent=2))
    else:
        for row in rows:
            print(f"{row['export']:<10} exit {row['exit']}  {row['seconds']:.2f} s  {row['said']}")
        print("each is named" if holds else "NOT each is named")
    return 0 if holds else 1


def _rows(folder: Path) -> list[dict[str, str | int | float]]:
    desk = folder / "desk"
    desk.mkdir()
    _exports(folder, desk)
    python = _environment(folder / "venv")
    return [_checked(python, desk, name) for name in EXPECTED]


def _environment(place: Path) -> str:
    venv.create(place, with_pip=True)
    python = str(place / "bin" / "python")
    for words in (["--no-deps", str(ROOT)], NEEDED):
        command = [python, "-m", "pip", "install", "-q", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
    return python


def _exports(folder: Path, desk: Path) -> None:
    """The good export, and what five people made of it, with the owner's public key."""
    (folder / "other").mkdir()
    owner = signing.generate_keys(folder)
    good, forged = desk / "good.jsonl", desk / "forged.jsonl"
    for path, signer, note in (
        (good, owner, "true"),
        (forged, signing.generate_keys(folder / "other"), "false"),
    ):
        with Ledger.open(folder / f"{note}.db") as ledger:
            with ledger.transaction() as tx:
                for number in range(RECORDS):
                    evidence.append(
                        tx, "note", "INC-1", "", {"n": number, "is": note}, at_ms=number
                    )
            with ledger.read() as tx:
                write_export(tx, signer, path, 1)
    (desk / "key.pem").write_bytes((folder / signing.PUBLIC_NAME).read_bytes())
    lines = good.read_bytes().splitlines(keepends=True)
    changed = lines[500].replace(b"true", b"fine")
    _write(desk / "edited.jsonl", [*lines[:500], changed, *lines[501:]])
    _write(desk / "removed.jsonl", [*lines[:500], *lines[501:]])
    _write(desk / "reordered.jsonl", [*lines[:500], lines[501], lines[500], *lines[502:]])
    _write(desk / "truncated.jsonl", [*lines[:-20], lines[-1]])


def _write(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))


def _checked(python: str, desk: Path, name: str) -> dict[str, str | int | float]:
    command = ["-m", "loop4.cli.main", "evidence", "verify", "--json", "--key", "key.pem"]
    started = time.perf_counter()
    done = subprocess.run(
        [python, *command, "--export", f"{name}.jsonl"],
        cwd=desk,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - started
    if not done.stdout:
        raise SystemExit(f"{name}: {done.stderr}")
    answer = json.loads(done.stdout)
    said = answer["problem"] or f"evidence ok: {answer['records']} records"
    return {
        "export": name,
        "exit": done.returncode,
        "named": answer["tampering"] or "",
        "said": said,
        "seconds": round(took, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
