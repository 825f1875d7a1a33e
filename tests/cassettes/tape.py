"""The one vcrpy configuration: matched by method, path and body, headers by allow-list, readable
JSON, and nothing recorded unless LOOP4_RECORD=1 is set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import vcr  # type: ignore[import-untyped]  # vcrpy ships no types

from tests.cassettes import readable

FOLDER = Path(__file__).parent
RECORDED = FOLDER / "recorded"
SYNTHETIC = FOLDER / "synthetic"
KEPT = frozenset({"content-type", "retry-after"})  # headers; nothing else gets on disk
PLACE = "http://127.0.0.1"
RECORD = "LOOP4_RECORD"


class Tape:
    """A cassette in use. `left`: how many of its answers were not asked for."""

    def __init__(self, cassette: object) -> None:
        self._cassette = cassette

    @property
    def played(self) -> int:
        """How many answers were played."""
        return int(self._cassette.play_count)  # type: ignore[attr-defined]  # a vcr Cassette

    @property
    def left(self) -> int:
        """How many answers are still there."""
        return len(self._cassette) - self.played  # type: ignore[arg-type]  # a vcr Cassette


def is_recording() -> bool:
    """Whether cassettes are made in this run. Never in CI."""
    return os.environ.get(RECORD) == "1"


@contextmanager
def tape(path: Path, *, any_body: bool = False) -> Iterator[Tape]:
    """Play `path`, or record it. `any_body` is for hand-made cassettes, which answer any request in
    their order.
    """
    records = is_recording() and not any_body
    deck = vcr.VCR(
        record_mode="all" if records else "none",
        match_on=("method", "path") if any_body else ("method", "path", "same_json"),
        before_record_request=_plain_request,
        before_record_response=_plain_response,
        serializer="readable",
        drop_unused_requests=records,  # else unplayed answers would be deleted from the file
    )
    deck.register_serializer("readable", readable)
    deck.register_matcher("same_json", _same_json)
    with deck.use_cassette(str(path)) as cassette:
        yield Tape(cassette)


def _same_json(asked: object, stored: object) -> None:
    """Raise AssertionError unless both bodies are the same JSON."""
    ours, theirs = (json.loads(_text(r)) for r in (asked, stored))
    if ours != theirs:
        raise AssertionError("the request is not the one that was recorded")


def _text(request: object) -> str:
    body = cast("bytes | str | None", getattr(request, "body", None))
    return (body.decode() if isinstance(body, bytes) else body) or "null"


def _plain_request(request: object) -> object:
    """The request without its host and without headers that are not on the list."""
    path = str(getattr(request, "path", ""))
    kept = {k: v for k, v in _headers(request).items() if k.lower() in KEPT}
    request.uri = PLACE + path  # type: ignore[attr-defined]  # a vcr Request
    request.headers = kept  # type: ignore[attr-defined]  # a vcr Request
    return request


def _headers(request: object) -> dict[str, str]:
    return dict(getattr(request, "headers", {}))


def _plain_response(response: dict[str, object]) -> dict[str, object]:
    headers = cast("dict[str, object]", response["headers"])
    kept = {k: v for k, v in headers.items() if k.lower() in KEPT}
    return {**response, "headers": kept}
