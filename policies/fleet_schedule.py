"""fleet.yaml: when the engine does what, and how much of it at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from loop4.errors import PolicyError
from loop4.policies.documents import Node, read_documents

FILE = "fleet.yaml"
KIND = "FleetSchedule"
DUTIES = ("sweep", "pump", "watch", "heartbeat", "checkpoint", "retention")
QUEUES = ("events", "runs", "sweeps", "housekeeping")
LONGEST_S = 86_400
MOST = 100_000
_CLOCK = ((1, 60), (60, 60), (3600, 24))  # a unit in seconds, and how many make the next


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that is due every `every_s` seconds. A sweep's name is that of its agent."""

    name: str
    does: str
    every_s: int


@dataclass(frozen=True, slots=True)
class QueueSize:
    """How much of one kind of work runs at a time; 0 means no limit."""

    name: str
    per_worker: int
    in_all: int
    starts_per_s: int


@dataclass(frozen=True, slots=True)
class Keep:
    """How long records are kept after they ended: ticks, other work, checkpoints of closed runs."""

    ticks_s: int
    work_s: int
    checkpoints_s: int


@dataclass(frozen=True, slots=True)
class FleetSchedule:
    """All of fleet.yaml."""

    lease_s: int
    shard_size: int
    duties: tuple[Duty, ...]
    queues: tuple[QueueSize, ...]
    keep: Keep


def load_fleet_schedule(operations: Path, *, sweeping: Sequence[str]) -> FleetSchedule:
    """The operations folder's fleet.yaml, else the shipped one.

    `sweeping` are the agents that can sweep. Raises PolicyError with the place of a mistake.
    """
    own = operations / "policies" / FILE
    if own.exists():
        return _load(own, sweeping)
    with as_file(files("loop4.policies") / FILE) as shipped:
        return _load(shipped, sweeping)


def _load(path: Path, sweeping: Sequence[str]) -> FleetSchedule:
    documents = read_documents(path, (KIND,))
    if len(documents) != 1:
        raise PolicyError(f"holds {len(documents)} documents, expected one", path=str(path))
    fields = documents[0].spec.fields(("lease_s", "shard_size", "schedules", "queues", "keep"))
    keep = fields["keep"].fields(("ticks_s", "work_s", "checkpoints_s"))
    duties: list[Duty] = []
    for node in fields["schedules"].items():
        duties.append(_duty(node, duties, sweeping))
    queues = {q.name: q for q in map(_queue, fields["queues"].items())}
    for name in QUEUES:
        if name not in queues:
            raise fields["queues"].error(f"queue {name!r} is missing; expected {', '.join(QUEUES)}")
    return FleetSchedule(
        lease_s=fields["lease_s"].integer(2, 3600),
        shard_size=fields["shard_size"].integer(1, MOST),
        duties=tuple(duties),
        queues=tuple(queues.values()),
        keep=Keep(
            *(keep[k].integer(60, 366 * LONGEST_S) for k in ("ticks_s", "work_s", "checkpoints_s"))
        ),
    )


def _duty(node: Node, known: Sequence[Duty], sweeping: Sequence[str]) -> Duty:
    fields = node.fields(("name", "does", "every_s"))
    does = fields["does"].choice("duty", DUTIES)
    name = fields["name"].choice("agent", sweeping) if does == "sweep" else fields["name"].text()
    if any(duty.name == name for duty in known):
        raise fields["name"].error(f"schedule {name!r} stands twice")
    every_s = fields["every_s"].integer(1, LONGEST_S)
    if not any(every_s % one == 0 and of % (every_s // one or 1) == 0 for one, of in _CLOCK):
        raise fields["every_s"].error(
            f"found {every_s}, expected seconds that divide a minute, minutes that divide an hour "
            "or hours that divide a day"
        )
    return Duty(name, does, every_s)


def _queue(node: Node) -> QueueSize:
    fields = node.fields(("name", "per_worker", "in_all", "starts_per_s"))
    per_worker, in_all = (fields[k].integer(0, MOST) for k in ("per_worker", "in_all"))
    if in_all and per_worker > in_all:
        raise fields["per_worker"].error(f"found {per_worker}, expected at most in_all ({in_all})")
    name = fields["name"].choice("queue", QUEUES)
    return QueueSize(name, per_worker, in_all, fields["starts_per_s"].integer(0, MOST))
