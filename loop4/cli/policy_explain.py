"""`loop4 policy explain ACTION.json`: the verdict on one action, and everything behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from loop4.cli.data_folder import DataOption, DbOption, plain
from loop4.cli.input_files import read_input, shown
from loop4.cli.policy_options import BindingsOption, JsonOption, RulesOption
from loop4.cli.policy_organisation import explain_agent
from loop4.errors import InputError, UsageError

if TYPE_CHECKING:
    from loop4.domain import Action, Fact, FactScalar, Json, Mode
    from loop4.policies.explain import Explanation, RuleNote
    from loop4.policies.people import People
    from loop4.policies.policy import Policy
    from loop4.policies.situation import Situation

EXPECTED = "an action: {tool, service, environment, arguments, facts, ...}"
MOST_BYTES = 1024 * 1024
_WORDS = ("service", "environment", "agent", "requester", "target", "target_revision", "action_id")
_KEYS = ("tool", *_WORDS, "incident_id", "requester_kind", "arguments", "facts")
_DECISION = (
    "action_digest", "reason", "effect", "decided", "rules", "reasons", "mode", "policy_version",
    "approval_id",
)  # fmt: skip


def explain(
    action: Annotated[
        str | None,
        typer.Argument(metavar="ACTION.json", help="The action; - reads standard input."),
    ] = None,
    rules: RulesOption = None,
    bindings: BindingsOption = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="Judge under this mode, not under the bindings.")
    ] = None,
    assume_safe: Annotated[
        bool,
        typer.Option("--assume-safe", help="Take each fact that is left out at its safe value."),
    ] = False,
    operations: Annotated[
        Path | None,
        typer.Option("--operations", metavar="DIR", help="Names the people who could approve."),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="NAME", help="Say what this agent may run instead."),
    ] = None,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the gate decides on one action and why: rules that matched and nearly matched, what
    would lift the verdict, who could approve. The action may be a decision as `loop4 evidence show
    --json` prints it, or an example of `loop4 policy prove --json`. Exit 0 whatever the verdict.
    """
    from loop4.policies.explain import explain as look
    from loop4.policies.load import load_policy
    from loop4.policies.people import People

    if agent is not None:
        if action is not None:
            raise UsageError("expected ACTION.json or --agent NAME, not both")
        explain_agent(agent, operations, rules, data, db, as_json)
        return
    if action is None:
        raise UsageError("expected ACTION.json (- reads it from standard input) or --agent NAME")
    policy = load_policy(rules, bindings or ())
    situation = _situation(action, policy, _mode(mode), assume_safe=assume_safe)
    found = look(situation, policy)
    people = People.load(operations / "policies" / "people.yaml") if operations else None
    approvers = _approvers(found, people)
    if as_json:
        body: dict[str, Json] = {**found.to_json(), "approvers": list(approvers)}
        typer.echo(json.dumps(body, indent=2))
        return
    typer.echo("\n".join(_lines(found, situation, approvers)))


def _mode(word: str | None) -> Mode | None:
    from loop4.domain import Mode
    from loop4.policies.documents import unknown

    if word is None:
        return None
    if word not in tuple(Mode):
        raise UsageError(unknown("mode", word, Mode))
    return Mode(word)


def _situation(file: str, policy: Policy, mode: Mode | None, *, assume_safe: bool) -> Situation:
    """The situation that the file describes. Raises InputError naming what cannot be used."""
    from loop4.policies.cases import NOW_MS, safe_action, safe_facts
    from loop4.policies.documents import unknown
    from loop4.policies.situation import Situation

    body, now_ms, said_mode = _content(file)
    name = shown(file)
    for key in body:
        if key not in (*_KEYS, *_DECISION):
            raise InputError(f"{name}: {unknown('key', key, _KEYS)}")
    tool = body.get("tool")
    if not isinstance(tool, str) or tool not in policy.tools:
        raise InputError(f"{name}: {unknown('tool', str(tool), policy.tools)}")
    given = body.get("facts", {})
    if not isinstance(given, dict):
        raise InputError(f"{name}: facts is not an object of name and value")
    facts = safe_facts(policy, tool, now_ms or NOW_MS) if assume_safe else {}
    for fact, value in given.items():
        if fact not in policy.facts:
            raise InputError(f"{name}: {unknown('fact', fact, policy.facts)}")
        facts[fact] = _fact(f"{name}: fact {fact!r}", value, fact, policy, now_ms or NOW_MS)
    safe = safe_action(policy, tool, facts)
    return Situation(
        action=_action(body, name, safe),
        facts=facts,
        mode=mode or _mode(said_mode),
        now_ms=now_ms or NOW_MS,
    )


