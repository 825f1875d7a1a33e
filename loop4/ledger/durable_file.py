"""Files that are written whole, are on the disk when the call returns, and replace nothing."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from loop4.errors import Loop4Error


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a file to write; when the block ends well it stands at `path`, synced, else not at all.

    An earlier file at `path` stays until then. Raises Loop4Error with the reason.
    """
    with _told(path), _beside(path, mode) as (file, name):
        yield file
        _sync(file)
        os.replace(name, path)
        _sync_folder(path.parent)


def write_new(path: Path, body: bytes, *, mode: int = 0o644) -> bool:
    """Write a new file, synced, in one step. False: there is one already, left as it is.

    Raises Loop4Error with the reason; no part of it is left then.
    """
    with _told(path), _beside(path, mode) as (file, name):
        file.write(body)
        _sync(file)
        try:
            os.link(name, path)  # unlike a rename, this never replaces
        except FileExistsError:
            return False
        _sync_folder(path.parent)
    return True


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Loop4Error(f"{str(path)!r} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _beside(path: Path, mode: int) -> Iterator[tuple[BinaryIO, str]]:
    """A temporary file in the same folder, mode 0600 until it is complete, gone afterwards."""
    number, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file, name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
