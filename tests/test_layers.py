"""The layers of the code as import-linter contracts, on this tree and on planted violations."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINKS = ("agents", "evals", "graphs", "lab", "policies", "tools")

LINT = "from importlinter.cli import lint_imports_command as run; run()"

# where it is planted -> the line, and the contract that must break
VIOLATIONS = {
    "policies/planted.py": ("import loop4.graphs.gate", "An import only goes downward"),
    "graphs/planted.py": (
        "import loop4.tools.executors",
        "Only graphs.act reaches the executors",
    ),
    "agents/signal.py": ("import loop4.agents.health", "Agents do not know each other"),
    "agents/planted.py": ("import langgraph.graph", "langgraph only in graphs"),
    "ledger/planted.py": ("import langchain_core.messages", "langgraph only in graphs"),
    "evals/planted.py": ("import sqlalchemy", "sqlalchemy only in the ledger"),
    "graphs/queue.py": ("import dbos", "dbos only in the engine"),
    "domain.py": ("import httpx", "Clients of other systems only in tools.backends"),
    "tools/planted.py": ("import promql_parser", "Tools reach other systems through a port"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with the folders where the links point."""
    if not all((ROOT / "loop4" / name).is_dir() for name in LINKS):
        pytest.skip("the links inside loop4/ are deleted; contracts are checked with them")
    ignore = shutil.ignore_patterns("__pycache__", "incidents")
    shutil.copytree(ROOT / "loop4", tmp_path / "loop4", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tree_keeps_every_contract(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout
    assert " kept, 0 broken" in done.stdout


def test_every_planted_violation_is_found(tree: Path) -> None:
    for name, (line, _) in VIOLATIONS.items():
        with (tree / "loop4" / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    done = lint(tree)
    assert done.returncode == 1
    broken = [row for row in done.stdout.splitlines() if " BROKEN" in row]
    for name, (_, contract) in VIOLATIONS.items():
        assert any(row.startswith(contract) for row in broken), name
        assert f"loop4.{name.removesuffix('.py').replace('/', '.')} ->" in done.stdout
