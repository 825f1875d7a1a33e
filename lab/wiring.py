"""Who listens where and who may do what inside one lab: written once by the parent, read by all.

The file is for the lab's own processes (mode 0600). What an outsider such as Loop4 may know stands
in `lab.json` instead, with the read and the act token in files of their own.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "wiring.json"
CONNECTION_FILE = "lab.json"
EDGE_LOG = "edge.jsonl"
EFFECTS_LOG = "effects.jsonl"
INJECTOR_LOG = "injector.jsonl"


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports. `edge` takes customers, `mesh` calls between services, `router` the
    router's own administration.
    """

    edge: int
    control: int
    store: int
    injector: int
    mesh: int
    router: int
    bank: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """One token an identity. `internal` is for the lab's own processes among themselves."""

    read: str
    act: str
    pipeline: str
    injector: str
    internal: str


@dataclass(frozen=True, slots=True)
class Wiring:
    """Everything a process of the lab needs to find the others."""

    seed: int
    started_ms: int
    ports: Ports
    tokens: Tokens


def write_private(path: Path, text: str) -> None:
    """Create or replace a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def write_wiring(directory: Path, wiring: Wiring) -> None:
    """Leave the wiring for the children."""
    write_private(directory / FILE, json.dumps(asdict(wiring)))


def read_wiring(directory: Path) -> Wiring:
    """The wiring of the lab in `directory`."""
    document = json.loads((directory / FILE).read_text(encoding="utf-8"))
    return Wiring(
        seed=document["seed"],
        started_ms=document["started_ms"],
        ports=Ports(**document["ports"]),
        tokens=Tokens(**document["tokens"]),
    )
