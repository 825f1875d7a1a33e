"""What nodes want written, kept until the next transaction: fewer commits, and never an act before
its evidence.

Reads and plans can be made again after a crash, so they wait in memory; the transaction that holds
the next intent, request or outcome writes them first. A draft that a crash lost is simply missing,
and its node runs again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from loop4.canonical import digest
from loop4.domain import Json, JsonObject
from loop4.ledger import contents, evidence
from loop4.ledger.ledger import Ledger, Tx
from loop4.ledger.redaction import redact


@dataclass(frozen=True, slots=True)
class EvidenceDraft:
    """One record of the chain, not yet appended."""

    kind: str
    incident_id: str
    run_id: str
    body: JsonObject
    at_ms: int
    trace_id: str


class Drafts:
    """Bodies and records waiting for the next transaction of this process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._bodies: dict[str, Json] = {}
        self._records: list[EvidenceDraft] = []
        self._salt = b""

    def put(self, body: Json) -> str:
        """Keep a body, its secrets as hashes; its digest is good for `get` at once."""
        if not self._salt:
            with self._ledger.read() as tx:
                self._salt = evidence.salt(tx)
        kept = redact(body, self._salt)
        name = digest(kept)
        self._bodies[name] = kept
        return name

    def append(self, record: EvidenceDraft) -> None:
        """Keep a record, in order."""
        self._records.append(record)

    def get(self, name: str) -> Json | None:
        """The body, drafted or stored; None if a crash lost it."""
        if name in self._bodies:
            return self._bodies[name]
        with self._ledger.read() as tx:
            found = contents.find(tx, name)
        return found[0] if found else None

    def flush(self) -> None:
        """Write what waits now: a decision must find the evidence it rests on in the ledger."""
        if self._bodies or self._records:
            with self.transaction():
                pass

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """A ledger transaction that writes the drafts first; they are forgotten once it
        committed.
        """
        bodies, records = dict(self._bodies), list(self._records)
        with self._ledger.transaction() as tx:
            for body in bodies.values():
                contents.put(tx, body)
            for r in records:
                evidence.append(
                    tx,
                    r.kind,
                    r.incident_id,
                    r.run_id,
                    r.body,
                    at_ms=r.at_ms,
                    trace_id=r.trace_id,
                )
            yield tx
        for name in bodies:
            self._bodies.pop(name, None)
        del self._records[: len(records)]
