"""A `loop4 run` of its own process for benchmarks and tests: start, call, kill, drain."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from loop4.domain import Json
from loop4.errors import LabError


def clients_file(operations: Path) -> str:
    """Write a clients.yaml with one machine that may do all that machines may; its token."""
    token = secrets.token_urlsafe(24)
    digest = hashlib.sha256(token.encode()).hexdigest()
    (operations / "policies" / "clients.yaml").write_text(
        "apiVersion: loop4/v1\nkind: Clients\nmetadata: {name: clients}\nspec:\n  clients:\n"
        f'  - {{name: alertmanager, may: [events, metrics, read], token_sha256: "{digest}"}}\n',
        encoding="utf-8",
    )
    return token


@dataclass(slots=True)
class Duty:
    """The process, over `root`/data and an operations folder.

    `program` is what the interpreter is given to run the command line.
    """

    root: Path
    operations: Path
    world: str = ""
    metrics_url: str = ""
    arguments: tuple[str, ...] = ("run", "--port", "0", "--json")
    program: tuple[str, ...] = ("-m", "loop4.cli.main")
    url: str = ""
    kills: int = 0
    starts_s: list[float] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        began = time.monotonic()
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LOOP4_")}
        if self.world:
            environ["LOOP4_WORLD"] = self.world
        if self.metrics_url:
            environ["LOOP4_METRICS_URL"] = self.metrics_url
        command = [sys.executable, *self.program, *self.arguments]
        command += ["--data", str(self.root / "data"), "--operations", str(self.operations)]
        with (self.root / "duty.err").open("a", encoding="utf-8") as errors:
            self.process = subprocess.Popen(  # noqa: S603  (this very interpreter)
                command, env=environ, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            self.process.communicate()
            told = (self.root / "duty.err").read_text("utf-8").strip()[-2000:]
            raise LabError(f"`loop4 run` did not come up: {told}")
        self.url = str(json.loads(line)["url"])
        self.starts_s.append(time.monotonic() - began)

    def kill(self) -> None:
        """SIGKILL; what it was doing is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.kills += 1

    def stop(self, *, within_s: float = 60.0) -> int:
        """SIGTERM; the exit code of the drained process."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode

    def call(self, method: str, path: str, token: str, body: Json = None) -> tuple[int, str]:
        """One HTTP request: status and text; status 0 when nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        return self.send(method, path, token, data)

    def send(
        self,
        method: str,
        path: str,
        token: str,
        data: bytes | None,
        content_type: str = "application/json",
    ) -> tuple[int, str]:
        """As `call`, with the bytes as they are."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if data is not None:
            headers["content-type"] = content_type
        request = urllib.request.Request(  # noqa: S310  (loopback)
            self.url + path,
            method=method,
            data=data,
            headers=headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)
