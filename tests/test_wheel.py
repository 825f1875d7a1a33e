"""The wheel holds exactly the files of the tree, and works without the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def package_folders() -> dict[str, str]:
    """Root folder -> its place in the wheel."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        mapping = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
    return {folder: package.replace(".", "/") for package, folder in mapping.items()}


def tree_files() -> list[str]:
    """Files of the tree as git sees it, ignored ones left out, links left out."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("this is not a git clone; the tree's files are not known")
    names = [name for name in done.stdout.split("\0") if name]
    return [n for n in names if (ROOT / n).is_file() and not (ROOT / n).is_symlink()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tree, built offline without the links."""
    copy = tmp_path_factory.mktemp("tree")
    for name in tree_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."],
        cwd=copy,
        env={**os.environ, "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_exactly_the_trees_package_files(wheel: Path) -> None:
    expected = set()
    for name in tree_files():
        folder, _, rest = name.partition("/")
        if rest and folder in package_folders():
            expected.add(f"{package_folders()[folder]}/{rest}")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert any(name.endswith(".yaml") for name in found)


def test_the_wheel_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "loop4 = loop4.cli.main:main" in archive.read(entry).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_works_without_the_tree(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = """
import importlib, pkgutil, sys
import loop4
assert loop4.__file__.startswith(sys.argv[1]), loop4.__file__
names = [m.name for m in pkgutil.walk_packages(loop4.__path__, "loop4.")]
for name in names:
    if not name.endswith(("__main__", "migrations.env")):  # Alembic runs that one itself
        module = importlib.import_module(name)
        assert module.__file__.startswith(sys.argv[1]), module.__file__
from loop4.policies.catalogue import shipped_catalogue
from loop4.policies.severity import load_severity
shipped_catalogue(), load_severity()
print(len(names))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
