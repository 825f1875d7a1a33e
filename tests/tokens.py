"""Tokens for the people of an operations folder, and some people more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loop4.policies.people import People, Person, render, token_digest


def token_of(name: str) -> str:
    """The token that `give_tokens` gives to a person."""
    return f"{name}'s long random token"


def give_tokens(operations: Path, *more: Person) -> None:
    """Everybody in people.yaml, and those named beside them, holds `token_of(NAME)`."""
    path = operations / "policies" / "people.yaml"
    people = (*People.load(path).persons, *more)
    given = [replace(p, token_sha256=token_digest(token_of(p.name))) for p in people]
    path.write_text(render(given), "utf-8")
