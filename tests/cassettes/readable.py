"""Cassettes that a person can read: bodies as JSON, a stream as its events, with what all of them
share said once and a piece of plain text as {"+": text}.

The time in a stream's events is that of its first one; all else comes back as it was.
"""

from __future__ import annotations

import json
import re
from typing import cast

Body = dict[str, object]
EVENT = "data: "
DONE = "[DONE]"
CHOICES, TIME, PIECE = "choices", "created", "+"
ONE_LINE = ("response_format", "tools", "timings", "stream_options")


def serialize(cassette: Body) -> str:
    """The text of a cassette file, from what vcrpy hands over."""
    interactions = [_written(i) for i in cast("list[Body]", cassette["interactions"])]
    return _pretty({"version": cassette["version"], "interactions": interactions})


def deserialize(text: str) -> Body:
    """What vcrpy wants, from the text of a cassette file. Notes in it (`synthetic`, `what`) are
    passed over.
    """
    body = cast("Body", json.loads(text))
    interactions = [_read(i) for i in cast("list[Body]", body["interactions"])]
    return {"version": body["version"], "interactions": interactions}


def _written(interaction: Body) -> Body:
    request = cast("Body", interaction["request"])
    response = cast("Body", interaction["response"])
    said = cast("Body", response["body"])["string"]
    return {
        "request": {
            "method": request["method"],
            "uri": request["uri"],
            "headers": request["headers"],
            "json": json.loads(str(request["body"] or "null")),
        },
        "response": {
            "status": response["status"],
            "headers": response["headers"],
            **_parts(str(said)),
        },
    }


def _read(interaction: Body) -> Body:
    request, response = cast("Body", interaction["request"]), cast("Body", interaction["response"])
    return {
        "request": {
            "method": request["method"],
            "uri": request["uri"],
            "headers": request.get("headers", {}),
            "body": json.dumps(request.get("json")),
        },
        "response": {
            "status": response["status"],
            "headers": response.get("headers", {}),
            "body": {"string": _whole(response)},
        },
    }


def _parts(said: str) -> Body:
    """A body as `events` (with `every` for what all have), `json`, or `text`."""
    blocks = [b for b in said.split("\n\n") if b]
    if blocks and all(b.startswith(EVENT) and "\n" not in b for b in blocks):
        datas = [b.removeprefix(EVENT) for b in blocks]
        try:
            events = [DONE if d == DONE else json.loads(d) for d in datas]
        except ValueError:
            return {"text": said}
        every = _shared([e for e in events if isinstance(e, dict)])
        return {"every": every, "events": [_short(e, every) for e in events]}
    try:
        return {"json": json.loads(said)}
    except ValueError:
        return {"text": said}


def _shared(events: list[Body]) -> Body:
    """What all events have in common beside their choices, and the first one's time."""
    first = events[0] if events else {}
    return {
        k: v
        for k, v in first.items()
        if k == TIME or (k != CHOICES and all(e.get(k, ...) == v for e in events))
    }


def _short(event: object, every: Body) -> object:
    if not isinstance(event, dict):
        return event
    own: Body = {k: v for k, v in event.items() if k not in every}
    choices = own.get(CHOICES)
    delta = choices[0].get("delta") if isinstance(choices, list) and choices else None
    text = delta.get("content") if isinstance(delta, dict) else None
    return {PIECE: text} if isinstance(text, str) and _long({PIECE: text}) == own else own


def _long(event: Body) -> Body:
    """The event of a piece of plain text; any other event as it is."""
    if PIECE not in event:
        return event
    delta = {"content": event[PIECE]}
    return {CHOICES: [{"index": 0, "delta": delta, "finish_reason": None}]}


def _whole(response: Body) -> str:
    if "events" in response:
        every = cast("Body", response.get("every", {}))
        blocks = [
            DONE if e == DONE else json.dumps({**every, **_long(cast("Body", e))})
            for e in cast("list[object]", response["events"])
        ]
        return "".join(f"{EVENT}{b}\n\n" for b in blocks)
    return str(response["text"]) if "text" in response else json.dumps(response["json"])


def _pretty(body: Body) -> str:
    """Indented JSON in which every event, and what is long and dull, is one line."""
    lines: list[str] = []

    def hidden(value: object, key: str = "") -> object:
        if key == "events":
            lines.extend(json.dumps(e, ensure_ascii=False) for e in cast("list[object]", value))
            first = len(lines) - len(cast("list[object]", value))
            return [f"@@{n}@@" for n in range(first, len(lines))]
        if key in ONE_LINE:
            lines.append(json.dumps(value, ensure_ascii=False))
            return f"@@{len(lines) - 1}@@"
        if isinstance(value, dict):
            return {k: hidden(v, str(k)) for k, v in value.items()}
        return [hidden(v) for v in value] if isinstance(value, list) else value

    shown = json.dumps(hidden(body), indent=1, ensure_ascii=False).split("\n")
    whole = []
    for line in shown:
        place = re.search(r'"@@(\d+)@@"(?=,?$)', line)
        whole.append(line if place is None else line.replace(place[0], lines[int(place[1])]))
    return "\n".join(whole) + "\n"
