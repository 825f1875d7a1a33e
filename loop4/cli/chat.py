"""`loop4 chat`: a conversation with the fleet at the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loop4.cli.data_folder import DataOption, DbOption
from loop4.cli.fleet_options import OperationsOption, RulesOption, settings_with
from loop4.cli.talk import conversation_for
from loop4.errors import LedgerError, Loop4Error

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from loop4.graphs.conversation.conversation import Conversation
    from loop4.settings import Settings

PROMPT = "loop4> "
LEAVE = frozenset({"exit", "quit", "bye"})
HISTORY = "chat_history"
LONGEST = 4_096  # bytes; more than the longest question in any script


def command(
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
) -> None:
    """Ask about services, incidents, budgets, changes, policies and past decisions; ask for acts.

    Nothing runs without the gate: an act becomes a request in the name of the person whose token is
    in LOOP4_TOKEN, after a yes. `exit` or end of input leaves.
    """
    asyncio.run(_chat(settings_with(data, operations, rules, db)))


async def _chat(settings: Settings) -> None:
    from loop4.graphs.conversation.sheet import AnswerKind

    async with conversation_for(settings) as conversation:
        who = conversation.person
        typer.echo(
            f"signed in as {who.name} ({', '.join(who.roles)})"
            if who
            else "nobody is signed in (LOOP4_TOKEN): you can ask anything, and ask for nothing"
        )
        typer.echo("`help` lists what can be asked; `exit` leaves")
        async for line in _lines(settings, conversation):
            if line.strip().casefold() in LEAVE:
                return
            if not line.strip():
                continue
            try:
                answer = await conversation.ask(line, typer.echo)
            except LedgerError:
                raise  # nothing can be told or asked for any more
            except Loop4Error as error:
                typer.echo(f"loop4: {error}")
                continue
            if answer.kind is AnswerKind.ASKS:
                typer.echo("say yes to ask for exactly this; anything else leaves it")


async def _lines(settings: Settings, conversation: Conversation) -> AsyncIterator[str]:
    """What the person types; from a pipe, line by line, echoed so that a transcript can be read."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        for line in iter(_typed, b""):
            text = line.decode("utf-8", errors="replace").rstrip("\r\n")
            typer.echo(f"{PROMPT}{_echoed(text)}")
            yield text
        return
    session = _session(settings, conversation)
    while True:
        try:
            yield await session.prompt_async(PROMPT)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _typed() -> bytes:
    """The next line of standard input. Of one that is too long only the beginning, which is too
    long for a question as well; the rest is passed over.
    """
    line = sys.stdin.buffer.readline(LONGEST)
    more = line
    while len(more) == LONGEST and not more.endswith(b"\n"):
        more = sys.stdin.buffer.readline(LONGEST)
    return line


def _echoed(text: str) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _session(settings: Settings, conversation: Conversation) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    from loop4.graphs.conversation.intents import TABLE

    documents = conversation.lookout.documents
    words = [row.example for row in TABLE]
    words += [*documents.catalogue.names(), *(r.name for r in documents.runbooks)]
    path = settings.data / HISTORY
    history: History = FileHistory(path) if _own(path) else InMemoryHistory()
    return PromptSession(
        history=history,
        completer=WordCompleter(words, ignore_case=True, sentence=True),
        complete_while_typing=False,
    )


def _own(path: Path) -> bool:
    """Make the history file, readable by this person alone. False if the data folder is not there
    or cannot be written: then there is no history on disk.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600))
    except OSError:
        return False
    return True
