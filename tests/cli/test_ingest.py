"""`loop4 ingest`: each alert once, on the path of `handle`, and never an act for a stranger."""

from __future__ import annotations

import io
import json
import sys
from typing import cast

import pytest

from loop4.ledger import events, incidents, runs
from loop4.ledger.ledger import Ledger
from tests.cli.conftest import Desk, alert, now_ms, webhook


def became(body: dict[str, object]) -> dict[str, str]:
    rows = cast("list[dict[str, str]]", body["alerts"])
    return {row["service"]: row["became"] for row in rows}


def written(desk: Desk) -> list[str]:
    return sorted(p.name for p in (desk.operations / "work" / "incidents").rglob("*.md"))


def test_a_grouped_webhook_becomes_one_incident_oldest_alert_first(watched: Desk) -> None:
    body = webhook([alert("gateway"), alert("orders", began_ms=now_ms() - 20_000)])
    assert became(watched.json("ingest", "alertmanager", watched.write("w.json", body))) == {
        "orders": "started",
        "gateway": "inbox",
    }
    triage = watched.records("triage")
    assert [r.body["severity"] for r in triage] == ["SEV1"]
    assert "page-01.md" in written(watched)


def test_a_resolved_alert_without_an_incident_is_recorded_only(watched: Desk) -> None:
    file = watched.write("w.json", webhook([alert("payments", resolved=True)]))
    assert became(watched.json("ingest", "alertmanager", file)) == {"payments": "recorded"}
    assert watched.records() == ()
    assert became(watched.json("ingest", "alertmanager", file)) == {"payments": "duplicate"}


def test_the_same_webhook_twice_changes_nothing(watched: Desk) -> None:
    file = watched.write("w.json", webhook([alert("orders")] * 2))
    first = watched.json("ingest", "alertmanager", file)
    assert became(first) == {"orders": "started"}
    before = watched.traces()
    assert became(watched.json("ingest", "alertmanager", file)) == {"orders": "duplicate"}
    assert watched.traces() == before


def test_a_resolved_alert_goes_to_the_live_run_and_closes_nothing(watched: Desk) -> None:
    firing = watched.write("f.json", webhook([alert("orders")]))
    watched.json("ingest", "alertmanager", firing)
    over = watched.write("r.json", webhook([alert("orders", resolved=True)]))
    assert became(watched.json("ingest", "alertmanager", over)) == {"orders": "inbox"}
    with Ledger.open(watched.data / "ledger.db") as ledger, ledger.read() as tx:
        (incident,) = incidents.list_all(tx)
        assert incident.state != "resolved"
        assert [e.resolved for e in events.inbox(tx, incident.incident_id)] == [True]
        assert len(runs.list_open(tx)) == 1


@pytest.mark.parametrize("service", ["nobody", "", "ord\ners", "x" * 9000])
def test_an_alert_of_no_known_service_is_recorded_and_gets_no_act(
    watched: Desk, service: str
) -> None:
    file = watched.write("w.json", webhook([alert(service)]))
    code, out, err = watched.say("ingest", "alertmanager", file)
    assert (code, err) == (0, "")
    assert "is not in the catalogue, so no act follows" in out
    assert out.count("\n") == 1
    assert [r.body["service_known"] for r in watched.records("triage")] == [False]
    assert watched.records("outcome") == ()
    assert not (watched.operations / "work" / "incidents").exists()


def test_the_environment_is_the_labels_then_the_options_then_the_catalogues(
    watched: Desk,
) -> None:
    def environments(*words: str, environment: str = "") -> list[str]:
        given = alert("orders", name=f"A{len(words)}{environment}", environment=environment)
        file = watched.write("w.json", webhook([given]))
        rows = watched.json("ingest", "alertmanager", file, *words)["alerts"]
        return [row["environment"] for row in cast("list[dict[str, str]]", rows)]

    assert environments() == ["lab"]
    assert environments("--environment", "staging") == ["staging"]
    assert environments("--environment", "staging", environment="production") == ["production"]


def test_another_environment_than_the_catalogues_gets_no_act(watched: Desk) -> None:
    file = watched.write("w.json", webhook([alert("orders", environment="production")]))
    _, out, _ = watched.say("ingest", "alertmanager", file)
    assert "environment 'production' is not the catalogue's 'lab', so no act follows" in out
    assert all(r.body["effect"] == "deny" for r in watched.records("decision"))
    assert watched.records("outcome") == ()


def test_the_body_may_come_on_standard_input(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(webhook([alert("orders")])).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert became(watched.json("ingest", "alertmanager", "-")) == {"orders": "started"}


def test_a_webhook_without_alerts_says_so(watched: Desk) -> None:
    code, out, _ = watched.say("ingest", "alertmanager", watched.write("w.json", webhook([])))
    assert (code, out) == (0, "the webhook holds no alert\n")


def test_the_group_needs_a_command(desk: Desk) -> None:
    code, _, err = desk.say("ingest")
    assert code == 2
    assert "alertmanager" in err
