"""Everything that is set from outside, read once: the environment first, then `loop4.toml`.

`LOOP4_DATA` in the environment is `data` in the file. The environment wins. An unknown key is an
error that names the nearest known one, in both places.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loop4.errors import SettingsError

PREFIX = "LOOP4_"
FILE_NAME = "loop4.toml"


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that never prints itself. Empty means that none is set."""

    _value: str = ""

    def reveal(self) -> str:
        """The text itself, for the one place that sends or hashes it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, typed.

    `data` holds the ledger and the checkpoints, unless `db` is the URL of a PostgreSQL database
    that does; it may hold a password. `operations` is the organisation's repository, None if none
    is set. `rules` replaces the shipped rules. `world` names a system as KIND:PLACE,
    `metrics_url` is the base URL of a Prometheus; both are empty if none is set. `token` says who
    the person at the keyboard is. `signing_key` is the file of the private key that signs
    evidence, `checkpoints` the folder elsewhere that keeps copies of what it signed. `eval_data`
    holds public data sets for the evals. `model` is the name of a chat model, empty for none;
    `tool_mode` says how it is asked for calls. `heartbeat_url` is where a dead-man receiver takes
    beats, empty for nowhere.
    """

    data: Path
    db: Secret = field(default_factory=Secret)
    operations: Path | None = None
    rules: Path | None = None
    signing_key: Path | None = None
    checkpoints: Path | None = None
    world: str = ""
    metrics_url: str = ""
    token: Secret = field(default_factory=Secret)
    eval_data: Path | None = None
    model: str = ""
    tool_mode: str = "auto"
    heartbeat_url: str = ""

    @property
    def ledger(self) -> Path | str:
        """Where the ledger lies: a URL, or a file in the data folder."""
        return self.db.reveal() or self.data / "ledger.db"


# key -> type; `token` is only read from the environment, since files get committed
_KEYS: Mapping[str, type] = {
    "data": Path,
    "db": str,
    "operations": Path,
    "rules": Path,
    "signing_key": Path,
    "checkpoints": Path,
    "world": str,
    "metrics_url": str,
    "token": Secret,
    "eval_data": Path,
    "model": str,
    "tool_mode": str,
    "heartbeat_url": str,
}
_SHAPES = {
    "db": (
        re.compile(r"(postgresql\+psycopg|postgresql|postgres)://.+"),
        "postgresql+psycopg://USER@HOST/DATABASE",
    ),
    "world": (re.compile(r"[a-z]+:.+"), "KIND:PLACE, such as 'lab:connection.json'"),
    "metrics_url": (re.compile(r"https?://.+"), "a URL like 'http://127.0.0.1:9090'"),
    "heartbeat_url": (re.compile(r"https?://.+"), "a URL like 'https://beats.example/loop4'"),
    "model": (re.compile(r"\S.*"), "the name of a model"),
    "tool_mode": (
        re.compile(r"auto|native|schema|object|parse|off"),
        "one of auto, native, schema, object, parse, off",
    ),
}
_PASSWORD = re.compile(r"://[^/]*:[^/@]*[^/]*@|[?&](ssl)?password=")


def load_settings(
    environ: Mapping[str, str] | None = None, *, folder: Path | None = None
) -> Settings:
    """The settings in force. Raises SettingsError for an unknown key or a value of the wrong type.

    The file is the one that `LOOP4_CONFIG` names, else `loop4.toml` in `folder` (the current one)
    if it is there. Relative paths in the file are relative to the file. Without `data`, the data
    lie below XDG_DATA_HOME or ~/.local/share.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    values = _from_file(environ, folder)
    values.update(_from_environment(environ, folder))
    data = values.pop("data", None)
    return Settings(
        data=data if isinstance(data, Path) else default_data(environ),
        db=Secret(str(values.get("db", ""))),
        operations=_path(values.get("operations")),
        rules=_path(values.get("rules")),
        signing_key=_path(values.get("signing_key")),
        checkpoints=_path(values.get("checkpoints")),
        world=str(values.get("world", "")),
        metrics_url=str(values.get("metrics_url", "")),
        token=Secret(environ.get(PREFIX + "TOKEN", "")),
        eval_data=_path(values.get("eval_data")),
        model=str(values.get("model", "")),
        tool_mode=str(values.get("tool_mode", "auto")),
        heartbeat_url=str(values.get("heartbeat_url", "")),
    )


def database_url(text: str, where: str) -> Secret:
    """A database URL that somebody gave at `where`. Raises SettingsError for another shape, without
    the URL: it may hold a password.
    """
    return Secret(str(_value("db", text, where, Path())))


def default_data(environ: Mapping[str, str]) -> Path:
    """Where data lie when nobody says otherwise. A relative XDG_DATA_HOME does not count."""
    base = Path(environ.get("XDG_DATA_HOME", ""))
    if not base.is_absolute():
        home = environ.get("HOME", "")
        base = (Path(home) if home else Path.home()) / ".local" / "share"
    return base / "loop4"


def _from_environment(environ: Mapping[str, str], folder: Path) -> dict[str, Path | str]:
    values: dict[str, Path | str] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name == PREFIX + "CONFIG":
            continue
        key = name.removeprefix(PREFIX).lower()
        if key not in _KEYS or not name.isupper():
            known = [PREFIX + known.upper() for known in (*_KEYS, "config")]
            raise SettingsError(_unknown("environment variable", name, name.upper(), known))
        if text and _KEYS[key] is not Secret:
            values[key] = _value(key, text, name, folder)
    return values


def _from_file(environ: Mapping[str, str], folder: Path) -> dict[str, Path | str]:
    named = environ.get(PREFIX + "CONFIG", "")
    path = folder / (named or FILE_NAME)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if named:
            raise SettingsError(f"{path}: no such file; LOOP4_CONFIG names it") from error
        return {}
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 text") from error
    import tomllib  # 5 ms, and most have no file

    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not valid TOML: {error}") from error
    values: dict[str, Path | str] = {}
    for key, value in content.items():
        if key not in _KEYS:
            raise SettingsError(f"{path}: {_unknown('key', key, key, list(_KEYS))}")
        if _KEYS[key] is Secret:
            raise SettingsError(
                f"{path}: {key!r} is a secret and does not belong in a file; "
                f"set {PREFIX}{key.upper()} in the environment"
            )
        if not isinstance(value, str):
            found = {"bool": "true or false", "int": "a number", "float": "a number"}.get(
                type(value).__name__, f"a {type(value).__name__}"
            )
            raise SettingsError(f"{path}: {key!r}: expected text, found {found} ({value!r})")
        if key == "db" and _PASSWORD.search(value):
            raise SettingsError(
                f"{path}: {key!r} holds a password, which does not belong in a file; "
                f"leave it out and use {PREFIX}DB, PGPASSWORD or ~/.pgpass"
            )
        if value:
            values[key] = _value(key, value, f"{path}: {key!r}", path.parent)
    return values


def _value(key: str, text: str, where: str, folder: Path) -> Path | str:
    if _KEYS[key] is Path:
        return folder / Path(text).expanduser()
    pattern, expected = _SHAPES[key]
    if not pattern.fullmatch(text):
        found = "" if key == "db" else f", found {text!r}"  # it may hold a password
        raise SettingsError(f"{where}: expected {expected}{found}")
    return text.rstrip("/")


def _path(value: Path | str | None) -> Path | None:
    return Path(value) if value else None


def _unknown(what: str, name: str, near_to: str, known: list[str]) -> str:
    import difflib  # 5 ms, and only a mistake needs it

    near = difflib.get_close_matches(near_to, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(known)
    return f"unknown {what} {name!r}; {hint}"
