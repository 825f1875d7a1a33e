"""The files of an organisation's repository that may hold policy, read without trusting them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loop4.errors import PolicyError

MAX_BYTES = 1024 * 1024
MAX_FILES = 2000
POLICY_FOLDERS = ("org/4-quality/policies", "policies")
GUIDES = ("process/3-ship/GUIDE.md", "process/4-operate/GUIDE.md")
CONFIG = "CONFIG.yaml"
DECISIONS = "work/decisions"


@dataclass(frozen=True, slots=True)
class Source:
    """One text and its path inside the repository."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that could not be read as policy: where, and why. Line 0 = the whole file."""

    path: str
    line: int
    message: str

    @property
    def place(self) -> str:
        """file:line, or the file alone."""
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Repository:
    """What was read: policies and guides, the configuration, exceptions, and what could not be."""

    policies: tuple[Source, ...]
    config: Source | None
    exceptions: tuple[Source, ...]
    faults: tuple[Fault, ...]


def read_repository(root: Path) -> Repository:
    """The policy texts below `root`, sorted by path. Links that leave the tree are not followed.

    Raises PolicyError when `root` is no folder, or holds no policy in any of the known places.
    """
    if not root.is_dir():
        raise PolicyError(
            "is not a folder; expected a repository with org/4-quality/policies/*.md",
            path=str(root),
        )
    base = root.resolve()
    faults: list[Fault] = []
    policies: list[Source] = []
    for folder in POLICY_FOLDERS:
        policies += _texts(base, _markdown(base, folder, faults), faults)
        if policies:
            break
    found_policies = bool(policies) or bool(faults)
    policies += _texts(base, [g for g in GUIDES if (base / g).exists()], faults)
    if not found_policies:
        raise PolicyError(
            "holds no policy; expected Markdown files in org/4-quality/policies/", path=str(root)
        )
    config = _texts(base, [CONFIG] if (base / CONFIG).exists() else [], faults)
    names = [n for n in _markdown(base, DECISIONS, faults) if "EXC-" in Path(n).name.upper()]
    return Repository(
        tuple(policies),
        config[0] if config else None,
        tuple(_texts(base, names, faults)),
        tuple(faults),
    )


def _markdown(base: Path, folder: str, faults: list[Fault]) -> list[str]:
    """Paths of the Markdown files below a folder; links to folders are not entered."""
    start = base / folder
    if not start.is_dir():
        return []
    if not _is_inside(start, base):
        faults.append(Fault(folder, 0, "is a link out of the repository; not followed"))
        return []
    names = sorted(path.relative_to(base).as_posix() for path in _walk(start, base, faults))
    if len(names) > MAX_FILES:
        faults.append(Fault(folder, 0, f"holds more than {MAX_FILES} files; the rest is not read"))
    return names[:MAX_FILES]


def _walk(start: Path, base: Path, faults: list[Fault]) -> Iterator[Path]:
    for parent, folders, files in os.walk(start, followlinks=False):
        for name in sorted(folders):
            if (Path(parent) / name).is_symlink():
                path = (Path(parent) / name).relative_to(base).as_posix()
                faults.append(Fault(path, 0, "is a link to a folder; not followed"))
        for name in files:
            if name.endswith(".md") and not name.startswith("_TEMPLATE"):
                yield Path(parent) / name


def _texts(base: Path, names: list[str], faults: list[Fault]) -> list[Source]:
    sources = []
    for name in names:
        found = _text(base, name)
        if isinstance(found, Source):
            sources.append(found)
        else:
            faults.append(found)
    return sources


def _text(base: Path, name: str) -> Source | Fault:
    path = base / name
    try:
        if not _is_inside(path, base):
            return Fault(name, 0, "is a link out of the repository; not read")
        if not path.is_file():
            return Fault(name, 0, "is not a regular file; not read")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Fault(name, 0, f"cannot be read: {error.strerror}")
    if len(data) > MAX_BYTES:
        return Fault(name, 0, f"is larger than {MAX_BYTES} bytes; not read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Fault(name, 0, "is not UTF-8 text; not read")
    if "\0" in text:
        return Fault(name, 0, "is a binary file; not read")
    return Source(name, text)


def _is_inside(path: Path, base: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(base)
    except (OSError, RuntimeError):  # a loop of links, which Python before 3.13 calls RuntimeError
        return False
