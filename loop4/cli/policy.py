"""`loop4 policy`: are the rules sound, do they decide as their tests say, and what do they promise.

`check` and `test` stand here; the other commands in modules of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli import policy_explain, policy_proofs, policy_replay
from loop4.cli.policy_options import BindingsOption, JsonOption, RulesOption

if TYPE_CHECKING:
    from loop4.policies.cases import Case, Failure
    from loop4.policies.mutate import Survivor
    from loop4.policies.policy import Policy

app = typer.Typer(no_args_is_help=True, help="Check, test and prove the rules of the gate.")


@app.command()
def check(
    rules: RulesOption = None, bindings: BindingsOption = None, as_json: JsonOption = False
) -> None:
    """Load everything: names, types, places. The first fault is one line, exit 2."""
    from loop4.policies.invariants import load_invariants
    from loop4.policies.load import rules_folder

    policy, cases = _load(rules, bindings)
    invariants = load_invariants(policy, rules_folder(rules))
    summary = {
        "version": policy.version,
        "rules": len(policy.rules),
        "by_effect": dict(Counter(str(rule.effect) for rule in policy.rules)),
        "tools": len(policy.tools),
        "facts": len(policy.facts),
        "bindings": {binding.name: str(binding.mode) for binding in policy.bindings},
        "cases": len(cases),
        "invariants": len(invariants),
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    effects = ", ".join(f"{count} {effect}" for effect, count in _by_effect(policy))
    typer.echo(f"policy ok: {len(policy.rules)} rules ({effects})")
    typer.echo(f"{len(policy.tools)} tools, {len(policy.facts)} facts, {len(cases)} test cases")
    typer.echo(f"{len(invariants)} invariants; `loop4 policy prove` proves them")
    for binding in policy.bindings:
        more = f", an approval may widen it to {binding.widest}" if binding.widest else ""
        typer.echo(f"binding {binding.name}: {binding.mode}{more}")
    typer.echo(f"version {policy.version}")


@app.command()
def test(
    rules: RulesOption = None,
    bindings: BindingsOption = None,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Also break each rule in small ways; name survivors.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the PolicyTest cases of the rules folder; exit 1 if one fails or a mutant survives."""
    from loop4.policies.cases import run_cases
    from loop4.policies.mutate import survivors

    policy, cases = _load(rules, bindings)
    failures = run_cases(cases, policy)
    tried, survived = survivors(policy, cases) if mutants and not failures else (0, ())
    if as_json:
        typer.echo(json.dumps(_as_json(cases, failures, tried, survived), indent=2))
    else:
        _print(cases, failures)
        if mutants and not failures:
            _print_survivors(tried, survived)
    if failures or survived or not cases:
        raise typer.Exit(1)


for _command in (
    policy_proofs.prove,
    policy_proofs.diff,
    policy_proofs.lint,
    policy_explain.explain,
    policy_replay.replay,
):
    app.command()(_command)


@app.command("import")
def import_policies(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The organisation's repository of policies.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write organisation.yaml there, as limits."),
    ] = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which numbers of Markdown policies became which limits, conflicts, and what is open."""
    from loop4.cli.policy_organisation import import_organisation

    import_organisation(path, out=out, rules=rules, as_json=as_json)


def _load(rules: Path | None, bindings: list[Path] | None) -> tuple[Policy, tuple[Case, ...]]:
    from loop4.policies.case_documents import policy_cases
    from loop4.policies.load import load_policy, rules_folder

    policy = load_policy(rules, bindings or ())
    return policy, policy_cases(rules_folder(rules), policy)


def _by_effect(policy: Policy) -> list[tuple[str, int]]:
    return sorted(Counter(str(rule.effect) for rule in policy.rules).items())


def _print(cases: tuple[Case, ...], failures: tuple[Failure, ...]) -> None:
    for failure in failures:
        typer.echo(f"FAILED {failure.case} ({failure.tool})")
        typer.echo(f"  expected: {failure.expected}")
        typer.echo(f"  got:      {failure.found}")
        for reason in failure.reasons:
            typer.echo(f"  reason:   {reason}")
    if not cases:
        typer.echo("no test case found; put PolicyTest documents into *_test.yaml beside the rules")
    elif failures:
        typer.echo(f"{len(failures)} of {len(cases)} cases failed")
    else:
        typer.echo(f"{len(cases)} cases passed")


def _print_survivors(tried: int, survived: tuple[Survivor, ...]) -> None:
    for survivor in survived:
        typer.echo(f"SURVIVED {survivor.rule_id}: {survivor.change}")
    if survived:
        typer.echo(f"{len(survived)} of {tried} mutants survived: no case notices them")
    else:
        typer.echo(f"{tried} mutants, each caught by a case")


def _as_json(
    cases: tuple[Case, ...],
    failures: tuple[Failure, ...],
    tried: int,
    survived: tuple[Survivor, ...],
) -> dict[str, object]:
    return {
        "cases": len(cases),
        "failures": [
            {
                "case": failure.case,
                "tool": failure.tool,
                "expected": failure.expected,
                "found": failure.found,
                "reasons": list(failure.reasons),
            }
            for failure in failures
        ],
        "mutants": tried,
        "survivors": [{"rule": s.rule_id, "change": s.change} for s in survived],
    }
