"""Starting and ending the lab's processes so that none outlives its parent.

Each child holds the read end of a pipe on its standard input (the lifeline) and leaves at once when
the parent's end closes, also after kill -9 of the parent. Linux' parent-death signal was not used:
it fires when the *thread* that started the child ends, and a lab may be started from a worker
thread.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loop4.errors import LabError

HOST = "127.0.0.1"
PARENT_CHECK_S = 1.0


@dataclass(slots=True)
class Child:
    """A running process of ours, leader of its own session."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id, also its process group."""
        return self.process.pid

    def exit_code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Signal its process group; nothing happens if it is gone."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return

    def reap(self, timeout_s: float) -> bool:
        """Whether it ended within `timeout_s`; closes the lifeline if so."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if self.process.stdin is not None:
            self.process.stdin.close()
        return True


def spawn(
    name: str,
    module: str,
    arguments: Iterable[str],
    *,
    log: Path,
    sockets: Mapping[str, socket.socket],
) -> Child:
    """Start `python -m module`; the sockets arrive as `--<name>-fd N` and are closed here."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    for purpose, bound in sockets.items():
        command += [f"--{purpose}-fd", str(bound.fileno())]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  (fixed module names, no shell)
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[bound.fileno() for bound in sockets.values()],
            start_new_session=True,
        )
    for bound in sockets.values():
        bound.close()
    return Child(name, process)


def end_all(children: Iterable[Child], *, grace_s: float) -> None:
    """Ask all to end, wait, then kill what is left."""
    waiting = list(children)
    for child in waiting:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for child in waiting:
        if not child.reap(max(0.0, deadline - time.monotonic())):
            child.signal(signal.SIGKILL)
            child.reap(grace_s)


def follow_parent() -> None:
    """In a child: end this process at once when its parent is gone. Call it first."""
    parent = os.getppid()

    def watch() -> None:
        while True:
            readable, _, _ = select.select([0], [], [], PARENT_CHECK_S)
            if (readable and not os.read(0, 1)) or os.getppid() != parent:
                os._exit(0)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


def bound_socket(port: int = 0) -> socket.socket:
    """A socket bound to a loopback port (0: the system's choice), not listening yet.

    Raises LabError if the port is taken.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise LabError(
            f"port {port} is taken ({error.strerror}); stop what listens there or choose another"
            " with --port"
        ) from error
    return bound


def inherited_socket(descriptor: int) -> socket.socket:
    """The bound socket that the parent passed on."""
    return socket.socket(fileno=descriptor)
