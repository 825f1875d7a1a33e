"""What the README promises is there: its two commands, and every setting."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from loop4.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (
    "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt -e . "
    "&& .venv/bin/loop4 demo",
    "python3 -m venv .venv && .venv/bin/pip install -q -r requirements-dev.txt -e . "
    "&& .venv/bin/pytest",
)


def test_the_two_commands_stand_there_verbatim() -> None:
    found = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert found == list(COMMANDS)


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -E '(.+)' README\.md", script)
    assert pattern is not None
    found = [line for line in README.splitlines() if re.search(pattern.group(1), line)]
    assert found == [COMMANDS[1]]


def test_every_setting_is_explained_and_nothing_else() -> None:
    variables = set(re.findall(r"^\| `LOOP4_([A-Z_]+)` \|", README, re.MULTILINE))
    assert variables == {field.name.upper() for field in dataclasses.fields(Settings)}


def test_every_linked_file_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
