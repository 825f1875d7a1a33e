"""Who is calling: a person of people.yaml or a machine of clients.yaml, by bearer token alone.

Both files are read again when they change, so a token that is taken away is worth nothing at the
next request. Nothing in a request's body or address ever names the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop4.domain import Clock
from loop4.errors import PolicyError
from loop4.policies import clients as client_file
from loop4.policies.clients import Client, Clients
from loop4.policies.documents import file_stamp
from loop4.policies.people import People, Person

LONGEST_TOKEN = 512

Caller = Person | Client


class Unauthenticated(Exception):
    """No token, or one that nobody holds, or holds no more."""


class Unavailable(Exception):
    """Who may call cannot be read now, so nobody may."""


@dataclass(slots=True)
class Access:
    """The callers that an operations folder names."""

    policies: Path
    clock: Clock
    _people: People = People(())  # noqa: RUF009  (frozen)
    _clients: Clients = Clients()  # noqa: RUF009  (frozen)
    _seen: tuple[tuple[int, int], ...] = ()

    def caller(self, authorization: str) -> Caller:
        """The holder of the token in an Authorization header.

        Raises Unauthenticated, and Unavailable when the files cannot be read.
        """
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("a bearer token is needed")
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated("the token is unknown or has expired")
        try:
            self.load()
        except PolicyError as error:
            raise Unavailable(f"who may call cannot be read: {error}") from error
        now_ms = self.clock.now_ms()
        person = self._people.find_voter(token, now_ms=now_ms)
        client = self._clients.find(token, now_ms=now_ms)
        found: Caller | None = person or client
        if found is None:
            raise Unauthenticated("the token is unknown or has expired")
        return found

    def load(self) -> None:
        """Read both files now if they changed. Raises PolicyError for a mistake in them; then
        nobody may call.
        """
        people, clients = self.policies / "people.yaml", self.policies / client_file.FILE
        seen = (file_stamp(people), file_stamp(clients))
        if seen == self._seen:
            return
        self._people, self._clients, self._seen = People(()), Clients(), ()
        read = (People.load(people) if people.exists() else People(()), Clients.load(clients))
        self._people, self._clients = read
        self._seen = seen


def may(caller: Caller, scope: str) -> bool:
    """People may read everything and deliver nothing; machines may what their line says."""
    if isinstance(caller, Person):
        return scope in ("read", "metrics")
    return scope in caller.may
