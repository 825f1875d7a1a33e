"""Small policies written to disk and loaded by the real loader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest

from loop4.domain import Mode
from loop4.policies.load import load_policy, with_rules
from loop4.policies.policy import Policy
from loop4.policies.rules import Binding

HEAD = "apiVersion: loop4/v1\nkind: ActionPolicy\nmetadata: {name: under-test}\nspec:\n  rules:\n"


@pytest.fixture(scope="session")
def shipped() -> Policy:
    """The shipped policy with its own bindings and an executor for every tool."""
    return load_policy()


@pytest.fixture(scope="session")
def acting(shipped: Policy) -> Policy:
    """The shipped rules where the binding lets them speak for themselves."""
    return with_rules(shipped, shipped.rules, [Binding("act", Mode.ACT)])


@pytest.fixture
def load_rules(tmp_path: Path) -> Callable[[str], Policy]:
    """Load these rules (YAML list items) over the shipped tools and facts; mode act."""

    def load(rules: str) -> Policy:
        folder = tmp_path / "rules"
        folder.mkdir(exist_ok=True)
        text = HEAD + indent(dedent(rules).strip("\n"), "  ") + "\n"
        (folder / "rules.yaml").write_text(text, encoding="utf-8")
        policy = load_policy(folder)
        return with_rules(policy, policy.rules, [Binding("act", Mode.ACT)])

    return load
