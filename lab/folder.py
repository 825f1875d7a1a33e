"""An operations folder of the lab's own organisation, with an on-call person who can vote."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from loop4.errors import LabError
from loop4.policies.people import People, Person, render, token_digest

ON_CALL = "on-call"


@dataclass(frozen=True, slots=True)
class OperationsCopy:
    """A fresh operations folder. `token` belongs to the person of role on-call in its
    people.yaml.
    """

    root: Path
    person: str
    token: str


def make_operations(root: Path) -> OperationsCopy:
    """Copy the lab's operations folder to `root` and give its on-call person a new token.

    Raises LabError if the folder is there already or cannot be written; nothing stays behind then.
    """
    if root.exists():
        raise LabError(f"{str(root)!r} is there already; choose another folder or remove it")
    token = secrets.token_urlsafe(24)
    try:
        with as_file(files("loop4.lab") / "operations") as template:
            shutil.copytree(template, root)
        people = People.load(root / "policies" / "people.yaml").persons
        on_call = next(p for p in people if ON_CALL in p.roles)
        named = [
            Person(p.name, p.roles, token_digest(token)) if p.name == on_call.name else p
            for p in people
        ]
        (root / "policies" / "people.yaml").write_text(render(named), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(root, ignore_errors=True)
        raise LabError(f"cannot make {str(root)!r}: {error.strerror}") from error
    return OperationsCopy(root, on_call.name, token)
