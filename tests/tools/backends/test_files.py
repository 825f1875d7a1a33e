from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.errors import Refused, Unreachable
from loop4.tools.backends.files import OperationsFolder
from loop4.tools.backends.ports import WriteResult

PAGE = "work/signals/2026-11-25-orders.md"


def write(root: Path, path: str, text: str = "> **Key:** value\n") -> WriteResult:
    return asyncio.run(OperationsFolder(root).write_new(path, text, mark="act-1"))


def files_below(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def test_a_new_file_is_there_whole_and_nothing_else(tmp_path: Path) -> None:
    result = write(tmp_path, PAGE, "Größe\n")
    assert result.changed
    assert result.after["mark"] == "act-1"
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == "Größe\n"
    assert files_below(tmp_path) == [PAGE]


def test_the_same_text_again_changes_nothing_and_other_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, PAGE)
    before = (tmp_path / PAGE).stat()
    assert not write(tmp_path, PAGE).changed
    with pytest.raises(Refused, match="never overwritten"):
        write(tmp_path, PAGE, "other")
    assert (tmp_path / PAGE).stat() == before
    assert files_below(tmp_path) == [PAGE]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "work",
        "work/",
        "/etc/passwd",
        "policies/people.yaml",
        "../work/x.md",
        "work/../policies/x.md",
        "work/./x.md",
        "work//x.md",
        "work/x.md/",
        "work/.git/hooks",
        "work/-rf",
        "work/a\nb.md",
        "work/a\0b.md",
        "work\\x.md",
        "work/a\\b.md",
        "work/" + "x" * 300,
        "WORK/x.md",
        "work/\u202ex.md",
    ],
)
def test_a_path_outside_work_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(Refused, match="work/"):
        write(tmp_path, path)
    assert list(tmp_path.iterdir()) == []


@given(path=st.text(alphabet="work/.a-_\\", max_size=20))
def test_no_path_writes_outside_work(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    root = tmp_path_factory.mktemp("operations", numbered=True) / "inner"
    root.mkdir()
    try:
        write(root, path)
    except Refused:
        assert files_below(root.parent) == []
    else:
        assert files_below(root.parent) == [f"inner/{path}"]
        assert path.startswith("work/")


def test_a_link_on_the_way_is_refused_and_nothing_is_written_behind_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "operations"
    (root / "work").mkdir(parents=True)
    (root / "work" / "signals").symlink_to(outside)
    (root / "work" / "page.md").symlink_to(outside / "page.md")
    (root / "work" / "file.md").write_text("x")
    for path in (PAGE, "work/page.md", "work/file.md/x.md"):
        with pytest.raises(Refused, match="link"):
            write(root, path)
    assert list(outside.iterdir()) == []


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="does not exist") as refused:
        write(tmp_path / "nowhere", PAGE)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_where_the_file_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / PAGE).mkdir(parents=True)
    with pytest.raises(Refused):
        write(tmp_path, PAGE)


def test_text_that_is_too_long_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="at most"):
        write(tmp_path, PAGE, "x" * 1_048_577)
    with pytest.raises(Refused, match="half a character"):
        write(tmp_path, PAGE, "\ud800")
    assert files_below(tmp_path) == []


def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path) -> None:
    """A process may write files of 1000 bytes at most: the write fails in the middle, as on a full
    disk.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Unreachable, match="cannot write"):
            write(tmp_path, PAGE, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert files_below(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    """/proc takes no new folders, for root neither."""
    with pytest.raises(Unreachable, match="cannot write"):
        write(Path("/proc"), PAGE)


def test_of_many_writers_of_one_path_exactly_one_creates_it(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path;"
        "from loop4.tools.backends.files import OperationsFolder;"
        "from loop4.errors import Refused\n"
        "async def main():\n"
        "    folder = OperationsFolder(Path(sys.argv[1]))\n"
        "    for n in range(40):\n"
        "        try:\n"
        "            r = await folder.write_new(f'work/{n}.md', sys.argv[2], mark='m')\n"
        "            print(n, r.changed)\n"
        "        except Refused:\n"
        "            print(n, 'refused')\n"
        "asyncio.run(main())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), text],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        for text in ("one", "two", "two")
    ]
    lines = [line for process in running for line in process.communicate(timeout=30)[0].split("\n")]
    assert all(process.returncode == 0 for process in running)
    for number in range(40):
        assert lines.count(f"{number} True") == 1
        assert (tmp_path / f"work/{number}.md").read_text() in ("one", "two")
    assert len(files_below(tmp_path)) == 40
