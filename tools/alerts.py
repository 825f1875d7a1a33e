"""Alertmanager webhooks (version 4) read into events.

Labels and annotations are data from outside: a label names a service, it never makes one known.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal, NoReturn
from urllib.parse import parse_qs, urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from loop4.domain import Event, EventKind
from loop4.errors import InputError
from loop4.ledger.jsontext import each_once
from loop4.policies.catalogue import Catalogue

LARGEST_BYTES = 1024 * 1024
DEEPEST = 16
MOST_ALERTS = 1000
LONGEST_TEXT = 2000
LONGEST_URL = 16_384

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Text = Annotated[str, StringConstraints(max_length=65_536)]
_Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{1,64}$")]


class _Alert(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    status: Literal["firing", "resolved"]
    labels: dict[_Name, _Text]
    annotations: dict[_Name, _Text]
    startsAt: AwareDatetime
    endsAt: AwareDatetime
    fingerprint: _Fingerprint
    generatorURL: str = ""


class _Webhook(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    version: Literal["4"]
    groupKey: str
    status: Literal["firing", "resolved"]
    alerts: list[_Alert]


def alert_events(body: bytes, *, environment: str = "", name: str = "webhook") -> list[Event]:
    """One event for each alert of an Alertmanager v4 body, oldest first.

    An alert that stands there twice is one event, and its id is the same in every delivery.
    `environment` holds for alerts without a label of that name; `name` is for messages. Raises
    InputError for what is not such a body.
    """
    webhook = _validated(body, name)
    if len(webhook.alerts) > MOST_ALERTS:
        raise InputError(
            f"{name}: {len(webhook.alerts)} alerts, expected at most {MOST_ALERTS};"
            " set max_alerts in Alertmanager"
        )
    events: dict[str, Event] = {}
    for index, alert in enumerate(webhook.alerts):
        event = _event(alert, environment, f"{name}: alerts[{index}]")
        events.setdefault(event.event_id, event)
    return sorted(events.values(), key=lambda event: (event.at_ms, event.event_id))


def placed(event: Event, catalogue: Catalogue) -> Event:
    """The event in its service's environment, where neither label nor option named one."""
    service = catalogue.service(event.service)
    if event.environment or service is None:
        return event
    return replace(
        event,
        environment=service.environment,
        correlation=f"{service.environment}/{event.service}",
    )


def alert_expressions(body: bytes, *, name: str = "webhook") -> dict[str, str]:
    """The query behind each alert, by event id, where Prometheus wrote it into the alert's URL.

    Text from outside: a query to ask, judged and bounded like any other read. Raises as
    `alert_events`.
    """
    found = {}
    for alert in _validated(body, name).alerts:
        expression = _expression(alert.generatorURL)
        if expression:
            found[_event_id(alert)] = expression
    return found


def _expression(url: str) -> str:
    """The parameter `g0.expr` of a Prometheus graph link; empty if there is none."""
    if len(url) > LONGEST_URL:
        return ""
    try:
        query = urlsplit(url).query
        return parse_qs(query, max_num_fields=100).get("g0.expr", [""])[0].strip()
    except ValueError:  # a malformed host, or a flood of parameters
        return ""


def _event_id(alert: _Alert) -> str:
    """The same in every delivery; a resolve is an event of its own."""
    resolved = ":resolved" if alert.status == "resolved" else ""
    return f"alertmanager:{alert.fingerprint.lower()}:{_moment(alert.startsAt)}{resolved}"


def _event(alert: _Alert, environment: str, where: str) -> Event:
    labels = dict(alert.labels)
    if not labels.get("alertname"):
        raise InputError(f"{where}.labels: no alertname; every Alertmanager alert has one")
    resolved = alert.status == "resolved"
    if resolved and alert.endsAt < alert.startsAt:
        raise InputError(
            f"{where}.endsAt: found {alert.endsAt.isoformat()} for a resolved alert that began"
            f" {alert.startsAt.isoformat()}; expected the moment it ended"
        )
    service = labels.get("service") or labels.get("job", "")
    environment = labels.get("environment") or environment
    return Event(
        event_id=_event_id(alert),
        kind=EventKind.ALERT,
        source="alertmanager",
        service=service,
        environment=environment,
        at_ms=_ms(alert.endsAt if resolved else alert.startsAt),
        correlation=f"{environment}/{service}",
        resolved=resolved,
        labels=labels,
        text=_text(alert),
    )


def _text(alert: _Alert) -> str:
    """The annotations for people, one a line, cut to a fixed length."""
    lines = (alert.annotations.get(key, "") for key in ("summary", "description", "message"))
    return "\n".join(line for line in lines if line)[:LONGEST_TEXT]


def _validated(body: bytes, name: str) -> _Webhook:
    if len(body) > LARGEST_BYTES:
        raise InputError(f"{name}: {len(body)} bytes, expected at most {LARGEST_BYTES}")
    try:
        text = body.decode("utf-8-sig")
        _refuse_depth(text, name)
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=each_once)
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}; expected the body of an"
            " Alertmanager webhook"
        ) from error
    except ValueError as error:
        raise InputError(f"{name}: not JSON: {error}") from error
    try:
        # validated as JSON so that strict mode still reads times from text
        return _Webhook.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"{name}: {_place(first['loc'])}: {_reason(first['msg'])}") from error


def _refuse_depth(text: str, name: str) -> None:
    """Count brackets outside strings, before anything recurses into them."""
    depth, inside, escaped = 0, False, False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            if depth > DEEPEST:
                raise InputError(f"{name}: nested deeper than {DEEPEST} levels")
        elif character in "]}":
            depth -= 1


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part != "[key]":
            place += f".{part}" if place else part
    return place or "the body"


def _reason(message: str) -> str:
    return "is missing" if message == "Field required" else message[:1].lower() + message[1:]


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(moment: datetime) -> str:
    """UTC to the millisecond, whatever zone and precision the sender wrote it in."""
    in_utc = moment.astimezone(UTC)
    fraction = f".{in_utc.microsecond // 1000:03d}".rstrip("0").rstrip(".")
    return f"{in_utc:%Y-%m-%dT%H:%M:%S}{fraction}Z"
