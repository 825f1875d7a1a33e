"""Secrets out: values that look secret become salted hashes before anything is stored.

The same secret gives the same hash within one ledger, so that two records can be compared; the
salt keeps short secrets from being looked up elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from loop4.canonical import canonical_bytes
from loop4.domain import Json
from loop4.ledger.secret_forms import ADDRESS, SECRET, may_hold

_SECRET_WORDS = frozenset(
    "password passwd passphrase passcode pwd secret secrets token tokens credential credentials "
    "cookie cookies authorization bearer apikey privatekey accesskey signingkey jwt otp".split()
)
_SECRET_ENDS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey")
_KEY_PAIRS = frozenset(
    "api private access signing encryption secret ssh account auth session license".split()
)
_COUNT_WORDS = frozenset(
    "count limit budget used total max min ms s ttl kind type name id source".split()
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_MASKED = re.compile(r"redacted:[0-9a-f]{64}")
_FLAG = re.compile(r"--?([A-Za-z][A-Za-z0-9_-]{0,63})")
_HEADERS = frozenset(
    "authorization proxy-authorization cookie set-cookie x-api-key x-auth-token".split()
)


def redact(value: Json, salt: bytes) -> Json:
    """Return `value` with every secret replaced by "redacted:<salted SHA-256>".

    A secret is the whole value under a key that names one (password, token, apiKey, ...), beside
    such a name (an environment variable, a header, a flag), or the part of a string that gives
    itself away (a bearer token, a password in an address, a private key). Booleans, null and counts
    of tokens stay. Doing it again changes nothing.
    """
    if isinstance(value, str):
        return _inline(value, salt)
    if isinstance(value, Mapping):
        named = _is_named_secret(value)
        return {
            _inline(key, salt): _mask(item, salt)
            if _is_secret(key, item) or (named and key == "value")
            else redact(item, salt)
            for key, item in value.items()
        }
    if isinstance(value, Sequence):
        return _list(value, salt)
    return value


def redact_text(text: str, salt: bytes) -> str:
    """Return one text with the parts that give themselves away as secrets replaced by hashes."""
    return _inline(text, salt)


def redact_outside(text: str, salt: bytes) -> str:
    """Return text that came from outside without its secrets and without people's addresses."""
    return ADDRESS.sub(lambda match: _mask(match.group(), salt), _inline(text, salt))


def holds_secret(text: str) -> bool:
    """Whether a part of the text gives itself away as a secret."""
    return may_hold(text) and SECRET.search(text) is not None


def _list(items: Sequence[Json], salt: bytes) -> list[Json]:
    """Items of a list: what stands behind a flag or a header's name that names a secret goes."""
    masked: list[Json] = []
    behind = False
    for item in items:
        masked.append(_mask(item, salt) if behind else redact(item, salt))
        behind = isinstance(item, str) and not behind and _announces(item, pair=len(items) == 2)
    return masked


def _announces(item: str, *, pair: bool) -> bool:
    flag = _FLAG.fullmatch(item)
    return _names_secret(flag[1]) if flag else pair and item.lower() in _HEADERS


def _is_named_secret(value: Mapping[str, Json]) -> bool:
    """Whether it is a pair like {"name": "DB_PASSWORD", "value": ...}, as Kubernetes has them."""
    name, item = value.get("name", value.get("key")), value.get("value")
    if not isinstance(name, str) or item is None:
        return False
    return _is_secret(name, item) or (name.lower() in _HEADERS and item != "")


def _is_secret(key: str, value: Json) -> bool:
    if value is None or isinstance(value, bool) or value == "":
        return False
    if isinstance(value, int | float):
        return _names_secret(key) and not _names_tokens(key)  # how many, not which
    return _names_secret(key)


@lru_cache(maxsize=2048)  # the same few keys stand in every record
def _names_secret(key: str) -> bool:
    words = _words(key)
    if not words or words[-1] in _COUNT_WORDS:
        return False
    pairs = {pair for pair, last in pairwise(words) if last in ("key", "keys")}
    return (
        bool(_SECRET_WORDS & set(words))
        or bool(_KEY_PAIRS & pairs)
        or any(word.endswith(_SECRET_ENDS) for word in words)
    )


def _names_tokens(key: str) -> bool:
    return bool({"token", "tokens"} & set(_words(key)))


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key)]


def _mask(value: Json, salt: bytes) -> str:
    if isinstance(value, str) and _MASKED.fullmatch(value):
        return value
    raw = value.encode(errors="surrogatepass") if isinstance(value, str) else canonical_bytes(value)
    return "redacted:" + hmac.new(salt, raw, hashlib.sha256).hexdigest()


def _inline(text: str, salt: bytes) -> str:
    if not may_hold(text):
        return text

    def replace(match: re.Match[str]) -> str:
        group = match.lastgroup or ""
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        whole = match.group()
        return whole[:start] + _mask(whole[start:end], salt) + whole[end:]

    return SECRET.sub(replace, text)
