"""The bank: an external dependency that is not ours. It has an outage when the injector says so."""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path

from fastapi import FastAPI, Request, Response

from loop4.lab.faults import ProfileSource, Target
from loop4.lab.processes import follow_parent, inherited_socket
from loop4.lab.serving import serve
from loop4.lab.topology import BANK
from loop4.lab.wire import HttpClient
from loop4.lab.wiring import read_wiring

MEDIAN_S = 0.02
HANG_S = 3.0  # longer than any caller waits
NOISE_ERROR_BP = 8


def application(faults: ProfileSource, rng: random.Random) -> FastAPI:
    """Authorisations; the first version of the interface was retired long ago."""
    app = FastAPI(openapi_url=None)

    async def authorise(request: Request) -> Response:
        profile = faults.profile
        draw = rng.random() * 10_000
        if draw < profile.hang_bp:
            await asyncio.sleep(HANG_S)
        await asyncio.sleep(MEDIAN_S * rng.lognormvariate(0, 0.3))
        if draw < profile.hang_bp + profile.error_bp or draw > 10_000 - NOISE_ERROR_BP:
            return Response(b"service unavailable", 503)
        return Response(b'{"authorised":true}', media_type="application/json")

    async def retired(request: Request) -> Response:
        await asyncio.sleep(MEDIAN_S * rng.lognormvariate(0, 0.3))
        return Response(b"service unavailable", 503)

    app.add_route("/v2/authorisations", authorise, methods=["GET", "POST"])
    app.add_route("/v1/authorisations", retired, methods=["GET", "POST"])
    return app


async def run(directory: Path, descriptor: int) -> None:
    """Serve until told to stop."""
    wiring = read_wiring(directory)
    client = HttpClient()
    faults = ProfileSource(
        client, wiring.ports.injector, wiring.tokens.internal, Target(BANK, 0, BANK)
    )
    rng = random.Random(f"{wiring.seed}:bank")  # noqa: S311  (noise, not a secret)
    await serve(application(faults, rng), [inherited_socket(descriptor)], faults.run())


def main() -> None:
    """Entry point of the process."""
    follow_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--serve-fd", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(run(given.directory, given.serve_fd))


if __name__ == "__main__":
    main()
