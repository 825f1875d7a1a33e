"""What a name from outside may look like. Telemetry names things with text that anybody may have
written; whatever is no plain name gets one here, before an agent, a query or a record sees it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from loop4.ledger.redaction import holds_secret
from loop4.tools.backends.ports import (
    Change,
    Instance,
    Inventory,
    LogRecord,
    Revision,
    Series,
    Span,
    Workload,
)

UNNAMED = "unnamed-"
IDENTITIES = frozenset({"service", "version", "instance", "dependency"})  # labels that name things
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,126}")
_NO_NAME = re.compile(r"//|\.\.")  # an address, or a way out of a folder


@lru_cache(maxsize=4096)
def is_name(text: str) -> bool:
    """Whether a text has the shape of a name and of no secret: letters, digits, `._:/+-`."""
    return (
        _NAME.fullmatch(text) is not None
        and _NO_NAME.search(text) is None
        and not holds_secret(text)
    )


@lru_cache(maxsize=4096)
def named(text: str) -> str:
    """The text if it is a name or empty, else `unnamed-` with eight digits of its digest.

    The same text always gets the same name, so two readings of it still match. Nothing answers to
    such a name: an act on it finds no target.
    """
    if not text or is_name(text):
        return text
    return UNNAMED + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def label_literal(value: str) -> str:
    """A label's value as a PromQL string literal, quotes included, whatever it holds."""
    return json.dumps(value, ensure_ascii=False)


def named_series(series: Series) -> Series:
    """The series with names in the labels that name things; other labels are left as they are."""
    if all(is_name(v) or not v for k, v in series.labels.items() if k in IDENTITIES):
        return series
    return replace(series, labels=_named_labels(series.labels))


def _named_labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {k: named(v) if k in IDENTITIES else v for k, v in labels.items()}


def named_span(span: Span) -> Span:
    """The span with names for its service, version, instance and peer. Its own name is text."""
    found = tuple(map(named, (span.service, span.version, span.instance, span.peer)))
    if found == (span.service, span.version, span.instance, span.peer):
        return span
    service, version, instance, peer = found
    return replace(span, service=service, version=version, instance=instance, peer=peer)


def named_record(record: LogRecord) -> LogRecord:
    """The log line with names for its service, version and instance. Its body is text."""
    return replace(
        record,
        service=named(record.service),
        version=named(record.version),
        instance=named(record.instance),
    )


def named_change(change: Change) -> Change:
    """The change with names for everything but its text."""
    return replace(
        change,
        change_id=named(change.change_id),
        kind=named(change.kind),
        service=named(change.service),
        instance=named(change.instance),
        from_version=named(change.from_version),
        to_version=named(change.to_version),
        actor=named(change.actor),
    )


def named_inventory(inventory: Inventory) -> Inventory:
    """What runs, with names for services, versions and instances."""
    return replace(
        inventory,
        workloads=tuple(_named_workload(w) for w in inventory.workloads),
        externals=tuple(map(named, inventory.externals)),
    )


def _named_workload(workload: Workload) -> Workload:
    return replace(
        workload,
        service=named(workload.service),
        revisions=tuple(_named_revision(r) for r in workload.revisions),
        instances=tuple(_named_instance(i) for i in workload.instances),
    )


def _named_revision(revision: Revision) -> Revision:
    return replace(revision, version=named(revision.version))


def _named_instance(instance: Instance) -> Instance:
    return replace(
        instance,
        instance=named(instance.instance),
        service=named(instance.service),
        version=named(instance.version),
        state=named(instance.state),
    )
