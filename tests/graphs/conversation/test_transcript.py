"""Twelve questions and their right answers, on a recorded incident that stands still at the moment
at which a person is asked: payments 2.84.0 was deployed at 26 % with a wrong configuration.
"""

from __future__ import annotations

from pathlib import Path

from loop4.tools.backends.recording import Recording
from tests.graphs.conversation.conftest import INCIDENT, Talk, run, stopped_in_the_middle


def holds(text: str, *parts: str) -> None:
    for part in parts:
        assert part in text, f"{part!r} is not in:\n{text}"


async def about_the_system(talk: Talk) -> None:
    text = await talk.text("What services are there, and how are they?")
    holds(text, "gateway: tier 1, lab, 3 of 3 replicas ready, calls orders")
    holds(text, "payments-availability: breached; 5.41 % fail over 10 s", "[ev-")
    holds(text, "orders-availability: not breached", "not ours, but called: bank")

    answer = await talk.ask("what is going on?")
    text = "\n".join(answer.lines)
    holds(text, f"{INCIDENT}: SEV2, payments (lab), open; since 2026-11-25 03:10:03 UTC")
    holds(text, "targets missed: payments-availability", "probable cause: payments 2.84.0 fails")
    holds(text, "waits for 1 vote of role on-call (jonas, mira)", "{service: payments, to_revision")
    assert f"incident {INCIDENT}" in answer.evidence
    assert any(e.startswith("evidence #") for e in answer.evidence)


async def about_the_incident(talk: Talk) -> None:
    text = await talk.text("since when?")
    holds(text, f"{INCIDENT} (payments): since 2026-11-25 03:10:03 UTC", "first classified SEV2")

    answer = await talk.ask("why?")
    holds(answer.lines[0], "payments 2.84.0 fails", "its calls to bank fail although bank answers")
    assert len([e for e in answer.evidence if e.startswith("ev-")]) >= 5
    holds("\n".join(answer.lines), "against it:")


async def about_budgets_and_changes(talk: Talk) -> None:
    text = await talk.text("how much error budget is left for payments?")
    holds(text, "payments-availability: overspent by 401.5 %; 10 of 380 requests failed")
    holds(text, "30 days may not be read at once", "file policies/targets/payments.yaml:")
    text = await talk.text("and gateway?")
    holds(text, "gateway-availability: overspent", "gateway-latency: 100 % is left")

    answer = await talk.ask("what changed recently?")
    text = "\n".join(answer.lines)
    holds(text, "payments: deploy of revision 84 (2.84.0) after 83 (2.83.0), given 26 %, "[:-2])
    holds(text, "by lena", "its text: 33 characters, not quoted")
    assert text.index("orders") < text.index("payments"), "newest first"
    assert "change-7" in answer.evidence


async def about_what_may_be_done(talk: Talk) -> None:
    text = await talk.text("may you restart payments-2 now?")
    holds(text, "on my own: denied (deny) [rule two-sources, rule novel-failure]")
    holds(text, "asked for by a person: allowed (allow) [rule restart-within-budget]")
    holds(text, "nothing is recorded and nothing runs")

    text = await talk.text("why not?")
    holds(text, "traffic_share_bp = 2467 (router)", "restarts_1h = 0 (ledger)")

    text = await talk.text("who could allow it?")
    holds(text, "who could ask for it, and it would run: mira, jonas, ade, sofia")

    text = await talk.text("may you roll back payments?")
    holds(text, "deployments.roll_back on payments {service: payments, to_revision: 83}")
    holds(text, "on my own: only with an approval (require_approval) [rule wide-blast-radius")
    holds(text, "touches 2600 bp of traffic; the limit is 2500", "it is pending")
    holds(text, "it rests on runbook bad-deploy-rollback")
    holds(text, "who could allow it whoever proposes it: 1 of role on-call (jonas, mira)")


async def about_what_was_done(talk: Talk) -> None:
    text = await talk.text("what did you do?")
    holds(text, f"{INCIDENT}: nothing was changed so far", "oncall.page: done")
    holds(text, f"file work/incidents/{INCIDENT}/page-01.md")

    text = await talk.text("what does the runbook say about a bad deploy?")
    holds(text, "runbook bad-deploy-rollback (owner platform-on-call): for guilty_change")
    holds(text, "typed steps: deployments.roll_back (service: service, to_revision:")
    holds(text, "file policies/runbooks/bad-deploy-rollback.md:", "Remediation")


def test_twelve_questions_get_the_right_answers(recording: Recording, tmp_path: Path) -> None:
    async def story() -> None:
        async with stopped_in_the_middle(recording, tmp_path) as talk:
            before = talk.chain()
            await about_the_system(talk)
            await about_the_incident(talk)
            await about_budgets_and_changes(talk)
            await about_what_may_be_done(talk)
            await about_what_was_done(talk)
            assert talk.chain() == before, "asking writes nothing"

    run(story())
