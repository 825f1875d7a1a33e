"""Who may vote: persons, their roles, and the SHA-256 of the token that each one holds."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loop4.policies.documents import API_VERSION, Node, read_documents

_KINDS = ("People",)
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Person:
    """A person of the organisation. The token itself is never stored."""

    name: str
    roles: tuple[str, ...]
    token_sha256: str


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

    def find_voter(self, token: str) -> Person | None:
        """Return the person who holds this token, or None.

        Compares with everybody in constant time, so that the time taken tells nothing about who
        is there.
        """
        digest = token_digest(token)
        found: Person | None = None
        for person in self.persons:
            if hmac.compare_digest(person.token_sha256, digest):
                found = person
        return found if token else None


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
    return "\n".join(lines) + "\n"


def _person(node: Node, known: Sequence[Person]) -> Person:
    fields = node.fields(("name", "roles", "token_sha256"))
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
    digest = fields["token_sha256"].text()
    if not _DIGEST.fullmatch(digest):
        raise fields["token_sha256"].error(
            "expected the SHA-256 of the token as 64 lower-case hexadecimal digits"
        )
    if digest == token_digest(""):
        raise fields["token_sha256"].error("this is the SHA-256 of an empty token")
    if any(person.token_sha256 == digest for person in known):
        raise fields["token_sha256"].error(f"person {name!r} has the token of another person")
    return Person(name, tuple(roles), digest)
