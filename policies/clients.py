"""Which machines may call the HTTP API, for what, and the SHA-256 of the token that each holds.

A machine never votes: whoever votes is a person of people.yaml.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from pathlib import Path

from loop4.policies.documents import read_documents
from loop4.policies.people import has_expired, read_digest, read_expiry, token_digest

FILE = "clients.yaml"
SCOPES = ("events", "metrics", "read")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Client:
    """A machine and what it may do: deliver events, read metrics, read approvals and status."""

    name: str
    may: frozenset[str]
    token_sha256: str
    expires_ms: int = 0


@dataclass(frozen=True, slots=True)
class Clients:
    """Every machine that clients.yaml names. Without the file there is none."""

    clients: tuple[Client, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Clients:
        """Read clients.yaml if it is there. Raises PolicyError with the place of a mistake."""
        if not path.exists():
            return cls()
        found: dict[str, Client] = {}
        for document in read_documents(path, ("Clients",)):
            for node in document.spec.fields(("clients",))["clients"].items():
                fields = node.fields(("name", "may", "token_sha256"), ("expires",))
                name = fields["name"].text()
                if not _NAME.fullmatch(name):
                    raise fields["name"].error(
                        f"client {name!r}: expected lower-case letters, digits, . _ -"
                    )
                if name in found:
                    raise fields["name"].error(f"client {name!r} stands twice")
                digest = read_digest(fields["token_sha256"])
                if any(c.token_sha256 == digest for c in found.values()):
                    raise fields["token_sha256"].error(
                        f"client {name!r} has the token of another client"
                    )
                found[name] = Client(
                    name,
                    frozenset(s.choice("scope", SCOPES) for s in fields["may"].one_or_more()),
                    digest,
                    read_expiry(fields.get("expires")),
                )
        return cls(tuple(found.values()))

    def find(self, token: str, *, now_ms: int) -> Client | None:
        """Return the machine that holds this token, or None for an unknown or expired one.

        Compares with every machine in constant time.
        """
        digest = token_digest(token)
        found: Client | None = None
        for client in self.clients:
            if hmac.compare_digest(client.token_sha256, digest):
                found = client
        return found if token and found and not has_expired(found.expires_ms, now_ms) else None
