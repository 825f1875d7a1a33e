"""From policy files to one frozen `Policy`. Whatever is doubtful in a file fails the load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from loop4.canonical import digest
from loop4.domain import Effect, Json
from loop4.errors import PolicyError
from loop4.policies.declarations import fact_schemas, tool_declarations
from loop4.policies.documents import Document, read_documents, unknown
from loop4.policies.limits import policy_limits
from loop4.policies.policy import Policy
from loop4.policies.rule_documents import action_rules, policy_bindings
from loop4.policies.rules import Binding, Rule

SHIPPED = Path(__file__).parent
RULES_KINDS = ("ActionPolicy", "PolicyTest", "Invariant")
BINDINGS_FILES = ("bindings.yaml", "organisation.yaml")
BESIDE_BINDINGS = ("PolicyBinding", "ActionPolicy", "PolicyLimits")


def load_policy(
    rules_dir: Path | None = None,
    bindings_files: Sequence[Path] = (),
    tools_file: Path | None = None,
    facts_file: Path | None = None,
    executors: frozenset[str] | None = None,
) -> Policy:
    """The policy of these files, checked and ready to judge with.

    None means the shipped rules, tools or facts; without a binding in `bindings_files` the shipped
    bindings hold. Those files may also hold rules and limits that tighten, never a rule that
    allows. `executors` are the tools that can run here (None = every declared one); they are no
    part of the version. Raises PolicyError with file, line and column.
    """
    fact_documents = _read(facts_file, "facts.yaml", ("FactSchema",))
    tool_documents = _read(tools_file, "tools.yaml", ("ToolDeclaration",))
    rule_documents = [d for d in rules_folder(rules_dir) if d.kind == "ActionPolicy"]
    binding_documents: list[Document] = []
    for path in bindings_files:
        binding_documents += _read(path, "bindings.yaml", BESIDE_BINDINGS)
    if not any(document.kind == "PolicyBinding" for document in binding_documents):
        binding_documents += _read(None, "bindings.yaml", ("PolicyBinding",))
    documents = (*fact_documents, *tool_documents, *rule_documents, *binding_documents)
    _names_are_unique(documents)
    schemas = fact_schemas(fact_documents)
    tools = tool_declarations(tool_documents, schemas)
    for name in sorted(executors or ()):
        if name not in tools:
            raise PolicyError(f"an executor has no declaration: {unknown('tool', name, tools)}")
    own = [d for d in binding_documents if d.kind == "ActionPolicy"]
    _only_tightens(own)
    limits = policy_limits([d for d in binding_documents if d.kind == "PolicyLimits"])
    rules = action_rules(rule_documents, tools, schemas)
    if not rules:
        raise PolicyError("holds no rule; with none, everything is denied", path=str(rules_dir))
    if own:
        rules = action_rules((*rule_documents, *own), tools, schemas)
    return Policy(
        version=_version(documents),
        rules=limits.rules(rules),
        bindings=policy_bindings(
            [d for d in binding_documents if d.kind == "PolicyBinding"], schemas
        ),
        tools=tools,
        facts=schemas,
        executors=executors,
        limits=limits,
    )


def bindings_of(policies: Path) -> tuple[Path, ...]:
    """The bindings of an operations folder's `policies`, and the limits imported beside them."""
    return tuple(path for name in BINDINGS_FILES if (path := policies / name).exists())


def rules_folder(rules_dir: Path | None) -> list[Document]:
    """All rules, tests and invariants of a rules folder, the shipped one for None."""
    folder = SHIPPED / "rules" if rules_dir is None else rules_dir
    if not folder.is_dir():
        raise PolicyError("is not a folder; expected one with *.yaml rule files", path=str(folder))
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml"))
    documents: list[Document] = []
    for path in files:
        shown_as = f"policies/{path.relative_to(SHIPPED)}" if rules_dir is None else str(path)
        documents += read_documents(path, RULES_KINDS, shown_as)
    return documents


def with_rules(policy: Policy, rules: Iterable[Rule], bindings: Iterable[Binding]) -> Policy:
    """The same facts and tools under other rules and bindings; the version says so."""
    rules = tuple(sorted(rules, key=lambda rule: rule.rule_id))
    return Policy(
        version=f"{policy.version}+changed",
        rules=rules,
        bindings=tuple(bindings),
        tools=policy.tools,
        facts=policy.facts,
        executors=policy.executors,
        limits=policy.limits,
    )


def _read(path: Path | None, shipped: str, kinds: tuple[str, ...]) -> list[Document]:
    if path is None:
        return read_documents(SHIPPED / shipped, kinds, f"policies/{shipped}")
    return read_documents(path, kinds)


def _only_tightens(documents: Iterable[Document]) -> None:
    """Raise for a rule beside the bindings that allows: only the rules folder may do that."""
    for document in documents:
        for rule in document.spec.fields(("rules",))["rules"].items():
            effect = rule.mapping().get("effect")
            if effect is not None and effect.content == Effect.ALLOW.value:
                raise effect.error("a rule beside the bindings may only tighten, found 'allow'")


def _names_are_unique(documents: Iterable[Document]) -> None:
    seen: set[tuple[str, str]] = set()
    for document in documents:
        if (document.kind, document.name) in seen:
            raise document.body.error(f"{document.kind} {document.name!r} stands twice")
        seen.add((document.kind, document.name))


def _version(documents: Iterable[Document]) -> str:
    """The digest of all documents; the order of files and of documents in them is no part of it."""
    bodies: dict[tuple[str, str], Json] = {(d.kind, d.name): d.body.plain() for d in documents}
    return digest([bodies[key] for key in sorted(bodies)])
