"""A policy file that is changed in the middle of a run: the stricter of both versions holds."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from loop4.graphs.patrol import Patrol
from loop4.graphs.session import open_session
from loop4.lab.folder import make_operations
from tests.graphs.conftest import Play, Stage, run

DENY = """
apiVersion: loop4/v1
kind: ActionPolicy
metadata: {name: no-rollbacks-today}
spec:
  rules:
  - id: no-rollbacks-today
    match: {tools: [deployments.roll_back]}
    when: "true"
    effect: deny
    reason: "no rollback of anything today"
"""
COMMENT = "# somebody tidied up\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("more.yaml", DENY), "now says deny: no rollback of anything today"),
        (("more.yaml", "rules: ["), "cannot be loaded"),
        (("../operations/policies/organisation.yaml", DENY), "now says deny: no rollback of"),
        (("boundaries.yaml", COMMENT), ""),
    ],
    ids=["stricter", "broken", "imported", "same"],
)
def test_an_approved_act_is_judged_again_under_the_files_of_that_moment(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    make_operations(tmp_path / "operations")
    stage = Stage(tmp_path)
    rules = tmp_path / "rules"
    with as_file(files("loop4.policies") / "rules") as shipped:
        shutil.copytree(shipped, rules)

    async def play_it() -> None:
        stage.bad_deploy()
        async with open_session(
            data=stage.data,
            operations=stage.operations,
            world=stage.toy.world(),
            writer=stage.toy,
            clock=stage.toy.clock,
            rules=rules,
        ) as session:
            play = Play(stage, session, Patrol(session.fleet, session.runner))
            request = await play.asked()
            version = session.fleet.policy.version
            name, text = change
            path = rules / name
            known = path.read_text("utf-8") if path.exists() else ""
            path.write_text(text + known, "utf-8")
            play.vote(request.approval.approval_id)
            for _ in range(40):
                await play.second()
            assert len(stage.toy.effects) == (0 if said else 1), play.story()
            assert {str(r.body["policy_version"]) for r in play.records("decision")} == {version}
            if said:
                (refused,) = play.records("not_done")
                assert said in str(refused.body["reason"])
                assert [i.state for i in play.incidents()] == ["escalated"]
            assert play.chain_holds()

    run(play_it())
