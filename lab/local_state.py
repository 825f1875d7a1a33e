"""A replica's local journal: the state that survives a respawn and that a clean start wipes."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

from loop4.errors import LabError


class JournalDamaged(LabError):
    """The journal does not match its checksum; the replica will not serve from it."""


def open_journal(directory: Path) -> None:
    """Create the journal, or check the one that is there. Raises JournalDamaged."""
    path = directory / "journal"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        body = b"sequence=1\n"
        path.write_bytes(b"%08x " % zlib.crc32(body) + body)
        return
    checksum, _, body = path.read_bytes().partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise JournalDamaged(
            f"journal checksum mismatch at record 1: stored {checksum.decode('latin-1')}, computed"
            f" {zlib.crc32(body):08x}; refusing to serve from damaged local state"
        )


def damage_journal(directory: Path) -> None:
    """Tear the last write, as a crash between two disk blocks would."""
    path = directory / "journal"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x00")


def wipe(directory: Path) -> None:
    """Forget the local state: the next start is a clean one."""
    shutil.rmtree(directory, ignore_errors=True)
