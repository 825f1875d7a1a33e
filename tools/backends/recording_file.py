"""Recording files: gzip JSON lines with a header, and a footer that tells a whole file from a part.

{"format": "loop4-recording", "version": 1, "environment": ..., "started_ms": ..., "ended_ms": ...}
{"kind": "series" | "spans" | "logs" | "changes" | "inventory" | "ticks" | "answers" | "write", ...}
{"kind": "end", "lines": N, "digest": SHA-256 of the lines before}
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from loop4.domain import Clock, Json, JsonObject
from loop4.errors import InputError, Refused, Unreachable
from loop4.tools.backends.files import disk_reason
from loop4.tools.backends.recording import Recorder, Recording
from loop4.tools.backends.recording_lines import Malformed, Parts, forbidden_key, lines_of

FORMAT = "loop4-recording"
VERSION = 1
LARGEST_BYTES = 256 * 1024 * 1024  # unpacked


@contextmanager
def capture(path: Path, environment: str, clock: Clock) -> Iterator[Recorder]:
    """A recorder whose pieces are in `path` after the block; after an exception nothing is there.

    One recorder at a time may write a path: the second raises Refused at once. Raises Unreachable
    when the disk refuses, at the start already if it can be known.
    """
    with _claimed(path) as part:
        recorder = Recorder(environment, clock.now_ms())
        yield recorder
        _fill(part, recorder.recording(clock.now_ms()), path)


def write_recording(path: Path, recording: Recording) -> None:
    """Put a recording into a file, whole or not at all; the same recording gives the same bytes.

    Raises InputError if it holds a key for a judgement, Refused and Unreachable as `capture`.
    """
    with _claimed(path) as part:
        _fill(part, recording, path)


def read_recording(path: Path) -> Recording:
    """The recording in a file.

    Raises InputError, one line that names the file, for a file that is truncated, damaged, foreign,
    of a later version, or holds a key for a judgement.
    """
    name = f"recording {str(path)!r}"
    digest = hashlib.sha256()
    parts, header, is_whole, lines = Parts(), None, False, 0
    for raw in _raw_lines(path, name):
        lines += 1
        where = f"{name}, line {lines}"
        if is_whole:
            raise InputError(f"{where}: something follows the footer; record it again")
        line = _line(raw, where)
        if header is None:
            header = _checked_header(line, name)
        elif line.get("kind") == "end":
            _check_footer(line, lines - 1, digest.hexdigest(), name)
            is_whole = True
        else:
            try:
                parts.take(line)
            except Malformed as error:
                raise InputError(f"{where}: {error}; record it again") from error
        digest.update(raw)
    if header is None:
        raise InputError(f"{name} is empty; expected a file made by `loop4 lab record`")
    if not is_whole:
        raise _truncated(name, lines)
    return parts.recording(*header)


def _raw_lines(path: Path, name: str) -> Iterator[bytes]:
    """The unpacked lines, each with its line end."""
    size = lines = 0
    try:
        with gzip.open(path, "rb") as file:
            while raw := file.readline(LARGEST_BYTES - size + 1):
                size += len(raw)
                lines += 1
                if size > LARGEST_BYTES:
                    raise InputError(f"{name} unpacks to more than {LARGEST_BYTES} bytes")
                yield raw
    except gzip.BadGzipFile as error:
        if lines:
            raise InputError(f"{name} is damaged after line {lines}: {error}") from error
        raise InputError(
            f"{name} is not a recording; expected a gzip file made by `loop4 lab record`"
        ) from error
    except EOFError as error:
        raise _truncated(name, lines) from error
    except zlib.error as error:
        raise InputError(f"{name} is damaged after line {lines}: {error}") from error
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error


def _line(raw: bytes, where: str) -> JsonObject:
    try:
        line: Json = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON; the file is not a recording or damaged") from error
    if not isinstance(line, Mapping):
        raise InputError(f"{where} is not an object; the file is not a recording or damaged")
    if key := forbidden_key(line):
        raise InputError(f"{where} holds the key {key!r}; a recording holds no judgement")
    return line


def _checked_header(line: JsonObject, name: str) -> tuple[str, int, int]:
    """Environment, start and end."""
    if line.get("format") != FORMAT:
        raise InputError(
            f"{name} is not a recording: format is {line.get('format')!r}, expected {FORMAT!r}"
        )
    version = line.get("version")
    if version != VERSION:
        raise InputError(
            f"{name} has version {version!r}, this Loop4 reads version {VERSION};"
            " use the Loop4 that made it, or record it again"
        )
    environment = line.get("environment")
    started_ms, ended_ms = line.get("started_ms"), line.get("ended_ms")
    if (
        not isinstance(environment, str)
        or not isinstance(started_ms, int)
        or not isinstance(ended_ms, int)
    ):
        raise InputError(f"{name}, line 1: environment, started_ms or ended_ms is missing")
    return environment, started_ms, ended_ms


def _check_footer(line: JsonObject, lines: int, digest: str, name: str) -> None:
    if line.get("lines") != lines or line.get("digest") != digest:
        raise InputError(
            f"{name} is damaged: its footer speaks of {line.get('lines')!r} other lines than the"
            f" {lines} found; record it again"
        )


def _truncated(name: str, lines: int) -> InputError:
    return InputError(f"{name} is truncated after line {lines}: no footer; record it again")


def _fill(part: BinaryIO, recording: Recording, path: Path) -> None:
    """Write header, lines and footer. Raises InputError before anything judged gets in."""
    header: JsonObject = {
        "format": FORMAT,
        "version": VERSION,
        "environment": recording.environment,
        "started_ms": recording.started_ms,
        "ended_ms": recording.ended_ms,
    }
    digest, count = hashlib.sha256(), 0
    try:
        with gzip.GzipFile(filename="", mode="wb", fileobj=part, mtime=0) as packed:
            for line in (header, *lines_of(recording)):
                if key := forbidden_key(line):
                    raise InputError(f"recording {str(path)!r}: {key!r} would be a judgement")
                raw = _bytes(line)
                digest.update(raw)
                count += 1
                packed.write(raw)
            packed.write(_bytes({"kind": "end", "lines": count, "digest": digest.hexdigest()}))
    except OSError as error:
        raise _unwritable(path, error) from error


def _bytes(line: JsonObject) -> bytes:
    text = json.dumps(line, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


@contextmanager
def _claimed(path: Path) -> Iterator[BinaryIO]:
    """A hidden file beside `path`, locked; moved to `path` after the block, removed on error."""
    beside = path.with_name(f".{path.name}.part")
    try:
        part = _locked(beside, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    with part:
        try:
            yield part
            try:
                part.flush()
                os.fsync(part.fileno())
                beside.replace(path)
            except OSError as error:
                raise _unwritable(path, error) from error
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _locked(beside: Path, path: Path) -> BinaryIO:
    while True:
        part = beside.open("ab")
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            part.close()
            raise Refused(f"recording {str(path)!r} is being written by another process") from error
        # the writer before us may have moved the file away while we waited for its lock
        if beside.exists() and os.path.samestat(beside.stat(), os.fstat(part.fileno())):
            part.truncate(0)  # what a killed writer left
            return part
        part.close()


def _unwritable(path: Path, error: OSError) -> Unreachable:
    return Unreachable(f"cannot write recording {str(path)!r}: {disk_reason(error)}")
