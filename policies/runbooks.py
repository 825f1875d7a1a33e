"""Typed runbooks: which finding they answer, and which declared tools they call with which facts.

A runbook is the organisation's leave to remediate. Its steps name tools and named facts, never
commands: what cannot be typed stays a step for a person, in the Markdown file beside it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from loop4.domain import Json
from loop4.errors import PolicyError
from loop4.policies.documents import Document, Node, read_documents

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_FINDING = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TOOL = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class NamedFact(StrEnum):
    """What a step's argument may stand for. Code computes each from the world, never from text."""

    SERVICE = "service"
    INSTANCE = "instance"
    PREVIOUS_GOOD_REVISION = "previous_good_revision"
    PREVIOUS_GOOD_DIGEST = "previous_good_digest"
    NOW_MS = "now_ms"
    CURRENT_REPLICAS = "current_replicas"


@dataclass(frozen=True, slots=True)
class Step:
    """One typed call. `when` is a sentence for people; conditions that bind are rules of the
    gate.
    """

    tool: str
    arguments: Mapping[str, NamedFact | int | bool]
    when: str = ""


@dataclass(frozen=True, slots=True)
class Runbook:
    """One runbook. No `services` means all of them. `path` names its file, for links."""

    name: str
    owner: str
    findings: tuple[str, ...]
    services: tuple[str, ...]
    steps: tuple[Step, ...]
    verify_window_s: int
    path: str = ""


def load_runbooks(folder: Path, *, tools: Collection[str] | None = None) -> tuple[Runbook, ...]:
    """Every runbook in a folder's *.yaml files, by name. `tools` are the declared tools, to check.

    Raises PolicyError with file, line and column; also when the folder is not there.
    """
    if not folder.is_dir():
        raise PolicyError("is not a folder; expected runbooks (*.yaml)", path=str(folder))
    runbooks: dict[str, Runbook] = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in read_documents(path, ("Runbook",)):
            runbook = _runbook(document, tools)
            if runbook.name in runbooks:
                other = runbooks[runbook.name].path
                raise document.body.error(f"the runbook {runbook.name!r} stands in {other} already")
            runbooks[runbook.name] = runbook
    return tuple(runbooks[name] for name in sorted(runbooks))


def match_runbook(runbooks: Sequence[Runbook], finding_kind: str, service: str) -> Runbook | None:
    """The runbook for this finding on this service, or None: nobody said what to do.

    One that names the service wins over one for all services; then the name decides.
    """
    fitting = [
        runbook
        for runbook in runbooks
        if finding_kind in runbook.findings
        and (not runbook.services or service in runbook.services)
    ]
    return min(fitting, key=lambda runbook: (not runbook.services, runbook.name), default=None)


def fill(step: Step, facts: Mapping[str, int | str]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """The step's absolute arguments, and the names of the facts that are missing for them.

    With anything missing the step must not be proposed.
    """
    arguments: dict[str, Json] = {}
    missing: list[str] = []
    for name, source in step.arguments.items():
        if not isinstance(source, NamedFact):
            arguments[name] = source
        elif source.value in facts:
            arguments[name] = facts[source.value]
        else:
            missing.append(source.value)
    return arguments, tuple(missing)


def _runbook(document: Document, tools: Collection[str] | None) -> Runbook:
    body, spec = document.body, document.spec.fields(("matches", "steps", "verify_window_s"))
    metadata = body.mapping()["metadata"].fields(("name", "owner"), ("description",))
    matches = spec["matches"].fields(("findings",), ("services",))
    services = matches["services"].items() if "services" in matches else ()
    return Runbook(
        name=_word(metadata["name"], _NAME, "bad-deploy-rollback"),
        owner=metadata["owner"].text(),
        findings=tuple(
            _word(item, _FINDING, "guilty_change") for item in matches["findings"].one_or_more()
        ),
        services=tuple(item.text() for item in services),
        steps=tuple(_step(item, tools) for item in spec["steps"].one_or_more()),
        verify_window_s=spec["verify_window_s"].integer(1, 86_400),
        path=body.path,
    )


def _step(item: Node, tools: Collection[str] | None) -> Step:
    entry = item.fields(("tool", "arguments"), ("when",))
    tool = _word(entry["tool"], _TOOL, "deployments.roll_back")
    if tools is not None:
        entry["tool"].choice("tool", tools)
    arguments = {name: _argument(value) for name, value in entry["arguments"].mapping().items()}
    return Step(tool, arguments, entry["when"].text() if "when" in entry else "")


def _argument(value: Node) -> NamedFact | int | bool:
    if isinstance(value.content, int):  # a boolean is one too
        return value.content
    return NamedFact(value.choice("fact", [fact.value for fact in NamedFact]))


def _word(value: Node, pattern: re.Pattern[str], example: str) -> str:
    word = value.text()
    if not pattern.fullmatch(word):
        raise value.error(f"found {word!r}, expected a word like {example!r}")
    return word
