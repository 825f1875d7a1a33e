"""Putting a lab together: its folder, its ports, its tokens, its processes."""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from socket import socket
from typing import TextIO

from loop4.errors import LabError
from loop4.lab.clock import WallClock
from loop4.lab.processes import Child, bound_socket, spawn
from loop4.lab.wiring import (
    CONNECTION_FILE,
    EDGE_LOG,
    EFFECTS_LOG,
    FILE,
    INJECTOR_LOG,
    Ports,
    Tokens,
    Wiring,
    write_wiring,
)

LOCK_FILE = "lab.lock"
_PUBLIC = ("edge", "control", "store", "injector")  # in the order of --port P, P+1, ...
_HIDDEN = ("mesh", "router", "bank")
_ROUTER_SOCKETS = {"edge": "edge", "mesh": "mesh", "admin": "router"}


def prepare(directory: Path) -> TextIO:
    """Make the folder, hold its lock, and remove what an earlier lab left."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (directory / LOCK_FILE).open("a", encoding="utf-8")
    except OSError as error:
        raise LabError(f"cannot use {str(directory)!r} for the lab: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise LabError(
            f"a lab is running in {str(directory)!r}; stop it or choose another folder"
        ) from error
    for name in ("state", "logs"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in (CONNECTION_FILE, FILE, EDGE_LOG, EFFECTS_LOG, INJECTOR_LOG):
        (directory / name).unlink(missing_ok=True)
    (directory / "logs").mkdir()
    return lock


def start_processes(directory: Path, seed: int, port: int, children: list[Child]) -> Wiring:
    """Bind every port, write the wiring, start everything at once."""
    sockets = {}
    try:
        for offset, name in enumerate(_PUBLIC):
            sockets[name] = bound_socket(port + offset if port else 0)
        for name in _HIDDEN:
            sockets[name] = bound_socket()
    except LabError:
        for bound in sockets.values():
            bound.close()
        raise
    numbers = {name: int(bound.getsockname()[1]) for name, bound in sockets.items()}
    names = ("read", "act", "pipeline", "injector", "internal")
    tokens = Tokens(**{name: secrets.token_urlsafe(24) for name in names})
    wiring = Wiring(seed, WallClock().now_ms(), Ports(**numbers), tokens)
    write_wiring(directory, wiring)
    serves = {
        "control": {"serve": sockets["control"]},
        "router": {name: sockets[s] for name, s in _ROUTER_SOCKETS.items()},
        "injector": {"serve": sockets["injector"]},
        "store": {"serve": sockets["store"]},
        "bank": {"serve": sockets["bank"]},
    }
    children += [start_child(directory, name, own) for name, own in serves.items()]
    return wiring


def start_child(directory: Path, name: str, own: Mapping[str, socket]) -> Child:
    """Start one part of the lab; `own` are the sockets it serves on."""
    log = directory / "logs" / f"{name}.log"
    return spawn(name, f"loop4.lab.{name}", [str(directory)], log=log, sockets=own)
