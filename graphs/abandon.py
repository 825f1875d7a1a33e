"""A run that ends its worker again and again is given up: it fails, and a person is paged."""

from __future__ import annotations

from loop4.graphs.deliveries import keep_promises
from loop4.graphs.legs import Leg
from loop4.ledger import runs

POISONOUS = 3  # drivers in a row that died with the run in hand


async def abandon(leg: Leg) -> None:
    """Fail the run, leave its incident to a person, and send the page that this promises.

    The run is failed first: should even the page end a worker, nobody tries a fifth time.
    """
    with leg.fleet.ledger.read() as tx:
        run = runs.get(tx, leg.run_id)
    if run is None:
        return
    leg.fail(f"given up: {leg.takeovers} workers in a row died while they drove this run")
    await keep_promises(leg.fleet)
