"""What the injector can do to a process, and how a process asks for it.

A profile is kept outside versions, labels, environment and logs: a service learns it from the
injector only, at start and a few times a second, so a fault survives a respawn and nothing that
the fleet can read names it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from loop4.lab.wire import HttpClient, NoAnswer, NotDelivered, bearer

POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Profile:
    """Fault of one process; the default is none.

    `error_bp`: share of its own requests that fail with `exception`. `dependency_bp`: share of its
    calls to the external dependency that go wrong as `dependency_mode` (status | timeout).
    `hang_bp`: share of requests that get no answer in time. `corrupt_state`: damage the local state
    and crash, handed out once.
    """

    error_bp: int = 0
    exception: str = ""
    hang_bp: int = 0
    dependency_bp: int = 0
    dependency_mode: str = ""
    corrupt_state: bool = False


NO_FAULT = Profile()


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault hits; revision 0 and instance "" mean all of the service."""

    service: str
    revision: int = 0
    instance: str = ""

    def covers(self, service: str, revision: int, instance: str) -> bool:
        """Whether that process is meant."""
        return (
            self.service == service
            and self.revision in (0, revision)
            and self.instance in ("", instance)
        )


class ProfileSource:
    """The present profile of one process; keeps the last one while the injector is away."""

    def __init__(self, client: HttpClient, port: int, token: str, me: Target) -> None:
        self.profile = NO_FAULT
        self.damaged = asyncio.Event()  # set once our local state is to be damaged
        self._client = client
        self._port = port
        self._headers = bearer(token)
        self._path = "/profile?" + urlencode(asdict(me))

    async def refresh(self) -> Profile:
        """Ask once."""
        try:
            reply = await self._client.request(
                "GET", self._port, self._path, headers=self._headers, timeout_s=1.0
            )
        except (NotDelivered, NoAnswer):
            return self.profile
        if reply.status == 200:
            self.profile = profile_from(json.loads(reply.body))
        if self.profile.corrupt_state:
            self.damaged.set()
        return self.profile

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.refresh()


def profile_from(document: Mapping[str, bool | int | str]) -> Profile:
    """A profile from its JSON form."""
    return Profile(
        error_bp=int(document["error_bp"]),
        exception=str(document["exception"]),
        hang_bp=int(document["hang_bp"]),
        dependency_bp=int(document["dependency_bp"]),
        dependency_mode=str(document["dependency_mode"]),
        corrupt_state=bool(document["corrupt_state"]),
    )
