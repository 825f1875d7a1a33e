"""Facts that a write rests on: a known good artefact, and independent kinds of evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from loop4.domain import Action, Incident, JsonObject, Severity
from loop4.errors import Unreachable
from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger
from loop4.policies.catalogue import shipped_catalogue
from loop4.policies.load import load_policy
from loop4.policies.openslo import load_targets
from loop4.tools.backends.ports import Change
from loop4.tools.facts.artefacts import known_good
from loop4.tools.facts.records import evidence_sources
from loop4.tools.facts.sources import Candidate, FactSources
from tests.graphs.toy import START_MS, ToyWorld

INCIDENT = Incident("INC-2026-001", "lab/orders", "orders", "lab", Severity.SEV2, "open", START_MS)
BACK: JsonObject = {"service": "orders", "to_revision": 41}


@pytest.fixture
def toy() -> ToyWorld:
    """A minute of v1, then ten seconds of v1 and v2."""
    toy = ToyWorld()
    toy.run(70)
    toy.deploy()
    toy.run(10)
    return toy


@pytest.fixture
def sources(tmp_path: Path, toy: ToyWorld) -> Iterator[FactSources]:
    with (
        Ledger.open(tmp_path / "ledger.db") as ledger,
        as_file(files("loop4.lab") / "operations") as operations,
    ):
        yield FactSources(
            world=toy.world(),
            ledger=ledger,
            policy=load_policy(),
            catalogue=shipped_catalogue(),
            targets=load_targets(operations / "policies" / "targets"),
            runbooks=(),
            incident=INCIDENT,
            now_ms=toy.clock.now_ms(),
            context_complete=True,
        )


def candidate(arguments: JsonObject, *cited: str, tool: str = "deployments.roll_back") -> Candidate:
    action = Action(
        "a1", INCIDENT.incident_id, tool, "orders", "orders", "lab", arguments, "", "r", "r"
    )
    return Candidate(action, cited)


def is_good(sources: FactSources, asked: Candidate) -> bool:
    fact = asyncio.run(known_good(sources, asked))
    assert fact is not None
    assert type(fact.value) is bool
    return fact.value


def test_what_served_inside_its_target_before_it_was_replaced_is_known_good(
    sources: FactSources,
) -> None:
    assert is_good(sources, candidate(BACK))


def test_what_was_never_replaced_is_not_known_good(sources: FactSources) -> None:
    assert not is_good(sources, candidate({"service": "orders", "to_revision": 42}))


@pytest.mark.parametrize("revision", [7, "41", None])
def test_a_revision_that_nobody_has_is_not_known_good(
    sources: FactSources, revision: int | str | None
) -> None:
    assert not is_good(sources, candidate({"service": "orders", "to_revision": revision}))


@pytest.mark.parametrize(("digest", "good"), [("d41", True), ("d42", False), ("d99", False)])
def test_a_deploy_is_judged_by_the_digest_it_would_bring(
    sources: FactSources, digest: str, good: bool
) -> None:
    arguments: JsonObject = {"service": "orders", "digest": digest, "weight_bp": 10_000}
    assert is_good(sources, candidate(arguments, tool="deployments.deploy")) is good


def test_what_failed_before_it_was_replaced_is_not_known_good(sources: FactSources) -> None:
    ill = ToyWorld(weight_bp=10_000)
    ill.deploy()
    ill.run(70)  # v2 alone, failing
    later = Change(
        "chg-43",
        ill.clock.now_ms(),
        "deploy",
        "orders",
        "",
        42,
        43,
        "v2",
        "v3",
        "d42",
        "d43",
        5_000,
        "dana",
    )

    @dataclass
    class History:
        async def between(
            self, start_ms: int, end_ms: int, *, service: str = ""
        ) -> Sequence[Change]:
            return [later]

    world = replace(ill.world(), changes=History())
    asked = replace(sources, world=world, now_ms=ill.clock.now_ms())
    assert not is_good(asked, candidate({"service": "orders", "to_revision": 42}))


def test_a_history_that_cannot_be_read_gives_no_fact(sources: FactSources) -> None:
    @dataclass
    class Silent:
        async def between(
            self, start_ms: int, end_ms: int, *, service: str = ""
        ) -> Sequence[Change]:
            raise Unreachable("no answer")

    asked = replace(sources, world=replace(sources.world, changes=Silent()))
    assert asyncio.run(known_good(asked, candidate(BACK))) is None


def read_of(
    sources: FactSources, name: str, kind: str, *, incident: str = "", denied: str = ""
) -> str:
    with sources.ledger.transaction() as tx:
        evidence.append(
            tx,
            "read",
            incident or INCIDENT.incident_id,
            "run-1",
            {"evidence": name, "source": kind, "denied": denied},
            at_ms=START_MS,
        )
    return name


def counted(sources: FactSources, *cited: str) -> int:
    fact = asyncio.run(evidence_sources(sources, candidate(BACK, *cited)))
    assert fact is not None
    assert type(fact.value) is int
    return fact.value


def test_two_queries_of_one_kind_are_one_source(sources: FactSources) -> None:
    cited = [read_of(sources, f"ev-{n}", "metrics") for n in range(3)]
    assert counted(sources, *cited) == 1
    assert counted(sources, *cited, read_of(sources, "ev-c", "changes")) == 2


def test_evidence_that_nobody_read_counts_nothing(sources: FactSources) -> None:
    read_of(sources, "ev-1", "metrics")
    assert counted(sources) == 0
    assert counted(sources, "ev-2", "ev-3") == 0


def test_denied_reads_and_other_incidents_count_nothing(sources: FactSources) -> None:
    denied = read_of(sources, "ev-1", "logs", denied="out of scope")
    other = read_of(sources, "ev-2", "traces", incident="INC-2026-002")
    assert counted(sources, denied, other) == 0
