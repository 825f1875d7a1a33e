"""Who may vote: persons, their roles, and the SHA-256 of the token that each one holds."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loop4.policies.documents import API_VERSION, Node, read_documents
from loop4.policies.moments import read_moment
from loop4.policies.rules import AGENTS, ROLES

_KINDS = ("People",)
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Person:
    """A person of the organisation. The token itself is never stored.

    From `expires_ms` on the token is worth nothing; 0 means that it does not expire.
    """

    name: str
    roles: tuple[str, ...]
    token_sha256: str
    expires_ms: int = 0


@dataclass(frozen=True, slots=True)
class People:
    """Everybody whom people.yaml names. Names and tokens are unique."""

    persons: tuple[Person, ...]

    @classmethod
    def load(cls, path: Path) -> People:
        """Read people.yaml. Raises PolicyError with file, line and column for what is not as it
        should be; an unknown key is told with the nearest known one.
        """
        persons: list[Person] = []
        for document in read_documents(path, _KINDS):
            fields = document.spec.fields(("people",))
            for node in fields["people"].items():
                persons.append(_person(node, persons))
        return cls(tuple(persons))

    def find_voter(self, token: str, *, now_ms: int) -> Person | None:
        """Return the person who holds this token, or None for an unknown or expired one.

        Compares with everybody in constant time, so that the time taken tells nothing about who
        is there.
        """
        digest = token_digest(token)
        found: Person | None = None
        for person in self.persons:
            if hmac.compare_digest(person.token_sha256, digest):
                found = person
        return found if token and found and not has_expired(found.expires_ms, now_ms) else None


def change_fault(person: Person) -> str:
    """Why this person may not change the fleet's modes or limits; empty if they may."""
    if person.name in AGENTS:
        return f"{person.name!r} is an agent; only people change the fleet"
    if not set(person.roles) & set(ROLES):
        held = ", ".join(person.roles) or "none"
        return f"{person.name!r} needs one of the roles {', '.join(ROLES)} (roles held: {held})"
    return ""


def has_expired(expires_ms: int, now_ms: int) -> bool:
    """True from the moment on at which a token is worth nothing; 0 never expires."""
    return 0 < expires_ms <= now_ms


def token_digest(token: str) -> str:
    """Return the SHA-256 of a token, as people.yaml holds it. Tokens are long random strings."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def render(persons: Sequence[Person], *, name: str = "people") -> str:
    """Return the text of a people.yaml that `People.load` reads back to the same persons."""
    lines = [f"apiVersion: {API_VERSION}", "kind: People", f"metadata: {{name: {name}}}", "spec:"]
    lines.append("  people:" if persons else "  people: []")
    for person in persons:
        roles = ", ".join(f'"{role}"' for role in person.roles)
        lines.append(f'  - name: "{person.name}"')
        lines.append(f"    roles: [{roles}]")
        lines.append(f'    token_sha256: "{person.token_sha256}"')
        if person.expires_ms:
            moment = datetime.fromtimestamp(person.expires_ms / 1000, UTC)
            lines.append(f'    expires: "{moment.isoformat(timespec="milliseconds")}"')
    return "\n".join(lines) + "\n"


def _person(node: Node, known: Sequence[Person]) -> Person:
    fields = node.fields(("name", "roles", "token_sha256"), ("expires",))
    name = fields["name"].text()
    if not _NAME.fullmatch(name):
        raise fields["name"].error(f"person {name!r}: expected lower-case letters, digits, . _ @ -")
    if any(person.name == name for person in known):
        raise fields["name"].error(f"person {name!r} stands twice")
    roles: list[str] = []
    for role in fields["roles"].items():
        if not _ROLE.fullmatch(role.text()):
            raise role.error(f"role {role.text()!r}: expected lower-case letters, digits and -")
        if role.text() == "agent":
            raise role.error("'agent' is not a role of a person; agents never vote")
        roles.append(role.text())
    digest = read_digest(fields["token_sha256"])
    if any(person.token_sha256 == digest for person in known):
        raise fields["token_sha256"].error(f"person {name!r} has the token of another person")
    return Person(name, tuple(roles), digest, read_expiry(fields.get("expires")))


def read_digest(node: Node) -> str:
    """The SHA-256 of a token as a file holds it. Raises PolicyError for anything else."""
    digest = node.text()
    if not _DIGEST.fullmatch(digest):
        raise node.error("expected the SHA-256 of the token as 64 lower-case hexadecimal digits")
    if digest == token_digest(""):
        raise node.error("this is the SHA-256 of an empty token")
    return digest


def read_expiry(node: Node | None) -> int:
    """When a token ends, in ms; 0 without one. Raises PolicyError for a moment without a zone."""
    if node is None:
        return 0
    return read_moment(node)
