"""The second place: a folder that keeps a copy of each checkpoint of one ledger.

It must lie where whoever owns the database cannot write: a mount, a clone that is pushed, a synced
bucket. Each ledger has a folder of its own, so that a ledger put in another's place is seen.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from loop4.canonical import canonical_bytes
from loop4.errors import EvidenceError, InputError, Loop4Error, UsageError
from loop4.ledger.durable_file import replacing
from loop4.ledger.jsontext import parse_strictly
from loop4.ledger.statements import Checkpoint, checkpoint_from

OF_ANOTHER = (
    "it is of another ledger: either this ledger was put in its place, or the folder is not its own"
)
_FILE_BYTES = 4096  # a checkpoint has 400
_NAME = re.compile(r"(loop4-[0-9a-f]{32})-([0-9]{12})-[0-9a-f]{8}\.json")


def check_second_place(folder: Path, data: Path) -> Path:
    """Return `folder` if it can be the second place for that data folder. Raises UsageError.

    It must exist: a mount that is missing must not be replaced by a folder on the same disk.
    """
    if not folder.is_dir():
        raise UsageError(
            f"checkpoints folder {str(folder)!r} does not exist; make it, or mount what it stands "
            "for"
        )
    if folder.resolve().is_relative_to(data.resolve()):
        raise UsageError(
            f"checkpoints folder {str(folder)!r} lies in the data folder; a copy beside the "
            "original proves nothing, name a place that whoever owns the data cannot write"
        )
    return folder


def copy_to(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into the folder, synced, unless it is there. Returns the file.

    Raises EvidenceError for a folder that keeps another ledger's checkpoints.
    """
    path = folder / f"{checkpoint.origin}-{checkpoint.size:012}-{checkpoint.root[:8]}.json"
    if not path.exists():
        _own_copies(folder, checkpoint.origin)
        with replacing(path) as file:
            file.write(canonical_bytes(checkpoint.as_json()) + b"\n")
    return path


def newest_copy(folder: Path, name: str) -> Checkpoint | None:
    """Return the copy of the longest chain of the ledger `name`, or None.

    Raises EvidenceError for a folder that keeps another ledger's checkpoints, InputError for a copy
    that cannot be read.
    """
    own = _own_copies(folder, name)
    return read_file(folder / max(own)) if own else None


def copies_in(folder: Path) -> tuple[tuple[str, Checkpoint], ...]:
    """Return file and checkpoint for each copy in the folder, whatever ledger it is of."""
    return tuple((str(folder / name), read_file(folder / name)) for name in sorted(_names(folder)))


def read_file(path: Path) -> Checkpoint:
    """Return the checkpoint of a file. Raises InputError for anything else."""
    try:
        with path.open("rb") as file:
            body = file.read(_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{str(path)!r} cannot be read ({reason}); expected a checkpoint") from (
            error
        )
    if len(body) > _FILE_BYTES:
        raise InputError(f"{str(path)!r} is no checkpoint: more than {_FILE_BYTES} bytes")
    return checkpoint_from(parse_strictly(body, repr(str(path))), repr(str(path)))


def _own_copies(folder: Path, name: str) -> list[str]:
    """Names of files; by name they are in order of the chain's length."""
    found = _names(folder)
    other = next((file for file in found if not file.startswith(f"{name}-")), None)
    if other is not None:
        raise EvidenceError(f"{str(folder / other)!r}: {OF_ANOTHER}; nothing is signed")
    return found


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if _NAME.fullmatch(name)]
    except OSError as error:
        raise Loop4Error(
            f"checkpoints folder {str(folder)!r} cannot be read: {error.strerror or error}"
        ) from error
