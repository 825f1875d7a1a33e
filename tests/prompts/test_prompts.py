"""The prompts: one for each agent, and none that promises a tool that is not there."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

from loop4.agents.agent import Agent
from loop4.agents.planner.answers import CAUSES, OBSERVATION
from loop4.agents.planner.model_planner import READ_NAMES
from loop4.agents.planner.proposals import HELPS
from loop4.agents.planner.reads import wire_name
from loop4.errors import ModelError
from loop4.graphs.assemble import AGENTS, READ_TOOLS
from loop4.policies.load import load_policy
from loop4.prompts.load import load

NAMES = ("boundaries", *(a.name for a in AGENTS))
QUOTED = re.compile(r"`([^`\n]+)`")
WORDS = {*CAUSES, OBSERVATION, "report", "[masked-email-1]"}
FENCES = {"<<<telemetry ...>>>", "<<<end of telemetry>>>"}


def test_there_is_a_prompt_for_each_agent_and_no_other() -> None:
    folder = Path(str(files("loop4.prompts")))
    assert {p.stem for p in folder.glob("*.md")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_names_only_tools_that_exist(name: str) -> None:
    tools = set(load_policy(None).tools)
    for quoted in QUOTED.findall(load(name).text):
        assert quoted in tools | WORDS | FENCES, quoted
    dotted = re.findall(r"\b[a-z]+\.[a-z_]+\b", load(name).text)
    assert set(dotted) <= tools


@pytest.mark.parametrize("agent", AGENTS, ids=lambda a: a.name)
def test_a_prompt_offers_only_what_its_agent_may_do(agent: Agent) -> None:
    named = {q for q in QUOTED.findall(load(agent.name).text) if "." in q}
    assert named <= set(READ_NAMES) | (agent.may_propose & set(HELPS))


def test_the_read_tools_are_those_of_the_fleet() -> None:
    assert set(READ_NAMES) == READ_TOOLS
    assert len({wire_name(t) for t in READ_NAMES}) == len(READ_NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_digest_is_of_the_text_that_is_sent(name: str) -> None:
    prompt = load(name)
    assert prompt.digest == hashlib.sha256(prompt.text.encode()).hexdigest()
    assert prompt.text.isascii()


def test_an_unknown_prompt_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match=r"no prompt 'flag'; expected prompts/flag.md"):
        load("flag")
