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

_SECRET_WORDS = frozenset(
    "password passwd passphrase pwd secret secrets token tokens credential credentials cookie "
    "cookies authorization bearer apikey privatekey accesskey signingkey".split()
)
_KEY_PAIRS = frozenset({"api", "private", "access", "signing", "encryption", "secret", "ssh"})
_COUNT_WORDS = frozenset("count limit budget used total max min ms s ttl kind type name id".split())
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_MASKED = re.compile(r"redacted:[0-9a-f]{64}")
# Keys that are known by their beginning, wherever they stand.
_KEYS = (
    r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{12,}|\bgh[pousr]_[A-Za-z0-9]{16,}"
    r"|\bgithub_pat_[A-Za-z0-9_]{16,}|\bglpat-[A-Za-z0-9_-]{12,}|\bxox[abprs]-[A-Za-z0-9-]{8,}"
    r"|\bA(?:KIA|SIA)[A-Z0-9]{12,}|\bAIza[A-Za-z0-9_-]{20,}|\bhvs\.[A-Za-z0-9_-]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"
)
# What gives itself away inside free text: the secret is the group named `s`.
_INLINE = re.compile(
    r"(?i:\bbearer\s+|\bbasic\s+)(?P<s1>[A-Za-z0-9._~+/=-]{8,})"
    r"|://[^/\s:@]*:(?P<s2>[^/\s@]+)@"
    r"|(?i:\b(?:password|passwd|pwd|secret|token|api[_-]?key)\s*[=:]\s*)(?P<s3>[^\s,;&\"']+)"
    r"|(?P<s4>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))"
    rf"|(?P<s5>{_KEYS})",
    re.DOTALL,
)
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")


def redact(value: Json, salt: bytes) -> Json:
    """Return `value` with every secret replaced by "redacted:<salted SHA-256>".

    A secret is the whole value under a key that names one (password, token, apiKey, ...), or the
    part of a string that gives itself away (a bearer token, a password in an address, a private
    key). Booleans, null and counts of tokens stay. Doing it again changes nothing.
    """
    if isinstance(value, str):
        return _inline(value, salt)
    if isinstance(value, Mapping):
        return {
            key: _mask(item, salt) if _is_secret(key, item) else redact(item, salt)
            for key, item in value.items()
        }
    if isinstance(value, Sequence):
        return [redact(item, salt) for item in value]
    return value


def redact_outside(text: str, salt: bytes) -> str:
    """Return text that came from outside without its secrets and without people's addresses."""
    return _ADDRESS.sub(lambda match: _mask(match.group(), salt), _inline(text, salt))


def holds_secret(text: str) -> bool:
    """Whether a part of the text gives itself away as a secret."""
    return _INLINE.search(text) is not None


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
    return bool(_SECRET_WORDS & set(words)) or bool(_KEY_PAIRS & pairs)


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
    def replace(match: re.Match[str]) -> str:
        group = match.lastgroup or "s1"
        secret = match.group(group)
        start = match.start(group) - match.start()
        whole = match.group()
        return whole[:start] + _mask(secret, salt) + whole[start + len(secret) :]

    return _INLINE.sub(replace, text)
