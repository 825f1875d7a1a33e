"""A full or read-only disk under the real command line: one line, and a ledger that still holds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Desk
from tests.cli.test_handle import event


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own in memory."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small file system")
    folder.mkdir()
    mounted = subprocess.run(
        [str(shutil.which("mount")), "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let root mount: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([str(shutil.which("umount")), str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    words = [str(shutil.which("mount")), "-o", f"remount,{options}", str(folder)]
    subprocess.run(words, check=True, capture_output=True)


def fill(folder: Path, leave: int) -> None:
    """Use the disk up but for `leave` bytes."""
    free = shutil.disk_usage(folder).free
    (folder / "filler").write_bytes(b"\0" * max(0, free - leave))


def test_a_read_only_data_folder_is_one_line_and_stays_as_it_is(watched: Desk) -> None:
    file = watched.write("e.json", event())
    with disk(watched.root / "disk", "size=8m") as folder:
        fresh, used = folder / "fresh", folder / "used"
        fresh.mkdir()
        watched.json("handle", file, "--data", used)
        remount(folder, "ro")
        for data in (fresh, used, folder / "none"):
            assert watched.refused("handle", file, "--data", data)[0] == 1
        assert watched.refused("resume", "--data", used)[0] == 1
        remount(folder, "rw")
        watched.json("resume", "--data", used)


def test_a_full_disk_is_one_line_and_the_chain_holds_wherever_it_happens(
    watched: Desk,
) -> None:
    """With more and more room left, until a run finds enough of it."""
    codes = []
    for number, leave in enumerate((0, 16, 128, 256, 2048)):
        with disk(watched.root / f"disk{number}", "size=4m") as folder:
            data = folder / "data"
            watched.json("handle", watched.write("1.json", event(service="nobody")), "--data", data)
            fill(folder, leave * 1024)
            code, out, err = watched.say(
                "handle", watched.write("2.json", event(event_id="check-2")), "--data", data
            )
            codes.append(code)
            (folder / "filler").unlink()
            if code:
                assert (code, out) == (1, "")
                assert err.startswith("loop4: ")
                assert err.count("\n") == 1
            assert watched.say("evidence", "verify", "--data", data)[0] == 0
            assert watched.say("resume", "--data", data)[0] == 0
    assert codes[0] == 1
    assert codes[-1] == 0
    assert codes == sorted(codes, reverse=True)


def test_a_ledger_on_a_full_disk_is_not_begun(watched: Desk) -> None:
    with disk(watched.root / "disk", "size=64k") as folder:
        fill(folder, 0)
        file = watched.write("e.json", event())
        code, out, err = watched.say("handle", file, "--data", folder / "data")
        assert (code, out) == (1, "")
        assert err.startswith("loop4: ")
        assert err.count("\n") == 1
        (folder / "filler").unlink()
        remount(folder, "size=8m")
        watched.json("handle", file, "--data", folder / "data")


def test_a_result_file_on_a_full_disk_is_written_whole_or_not_at_all(desk: Desk) -> None:
    from loop4.cli.output_file import write_whole
    from loop4.errors import Loop4Error

    with disk(desk.root / "disk", "size=64k") as folder:
        file = folder / "out.json"
        file.write_text("before")
        with pytest.raises(Loop4Error, match="cannot be written: No space left"):
            write_whole(file, "x" * 100_000)
        assert [p.name for p in folder.iterdir()] == ["out.json"]
        assert file.read_text() == "before"
