"""The shipped corpus of hostile telemetry, told with the names of the toy world."""

from __future__ import annotations

from loop4.evals.hostile import load_corpus

CORPUS = load_corpus()
CANARY = CORPUS.canary
SECRETS = tuple(CORPUS.secrets.values())
HOSTILE = CORPUS.items
NAMES = {
    "service": "payments",
    "other": "gateway",
    "instance": "payments-v1",
    "revision": "40",
    "version": "v1",
    "change": "chg-99",
}


def planted(place: str) -> list[str]:
    """The texts of one place."""
    return [h.told(NAMES) for h in HOSTILE if h.place == place]
