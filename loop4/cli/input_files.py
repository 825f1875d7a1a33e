"""What a command is handed as a file or on standard input: read up to a limit, or refused in one
line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from loop4.errors import InputError

STDIN = "-"


def read_input(name: str, *, expected: str, at_most: int) -> bytes:
    """The bytes of a file, of standard input for `-`.

    `expected` says what should be in it. Raises InputError for what cannot be read and for more
    than `at_most` bytes; no more than that is ever held.
    """
    try:
        if name == STDIN:
            body = sys.stdin.buffer.read(at_most + 1)
        else:
            with Path(name).open("rb") as file:
                body = file.read(at_most + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{shown(name)} cannot be read ({reason}); expected {expected}") from error
    if len(body) > at_most:
        raise InputError(
            f"{shown(name)} holds more than {at_most} bytes; expected {expected}, which is smaller"
        )
    return body


def shown(name: str) -> str:
    """How messages name it."""
    return "standard input" if name == STDIN else name