def _content(file: str) -> tuple[Mapping[str, Json], int, str | None]:
    """The action's own object, the time of a recorded decision (0 = none), the example's mode."""
    raw = read_input(file, expected=EXPECTED, at_most=MOST_BYTES)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(file)} is not JSON ({error}); expected {EXPECTED}") from error
    if not isinstance(content, dict):
        raise InputError(f"{shown(file)} is not an object; expected {EXPECTED}")
    if isinstance(content.get("body"), dict) and content.get("kind") == "decision":
        at_ms = content.get("at_ms")
        return content["body"], at_ms if type(at_ms) is int else 0, None
    if isinstance(content.get("action"), dict):
        mode = content.get("mode")
        return content["action"], 0, mode if isinstance(mode, str) and mode != "bound" else None
    return content, 0, None


def _fact(what: str, given: object, name: str, policy: Policy, now_ms: int) -> Fact:
    """A bare value, or {value, age_s | age_ms | at_ms}. Age 0 if not said."""
    from loop4.domain import Fact

    value, at_ms = given, now_ms
    if isinstance(given, dict):
        value = given.get("value")
        ages = {key: given[key] for key in ("age_s", "age_ms", "at_ms") if key in given}
        if len(ages) > 1 or any(type(age) is not int for age in ages.values()):
            raise InputError(f"{what}: expected one of age_s, age_ms, at_ms, a whole number")
        for key, age in ages.items():
            at_ms = age if key == "at_ms" else now_ms - age * (1000 if key == "age_s" else 1)
    # a value of a wrong type is the gate's to refuse, with its own words
    return Fact(cast("FactScalar", value), at_ms, policy.facts[name].source)


def _action(body: Mapping[str, Json], name: str, safe: Action) -> Action:
    """The action of the file; environment and requester are those of the facts unless said."""
    from loop4.domain import RequesterKind
    from loop4.policies.documents import unknown

    words = {}
    for key in _WORDS:
        value = body.get(key)
        if value is not None and not isinstance(value, str):
            raise InputError(f"{name}: {key} is not a string")
        if value is not None:
            words[key] = value
    kind = body.get("requester_kind", str(safe.requester_kind))
    if kind not in tuple(RequesterKind):
        raise InputError(f"{name}: {unknown('requester_kind', str(kind), RequesterKind)}")
    arguments = body.get("arguments", safe.arguments)
    if not isinstance(arguments, dict):
        raise InputError(f"{name}: arguments is not an object")
    return replace(
        safe,
        action_id=words.get("action_id", safe.action_id),
        target=words.get("target", safe.target),
        target_revision=words.get("target_revision", safe.target_revision),
        service=words.get("service", safe.service),
        environment=words.get("environment", safe.environment),
        agent=words.get("agent", safe.agent),
        requester=words.get("requester", safe.requester),
        requester_kind=RequesterKind(str(kind)),
        arguments=arguments,
    )


def _approvers(found: Explanation, people: People | None) -> tuple[str, ...]:
    """Names of the people who hold the asked role (or the one it is escalated to)."""
    role = found.asks.role if found.asks is not None else found.verdict.escalate_to
    if people is None or not role:
        return ()
    return tuple(person.name for person in people.persons if role in person.roles)


def _lines(found: Explanation, situation: Situation, approvers: tuple[str, ...]) -> list[str]:
    verdict, action = found.verdict, situation.action
    lines = [
        f"{verdict.effect}: {action.tool} on {action.service} in {action.environment}, asked by "
        f"{action.requester} ({action.requester_kind}), mode {verdict.mode}"
    ]
    lines += [f"  {reason}" for reason in verdict.reasons]
    if found.matched:
        lines.append("matched:")
    for note in found.matched:
        lines += _note(note)
    if found.nearly:
        lines.append("nearly matched (one part of the condition does not hold):")
    for note in found.nearly:
        lines += _note(note)
    if found.lifts:
        lines.append("would be:")
    lines += [f"  {lift.sentence}" for lift in found.lifts]
    need = found.asks
    named = f" ({', '.join(approvers)})" if approvers else ""
    if need is not None:
        lines.append(
            f"an approval lifts it: {need.need} x {need.role}{named}, within {need.ttl_s} s, "
            "never the requester, never an agent"
        )
    elif verdict.escalate_to:
        lines.append(
            f"escalates to {verdict.escalate_to}{named}: a person may submit it as their own; "
            "no approval lifts it"
        )
    elif verdict.effect == "deny":
        lines.append("no approval lifts a denial")
    return [plain(line) for line in lines]


def _note(note: RuleNote) -> list[str]:
    return [f"  {note.rule_id} ({note.effect})", *(f"    {part}" for part in note.because)]
