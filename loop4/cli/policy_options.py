"""The options that the policy commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RulesOption = Annotated[
    Path | None,
    typer.Option("--rules", metavar="DIR", help="Rules folder instead of the shipped one."),
]
BindingsOption = Annotated[
    list[Path] | None,
    typer.Option("--bindings", metavar="FILE", help="Bindings instead of the shipped; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
