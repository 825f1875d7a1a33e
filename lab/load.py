"""Customers: an open-loop load of a fixed mean rate, a seeded mix of the three routes."""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path

from loop4.errors import LabError
from loop4.lab.processes import follow_parent
from loop4.lab.topology import ROUTE_SHARES
from loop4.lab.wire import HttpClient
from loop4.lab.wiring import read_wiring

REQUESTS_PER_S = 34.0
PATIENCE_S = 5.0


async def run(directory: Path, requests_per_s: float) -> None:
    """Send for ever. Arrivals are a Poisson process and do not wait for answers."""
    wiring = read_wiring(directory)
    client = HttpClient()
    rng = random.Random(f"{wiring.seed}:load")  # noqa: S311  (load, not a secret)
    routes = [route for route, _ in ROUTE_SHARES]
    shares = [share for _, share in ROUTE_SHARES]

    async def customer(route: str) -> None:
        method = "POST" if route == "checkout" else "GET"
        try:
            await client.request(method, wiring.ports.edge, f"/{route}", timeout_s=PATIENCE_S)
        except LabError:
            return  # the router counts what customers see

    loop = asyncio.get_running_loop()
    due = loop.time()
    async with asyncio.TaskGroup() as group:
        while True:
            due += rng.expovariate(requests_per_s)
            await asyncio.sleep(max(0.0, due - loop.time()))
            group.create_task(customer(rng.choices(routes, shares)[0]))


def main() -> None:
    """Entry point of the process."""
    follow_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rate", type=float, default=REQUESTS_PER_S)
    given = parser.parse_args()
    asyncio.run(run(given.directory, given.rate))


if __name__ == "__main__":
    main()
