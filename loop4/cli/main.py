"""The `loop4` command: finds the sub-command, runs it, and turns errors into one line.

A sub-command's module is imported only when it runs, and typer only then, so that `loop4 --help`
stays fast. A module under `loop4/cli/` offers either `command`, a function with typer annotations,
or `app`, a `typer.Typer` of several commands.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop4.errors import Loop4Error, UsageError

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """One sub-command: its name and what `loop4 --help` says about it."""

    name: str
    summary: str


COMMANDS = (
    Entry("demo", "Break a small real system and watch the fleet mend it"),
    Entry("lab", "Run, break and record the small real system"),
    Entry("handle", "Start or feed a run with an event"),
    Entry("run", "The fleet on duty: watch, decide, act, serve HTTP"),
    Entry("worker", "One of many workers over a shared PostgreSQL database"),
    Entry("resume", "Reconcile and continue all open runs"),
    Entry("status", "How the fleet is: duty, incidents, what waits"),
    Entry("why", "What happened to an incident, action or request, and why"),
    Entry("undo", "Ask for the declared inverse of a done act, through the gate"),
    Entry("handoff", "What happened while you slept, and what waits for you"),
    Entry("approvals", "List, approve or reject what waits for a person"),
    Entry("fleet", "Show and pause the fleet; set its modes and limits"),
    Entry("replay", "Decide a recorded incident again, offline"),
    Entry("ask", "Ask the fleet one question"),
    Entry("chat", "Talk with the fleet: services, incidents, policies, requests"),
    Entry("evidence", "Show, verify, sign and export the evidence chain"),
    Entry("ledger", "Show a ledger's schema version, or migrate it"),
    Entry("policy", "Check, test, prove and explain the rules of the gate"),
    Entry("ingest", "Take in alerts of other systems"),
    Entry("investigate", "Explain an alert from a Prometheus, read-only"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1 failure, 2 usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except Loop4Error as error:
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:
        # the reader went away (`| head`); nothing more can be said on this stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _complain(_say(error), 1)
    except BaseExceptionGroup as group:
        return _first_of(group)


def available() -> tuple[Entry, ...]:
    """The sub-commands whose module is there, in the order of the help text."""
    folder = Path(__file__).parent
    return tuple(entry for entry in COMMANDS if (folder / f"{entry.name}.py").is_file())


def help_text() -> str:
    """What `loop4 --help` prints."""
    rows = [f"  {entry.name:<13}{entry.summary}" for entry in available()]
    return "\n".join(
        [
            "Usage: loop4 COMMAND [ARGUMENTS]",
            "",
            "Operations agents behind a deterministic policy gate.",
            "",
            "Commands:",
            *rows,
            "",
            "Options:",
            "  --version    Print the version",
            "  --help       Print this text; `loop4 COMMAND --help` explains one command",
        ]
    )


def _run(words: Sequence[str]) -> int:
    if not words:
        print(help_text(), file=sys.stderr)
        return UsageError.exit_code
    name, *rest = words
    if name in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"loop4 {_version()}")
        return 0
    known = [entry.name for entry in available()]
    if name not in known:
        raise UsageError(_unknown(name, known))
    return _run_command(name, rest)


def _run_command(name: str, rest: Sequence[str]) -> int:
    import typer
    from typer.main import get_command

    command = get_command(_application(name))
    try:
        result = command.main(args=list(rest), prog_name=f"loop4 {name}", standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message()
        if "\n" in message:  # the help text of a group that was called without a command
            print(message, file=sys.stderr)
            return error.exit_code
        return _complain(f"{message} (see `loop4 {name} --help`)", error.exit_code)
    except typer.Abort:
        return _complain("aborted", 1)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _application(name: str) -> typer.Typer:
    import typer

    module = importlib.import_module(f"loop4.cli.{name}")
    app = getattr(module, "app", None)
    if isinstance(app, typer.Typer):
        return app
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(module.command)
    return single


def _unknown(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(known)
    what = "option" if name.startswith("-") else "command"
    return f"unknown {what} {name!r}; {hint}"


def _version() -> str:
    from importlib.metadata import version

    return version("loop4")


def _first_of(group: BaseExceptionGroup[BaseException]) -> int:
    """What a task group's first expected error says; an unexpected one goes on as it is."""
    if group.subgroup(KeyboardInterrupt):
        return _complain("interrupted", INTERRUPTED)
    _, unexpected = group.split((Loop4Error, OSError))
    if unexpected is not None:
        raise group
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    if isinstance(leaf, Loop4Error):
        return _complain(str(leaf), leaf.exit_code)
    return _complain(_say(leaf), 1)


def _say(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename!r}" if error.filename else ""
        return f"{error.strerror}{where}"
    return str(error) or type(error).__name__


def _complain(message: str, code: int) -> int:
    """One line, without the control characters that quoted input may bring along."""
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    print(f"loop4: {shown}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
