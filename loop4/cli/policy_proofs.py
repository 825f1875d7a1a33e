"""`loop4 policy prove | diff | lint`: what the rules mean for every input, by z3."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.policy_options import BindingsOption, JsonOption, RulesOption

if TYPE_CHECKING:
    from loop4.policies.proof import Proof

InvariantsOption = Annotated[
    Path | None,
    typer.Option("--invariants", metavar="DIR", help="Invariants instead of the shipped ones."),
]


def prove(
    rules: RulesOption = None,
    bindings: BindingsOption = None,
    invariants: InvariantsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove every invariant for all inputs; exit 1 if one is violated or cannot be decided."""
    from loop4.policies.invariants import load_invariants
    from loop4.policies.load import load_policy, rules_folder
    from loop4.policies.proof import Status
    from loop4.policies.prove import Prover

    policy = load_policy(rules, bindings or ())
    promises = load_invariants(policy, rules_folder(rules), invariants)
    started = time.perf_counter()
    prover = Prover(policy)
    proofs = [prover.prove(promise) for promise in promises]
    ms = (time.perf_counter() - started) * 1000
    if as_json:
        typer.echo(json.dumps([proof.to_json() for proof in proofs], indent=2))
    else:
        for proof in proofs:
            _print(proof)
        proved = sum(proof.status is Status.PROVED for proof in proofs)
        typer.echo(
            f"{proved} of {len(proofs)} invariants proved over {len(policy.rules)} rules "
            f"in {ms:.0f} ms"
        )
    if not proofs or any(proof.status is not Status.PROVED for proof in proofs):
        raise typer.Exit(1)


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Rules folder as it is.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Rules folder as it would be.")],
    bindings: BindingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which actions become allowed, blocked or asked for, each with an example.

    Compares the rules alone; with --bindings under those bindings. Exit 0, changes or none.
    """
    from loop4.policies.difference import compare
    from loop4.policies.load import load_policy

    found = compare(
        load_policy(old, bindings or ()),
        load_policy(new, bindings or ()),
        by_bindings=bool(bindings),
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    for name, ids in (("added", found.added), ("removed", found.removed), ("edited", found.edited)):
        if ids:
            typer.echo(f"rules {name}: {', '.join(ids)}")
    for heading in sorted({change.heading for change in found.changes}):
        typer.echo(f"{heading}:")
        for change in found.changes:
            if change.heading == heading:
                typer.echo(f"  {change.tool} (was {change.was})")
                typer.echo(f"    {change.sentence}")
    if not found.changes:
        typer.echo("every action gets the same effect as before")


def lint(
    rules: RulesOption = None, bindings: BindingsOption = None, as_json: JsonOption = False
) -> None:
    """Name rules that never match, are shadowed or redundant; exit 1 if there is one."""
    from loop4.policies.lint import lint as look
    from loop4.policies.load import load_policy

    policy = load_policy(rules, bindings or ())
    remarks = look(policy)
    if as_json:
        typer.echo(json.dumps([remark.to_json() for remark in remarks], indent=2))
    else:
        for remark in remarks:
            typer.echo(f"{remark.fault.value.upper()} {remark.sentence}")
        if not remarks:
            typer.echo(f"{len(policy.rules)} rules, each decides something")
    if remarks:
        raise typer.Exit(1)


def _print(proof: Proof) -> None:
    typer.echo(f"{proof.status.value:<9}{proof.name} ({proof.ms:.1f} ms)")
    if proof.counterexample is not None:
        typer.echo(f"         {proof.counterexample.sentence}")
    elif proof.detail:
        typer.echo(f"         {proof.detail}")
