"""One runner per data folder, and the fence that tells runners apart."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from sqlalchemy import select, update

from loop4.errors import LedgerError, RunnerBusy
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import meta

LOOKS = 3
LOOK_S = 0.02


class RunnerLock:
    """The right to run a data folder. The kernel drops it when the process dies, in any way."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "runner.lock"
        self._file = -1

    def acquire(self) -> None:
        """Become the folder's runner. Raises RunnerBusy, naming process and file, if one lives."""
        if self._file >= 0:
            raise RunnerBusy(f"this process runs {str(self.path.parent)!r} already")
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(
                f"runner lock {str(self.path)!r} cannot be opened: {error.strerror}; "
                "name a data folder that exists and may be written"
            ) from error
        try:
            _lock(file)
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            owner = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise RunnerBusy(
                f"process {owner} runs {str(self.path.parent)!r} (lock file {str(self.path)!r}); "
                "stop it, or name another data folder"
            ) from error
        except OSError as error:
            os.close(file)
            raise LedgerError(
                f"runner lock {str(self.path)!r} cannot be written: {error.strerror}; "
                "free space or name another data folder"
            ) from error
        self._file = file

    def keep(self) -> None:
        """Nothing: the lock ends with this process."""

    def release(self) -> None:
        """Give the folder back. The file stays, so that no two processes lock different files."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> RunnerLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _lock(file: int) -> None:
    """Lock it, or raise BlockingIOError. Who only looks (`runner_of`) is gone in a moment."""
    for _ in range(LOOKS):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK_S)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def runner_of(data_dir: Path) -> str:
    """The process id of the live runner of a data folder; empty if there is none.

    Looks at the lock without waiting for it, and gives it back at once.
    """
    path = data_dir / "runner.lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ""
    except OSError:
        return os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(file)


def next_fence(tx: Tx) -> int:
    """Return a number higher than any before, over all processes; one per start of a runner."""
    row = tx.row(select(meta.c.value).where(meta.c.key == "fence"))
    if row is None:
        raise LedgerError("the ledger has lost its fence counter; restore the file from a copy")
    fence = int(row["value"]) + 1
    tx.change(update(meta).where(meta.c.key == "fence").values(value=str(fence)))
    return fence
