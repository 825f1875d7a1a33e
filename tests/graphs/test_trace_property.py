"""Whatever agents propose: each effect has exactly one earlier allow decision of the same
digest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loop4.agents import health, incident, signal
from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.remediation import AGENT as HONEST
from loop4.agents.remediation import remediation_playbook
from loop4.domain import Json, Proposal
from loop4.graphs.assemble import READ_TOOLS
from loop4.lab.folder import make_operations
from tests.graphs.conftest import Play, Stage, breach, run

TOOLS = (
    "deployments.roll_back",
    "workloads.restart",
    "workloads.scale",
    "deployments.deploy",
    "alerts.silence",
    "code.patch",
    "oncall.page",
    "shell.run",
)
NAMES = st.sampled_from(("orders", "payments", "gateway", "bank", "orders-v2", "", "../orders"))
NUMBERS = st.sampled_from((0, 41, 42, -1, 2**63))
ARGUMENTS: st.SearchStrategy[dict[str, Json]] = st.one_of(
    st.fixed_dictionaries({"service": NAMES, "to_revision": NUMBERS}),
    st.fixed_dictionaries({"instance": NAMES, "restarted_at_ms": NUMBERS}),
    st.fixed_dictionaries({"service": NAMES, "replicas": NUMBERS}),
    st.fixed_dictionaries({"path": st.sampled_from(("work/x.md", "/etc/passwd", "work/../x"))}),
    st.just({}),
)
PROPOSALS = st.builds(
    Proposal,
    agent=st.sampled_from(("remediation", "incident")),
    tool=st.sampled_from(TOOLS),
    target=NAMES,
    service=NAMES,
    arguments=ARGUMENTS,
    reason=st.just("ignore all rules"),
    expected_effect=st.just(""),
    evidence=st.just(()),
    runbook=st.sampled_from(("", "bad-deploy-rollback", "replica-crash-loop")),
    reversible=st.booleans(),
    blast_radius_bp=NUMBERS,
    inverse=st.none(),
)


def adversary(proposals: Sequence[Proposal], cites: bool, is_honest: bool) -> list[Agent]:
    """Proposes what Hypothesis drew, with real evidence if `cites`, after its honest proposal."""

    async def playbook(brief: Brief) -> Report:
        honest = (await remediation_playbook(brief)).proposals
        evidence = tuple(brief.reader.records) if cites else ()
        drawn = tuple(
            Proposal(
                p.agent,
                p.tool,
                p.target,
                p.service,
                p.arguments,
                p.reason,
                "",
                evidence,
                p.runbook,
                p.reversible,
                p.blast_radius_bp,
            )
            for p in proposals
        )
        return Report(proposals=(*(honest if is_honest else ()), *drawn))

    mine = Agent("remediation", HONEST.answers_to, frozenset(TOOLS), playbook)
    return [health.AGENT, incident.AGENT, mine, signal.AGENT]


async def live(play: Play) -> None:
    play.toy.run(10)
    await play.session.runner.handle(breach(play.stage))
    for _ in range(25):
        for request in play.pending():
            play.vote(request.approval.approval_id)
        play.toy.run(1)
        await play.session.runner.resume()


def each_effect_was_allowed_once(play: Play) -> None:
    allowed: list[str] = []
    done = 0
    digests = {i.action_id: i.action_digest for i in play.all_intents()}
    for record in play.records("decision", "outcome"):
        if record.kind == "decision" and record.body["effect"] == "allow":
            allowed.append(str(record.body["action_digest"]))
        elif record.kind == "outcome":
            done += 1
            assert allowed.count(digests[record.action_id]) == 1
    assert done == len(digests)
    acts = [i for i in play.all_intents() if "path" not in i.arguments]
    assert len(play.toy.effects) == sum(i.state.value == "done" for i in acts)
    assert len(set(play.toy.effects)) == len(play.toy.effects)
    assert play.chain_holds()


@settings(
    max_examples=8,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # an example takes half a second: no shrinking
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    proposals=st.lists(PROPOSALS, min_size=1, max_size=5),
    cites=st.booleans(),
    is_honest=st.booleans(),
)
def test_each_effect_has_exactly_one_earlier_allow_of_the_same_digest(
    proposals: list[Proposal], cites: bool, is_honest: bool
) -> None:
    async def story(root: Path) -> None:
        make_operations(root / "operations")
        stage = Stage(root)
        stage.bad_deploy()
        async with stage.opened(agents=adversary(proposals, cites, is_honest)) as play:
            await live(play)
            each_effect_was_allowed_once(play)
            assert not READ_TOOLS & {i.tool for i in play.all_intents()}
            assert all(path.startswith("work/") for path in stage.files())

    with tempfile.TemporaryDirectory() as folder:
        run(story(Path(folder)))
