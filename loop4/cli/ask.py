"""`loop4 ask "..."`: one question to the fleet, answered with its evidence."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption
from loop4.cli.fleet_options import OperationsOption, RulesOption, settings_with
from loop4.cli.talk import conversation_for

if TYPE_CHECKING:
    from loop4.graphs.conversation.sheet import Answer
    from loop4.settings import Settings

AGAIN = "nothing was asked for; say it again with --yes to ask for exactly this"


def command(
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help='E.g. "what is going on?"; "help" lists more.')
    ],
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="If it asks for an act: ask for it, as LOOP4_TOKEN's.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer one question from ledger, documents and telemetry. Exit code 1: it has no answer."""
    settings = settings_with(data, operations, rules, db)
    answers = asyncio.run(_ask(settings, question, yes=yes, as_json=as_json))
    if as_json:
        first, *then = [a.to_json() for a in answers]
        typer.echo(json.dumps({**first, "then": then}, indent=2, sort_keys=True))
    if answers[-1].kind.value in ("not_understood", "unknown_name", "incomplete", "refused"):
        raise typer.Exit(code=1)


async def _ask(settings: Settings, question: str, *, yes: bool, as_json: bool) -> list[Answer]:
    from loop4.graphs.conversation.sheet import AnswerKind, nobody_listens

    say = nobody_listens if as_json else typer.echo
    async with conversation_for(settings) as conversation:
        answers = [await conversation.ask(question, say)]
        if answers[0].kind is AnswerKind.ASKS:
            if yes:
                answers.append(await conversation.ask("yes", say))
            else:
                say(AGAIN)
    return answers
