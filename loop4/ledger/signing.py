"""The key pair that signs for a ledger: Ed25519, as PEM files that any tool reads.

The private key stays with the operator; whoever has the public one can check what was signed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from loop4.errors import InputError, UsageError
from loop4.ledger.durable_file import write_new

PRIVATE_NAME, PUBLIC_NAME = "evidence-signing-key.pem", "evidence-public-key.pem"
_KEY_BYTES = 4096  # a PEM file of this kind has 120
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Checks signatures. `key_id` is the SHA-256 of the raw key."""

    key_id: str
    _key: Ed25519PublicKey = field(repr=False)

    def is_signed(self, message: bytes, signature: str) -> bool:
        """Say whether this key's owner signed the message. `signature` is hexadecimal."""
        try:
            self._key.verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs. Never prints its key."""

    public: PublicKey
    _key: Ed25519PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> str:
        """Return the signature, 128 hexadecimal digits."""
        return self._key.sign(message).hex()


def generate_keys(folder: Path) -> Signer:
    """Make a key pair in `folder` and return it: two new PEM files, the private one mode 0600.

    Raises UsageError, with nothing written, if the folder is missing or either file exists.
    """
    private_path, public_path = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    if not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is no folder; make it first")
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise _taken(path)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_key(private_path, private, 0o600)
    try:
        _write_key(public_path, public, 0o644)
    except BaseException:
        private_path.unlink(missing_ok=True)
        raise
    return _signer(key)


def load_signer(path: Path) -> Signer:
    """Return the private key of a PEM file.

    Raises InputError for a file that is missing, is no such key, or may be read by others.
    """
    text, mode = _read(path, "a private key")
    if mode & _OTHERS:
        raise InputError(
            f"signing key {str(path)!r} may be read or changed by others (mode {mode:04o}); "
            f"run `chmod 600` on it, or make a new pair if it was exposed"
        )
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:
        raise InputError(_wrong(path, "an unencrypted Ed25519 private key in PEM")) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(_wrong(path, "an Ed25519 private key; this is of another kind"))
    return _signer(key)


def load_public_key(path: Path) -> PublicKey:
    """Return the public key of a PEM file. Raises InputError for anything else."""
    text, _ = _read(path, "a public key")
    try:
        key = load_pem_public_key(text)
    except ValueError as error:
        hint = ""
        if b"PRIVATE KEY" in text:
            hint = "; this is a private key, which nobody should be handed"
        raise InputError(_wrong(path, f"an Ed25519 public key in PEM{hint}")) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(_wrong(path, "an Ed25519 public key; this is of another kind"))
    return _public(key)


def _write_key(path: Path, body: bytes, mode: int) -> None:
    if not write_new(path, body, mode=mode):
        raise _taken(path)


def _taken(path: Path) -> UsageError:
    return UsageError(f"{str(path)!r} exists and is not overwritten; name another folder")


def _signer(key: Ed25519PrivateKey) -> Signer:
    return Signer(_public(key.public_key()), key)


def _public(key: Ed25519PublicKey) -> PublicKey:
    return PublicKey(hashlib.sha256(key.public_bytes_raw()).hexdigest(), key)


def _read(path: Path, what: str) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            return file.read(_KEY_BYTES), mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{str(path)!r} cannot be read ({reason}); expected {what}") from error


def _wrong(path: Path, expected: str) -> str:
    return f"{str(path)!r}: expected {expected}; `loop4 evidence keygen` makes a pair"
