"""The operations folder as a place to write: whole new files below `work/`, or nothing."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from loop4.errors import Refused, Unreachable
from loop4.tools.backends.ports import WriteResult

_LONGEST_NAME = 200
_LARGEST = 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class OperationsFolder:
    """The `FileSystem` port on a local folder.

    Every step goes through directory handles that refuse symbolic links, so a link put there while
    we write cannot lead out of `work/`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write_new(self, path: str, text: str, *, mark: str) -> WriteResult:
        """Create `path` (relative, below work/) with exactly this text, in one step.

        The same text again changes nothing, whatever the mark. Raises Refused for a path outside
        work/ or an existing file with other text, Unreachable when the disk does not take it; in
        both cases nothing was changed.
        """
        parts = _parts(path)
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Refused(
                f"the text for {path!r} holds half a character: {error.reason}"
            ) from error
        if len(data) > _LARGEST:
            raise Refused(f"{path!r} would hold {len(data)} bytes; expected at most {_LARGEST}")
        return await asyncio.to_thread(self._write, path, parts, data, mark)

    def _write(self, path: str, parts: tuple[str, ...], data: bytes, mark: str) -> WriteResult:
        try:
            with _folder(self._root, parts[:-1]) as folder:
                return _create(folder, parts[-1], path, data, mark)
        except OSError as error:
            raise _explained(self._root, path, error) from error


def _parts(path: str) -> tuple[str, ...]:
    """The path's names. Raises Refused for anything but a plain relative path below work/."""
    parts = PurePosixPath(path).parts
    plain = (
        len(parts) >= 2
        and parts[0] == "work"
        and "/".join(parts) == path
        and not any(_is_odd(part) for part in parts)
    )
    if not plain:
        raise Refused(
            f"path {path!r} is not below work/; expected a path such as work/signals/x.md"
        )
    return parts


def _is_odd(part: str) -> bool:
    """Whether a name would hide, climb, or surprise a shell or another system."""
    return (
        part.startswith((".", "-"))
        or len(part.encode("utf-8", errors="replace")) > _LONGEST_NAME
        or "\\" in part
        or not part.isprintable()
    )


@contextmanager
def _folder(root: Path, names: tuple[str, ...]) -> Iterator[int]:
    """A handle on the folder, its missing parts made; links on the way are refused."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            try:
                os.mkdir(name, dir_fd=handle)
                os.fsync(handle)
            except FileExistsError:
                pass
            below = os.open(name, _DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _create(folder: int, name: str, path: str, data: bytes, mark: str) -> WriteResult:
    """Write beside, then link to the name: the file is there whole or not at all."""
    if (present := _present(folder, name)) is not None:
        return _settled(path, present, data)
    beside = f".{name[:100]}.{os.urandom(6).hex()}.part"
    handle = os.open(beside, _NEW_FILE, 0o644, dir_fd=folder)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return _settled(path, _present(folder, name), data)
    finally:
        os.unlink(beside, dir_fd=folder)
    os.fsync(folder)
    return WriteResult(True, {}, {"path": path, "bytes": len(data), "mark": mark})


def _settled(path: str, present: bytes | None, data: bytes) -> WriteResult:
    """The answer for a file that was there already."""
    if present != data:
        raise Refused(f"{path!r} exists with other text; records are never overwritten")
    state: dict[str, int | str] = {"path": path, "bytes": len(data)}
    return WriteResult(False, state, state)


def _present(folder: int, name: str) -> bytes | None:
    """The bytes of an existing file, one more than we write at most; None if there is none."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:
        return file.read(_LARGEST + 1)


_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk reports an error",
    errno.ENOENT: "the folder does not exist",
}


def disk_reason(error: OSError) -> str:
    """Why the disk did not take it, in words."""
    return _DISK.get(error.errno or 0, error.strerror or str(error))


def _explained(root: Path, path: str, error: OSError) -> Refused | Unreachable:
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMLINK):
        return Refused(
            f"path {path!r} below {str(root)!r} leads through a link or something that is no folder"
        )
    return Unreachable(f"cannot write {path!r} below {str(root)!r}: {disk_reason(error)}")
