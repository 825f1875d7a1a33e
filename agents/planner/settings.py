"""Which endpoint a model is asked at, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from loop4.errors import SettingsError
from loop4.settings import Secret

OPENAI = "https://api.openai.com/v1"


class ToolMode(StrEnum):
    """How the model is asked for calls. `auto` tries; `off` asks no model."""

    AUTO = "auto"
    NATIVE = "native"
    SCHEMA = "schema"
    OBJECT = "object"
    PARSE = "parse"
    OFF = "off"


MAX_RETRIES = 2  # servers close a kept connection just when the next request is on its way


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One endpoint. The key prints as ***. `timeout_s` bounds the wait for the next piece, twice it
    for the whole answer is the caller's budget.
    """

    model: str
    base_url: str = field(default=OPENAI, repr=False)  # may hold a password; `place` is for show
    api_key: Secret = field(default_factory=Secret)
    tool_mode: ToolMode = ToolMode.AUTO
    timeout_s: float = 30.0
    max_retries: int = MAX_RETRIES
    answer_tokens: int = 900

    @property
    def place(self) -> str:
        """The base URL without user, password and query."""
        return place_of(self.base_url)


def place_of(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def model_settings(
    environ: Mapping[str, str] | None = None, *, model: str = "", tool_mode: str = ""
) -> ModelSettings | None:
    """The endpoint that the environment names, or None when no model is configured or it is off.

    `model` and `tool_mode` (from the settings file) count where LOOP4_MODEL and LOOP4_TOOL_MODE are
    not set. Raises SettingsError with one line for what cannot be used.
    """
    environ = os.environ if environ is None else environ
    name = (environ.get("LOOP4_MODEL", "") or model).strip()
    mode_text = (environ.get("LOOP4_TOOL_MODE", "") or tool_mode or "auto").strip().lower()
    try:
        mode = ToolMode(mode_text)
    except ValueError:
        known = ", ".join(m.value for m in ToolMode)
        raise SettingsError(
            f"LOOP4_TOOL_MODE: expected one of {known}, found {mode_text!r}"
        ) from None
    if not name or mode is ToolMode.OFF:
        return None
    url = environ.get("OPENAI_BASE_URL", "").strip() or OPENAI
    key = Secret(environ.get("OPENAI_API_KEY", "").strip())
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise SettingsError(
            "OPENAI_BASE_URL: expected a URL like 'http://127.0.0.1:8080/v1', "
            f"found {url.rsplit('@', 1)[-1]!r}"
        )
    if not key and url == OPENAI:
        raise SettingsError(
            f"LOOP4_MODEL is {name!r} but OPENAI_API_KEY is not set; set it, or name another "
            "endpoint with OPENAI_BASE_URL"
        )
    return ModelSettings(name, url, key, mode)
