"""A result that is written to a file: checked before the work, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from loop4.errors import Loop4Error, UsageError


def check_place(path: Path) -> None:
    """Raise UsageError if `path` cannot become a file, before any work is done for it."""
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"--json {str(path)!r}: its folder does not exist; make it first")
    if path.is_dir():
        raise UsageError(f"--json {str(path)!r} is a folder; name a file")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--json {str(path)!r}: its folder cannot be written; name another")


def write_whole(path: Path, text: str) -> None:
    """Write `path` in one step. Raises Loop4Error with the reason; no part of it is left then."""
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Loop4Error(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
