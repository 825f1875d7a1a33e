"""A throw-away PostgreSQL server for tests, on a Unix socket, with a new database for each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from loop4.graphs.saver import open_saver
from loop4.ledger.ledger import Ledger

INSTALL = "PostgreSQL's server is not installed: apt-get install postgresql"
USER = "loop4"


def binaries() -> Path | None:
    """The folder of `postgres` and `initdb`; Debian keeps it outside PATH. None: not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    return folders[0].parent if folders else None


class Server:
    """One server. It may be killed and started again; its children die with the test process."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self._binaries = folder, binaries
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._options: list[str] = []

    def make(self, *more: str) -> None:
        """Make the data folder, owned by the user that the server must run as."""
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self._run(
            [
                "initdb",
                *("-D", str(self.data), "-U", USER, "-A", "trust", "--no-sync"),
                *("-E", "UTF8", "--locale", "C.UTF-8"),
                *more,
            ]
        )

    def start(self, *options: str) -> None:
        """Start it with `fsync` on and wait until it answers. Options stay for the next start."""
        self._options = list(options) or self._options
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={self.folder}",
            "max_connections=60",
            "shared_buffers=16MB",
            "fsync=on",
            "log_min_messages=fatal",
            *self._options,
        ]
        words = [word for setting in settings for word in ("-c", setting)]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    *_as_server("--pdeathsig", "QUIT"),
                    str(self._binaries / "postgres"),
                    *("-D", str(self.data)),
                    *words,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.sql("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    text = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"the server does not start:\n{text[-2000:]}") from None
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9 for all of its processes: nobody is told, nothing is written any more."""
        if self._process is None:
            return
        children = self._children()
        self._process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait(timeout=30)
        self._process = None
        # the next start waits while it finds somebody attached to the memory of the last
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it without a checkpoint; it gives its shared memory back."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            for child in self._children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._process.wait(timeout=30)
        self._process = None

    def _children(self) -> list[int]:
        pid = self._process.pid if self._process else 0
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def url(self, database: str) -> str:
        """Where a database of this server is."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.folder}"

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement, outside any transaction, and return its rows."""
        with psycopg.connect(self._conninfo(database), autocommit=True) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []

    def database(self, template: str = "template0", *more: str) -> str:
        """Make a database like a template and return its name."""
        name = f"test_{next(self._names)}"
        self.sql(" ".join(["CREATE DATABASE", name, "TEMPLATE", template, *more]))
        return name

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _conninfo(self, database: str) -> str:
        return f"host={self.folder} user={USER} dbname={database} connect_timeout=5"

    def _run(self, command: Sequence[str]) -> None:
        program, *arguments = command
        done = subprocess.run(
            [*_as_server(), str(self._binaries / program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}")


def _as_server(*options: str) -> list[str]:
    """The start of a command line that runs as a user whom PostgreSQL accepts: never root."""
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, *options] if user or options else []


def new_server(*initdb_options: str) -> Server:
    """A server that is made and not started. Skips the test if PostgreSQL is not installed."""
    folder = binaries()
    if folder is None or shutil.which("setpriv") is None:
        pytest.skip(INSTALL)
    server = Server(Path(tempfile.mkdtemp(prefix="loop4-pg-")), folder)
    server.make(*initdb_options)
    return server


def remove(server: Server) -> None:
    """Stop it and remove its folder."""
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


def prepare(server: Server) -> None:
    """Make the database `ready`: an empty ledger and empty checkpoints, to copy from."""
    server.sql("CREATE DATABASE ready TEMPLATE template0")
    Ledger.open(server.url("ready")).close()

    async def checkpoints() -> None:
        async with open_saver(data=Path(), db=server.url("ready")):
            pass

    asyncio.run(checkpoints())
