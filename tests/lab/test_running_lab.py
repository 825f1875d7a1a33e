"""The running lab as the fleet sees it: real processes behind the ports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import httpx
import pytest

from loop4.errors import Conflict, QueryError, Refused
from loop4.lab.clock import WallClock
from loop4.lab.faults import Profile, Target
from loop4.lab.lab import Lab
from loop4.tools.backends.lab import LabConnection, LabSystem, LabWriter
from loop4.tools.backends.ports import Instance, Series, Span, Workload, WriteResult
from tests.lab.conftest import wait_until

pytestmark = pytest.mark.live


async def workload_of(system: LabSystem, service: str) -> Workload:
    found = (await system.inventory()).workload(service)
    assert found is not None
    return found


async def instance_of(system: LabSystem, service: str, name: str) -> Instance:
    workload = await workload_of(system, service)
    return next(i for i in workload.instances if i.instance == name)


async def now(system: LabSystem, expression: str) -> Sequence[Series]:
    return await system.query(expression, WallClock().now_ms())


async def value(system: LabSystem, expression: str) -> float:
    series = await now(system, expression)
    return series[0].points[-1][1] if series else -1.0


async def roll_back(
    system: LabSystem, writer: LabWriter, service: str, to_revision: int, mark: str
) -> WriteResult:
    for _ in range(10):
        version = (await workload_of(system, service)).resource_version
        try:
            return await writer.roll_back(service, to_revision, expected=version, mark=mark)
        except Conflict:
            continue
    raise AssertionError("the workload kept changing")


def effects(lab: Lab, mark: str) -> list[str]:
    lines = [json.loads(line) for line in lab.effects_log.read_text("utf-8").splitlines()]
    return [line["kind"] for line in lines if line["mark"] == mark]


def edge_errors(lab: Lab, since_ms: int) -> tuple[int, int]:
    lines = [json.loads(line) for line in lab.edge_log.read_text("utf-8").splitlines()]
    recent = [line for line in lines if line["at_ms"] >= since_ms]
    return sum(line["outcome"] == "error" for line in recent), len(recent)


def test_a_fresh_lab_answers_queries_and_is_healthy(connection: LabConnection) -> None:
    async def check() -> None:
        async with LabSystem(connection) as system:
            total = "sum(increase(router_edge_requests_total[5s]))"

            async def has_traffic() -> bool:
                return await value(system, total) > 50

            await wait_until(has_traffic)
            bad = 'sum(increase(router_edge_requests_total{outcome="error"}[5s]))'
            assert await value(system, bad) <= 5
            up = await now(system, "process_up")
            assert len(up) == 9
            assert {s.points[-1][1] for s in up} == {1.0}
            assert await value(system, 'router_weight_bp{service="orders"}') == 10_000
            assert await value(system, 'probe_success{dependency="bank"}') in (0.0, 1.0)

    asyncio.run(check())


def test_a_query_outside_the_subset_is_refused_with_its_place(connection: LabConnection) -> None:
    async def check() -> None:
        async with LabSystem(connection) as system:
            with pytest.raises(QueryError, match="column"):
                await now(system, "topk(3, up)")

    asyncio.run(check())


def test_each_identity_does_only_its_own(lab: Lab, connection: LabConnection) -> None:
    read = connection.token(connection.read_token_file)
    act = connection.token(connection.act_token_file)
    deploy = f"{connection.control_url}/api/workloads/orders/deploy"
    back = f"{connection.control_url}/api/workloads/orders/roll-back"
    inventory = f"{connection.control_url}/api/inventory"
    query = f"{connection.store_url}/api/v1/query?query=up"
    samples = f"{connection.store_url}/api/samples?start_ms=0&end_ms=1"
    body = {"to_revision": 41, "expected": "1", "mark": "m"}
    with httpx.Client(trust_env=False) as client:

        def status(method: str, url: str, token: str, json_body: object = None) -> int:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return client.request(method, url, headers=headers, json=json_body).status_code

        for url in (inventory, query, samples):
            assert status("GET", url, "") == 401
            assert status("GET", url, "guess") == 401
            assert status("GET", url, read) == 200
        assert status("GET", inventory, act) == 403
        assert status("POST", back, read, body) == 403
        assert status("POST", back, "", body) == 401
        assert status("POST", deploy, act, {"weight_bp": 5000, "actor": "fleet"}) == 403
        injector = f"http://127.0.0.1:{lab.injector_port}/profile"
        assert status("GET", f"{injector}?service=orders&revision=1&instance=x", read) == 401


def test_tokens_lie_in_files_of_their_own_that_only_the_owner_reads(lab: Lab) -> None:
    text = lab.connection.read_text("utf-8")
    for name in ("read.token", "act.token", "wiring.json", "lab.json"):
        file = lab.directory / name
        assert file.stat().st_mode & 0o777 == 0o600
        if name.endswith(".token"):
            assert file.read_text("utf-8") not in text


def test_a_deploy_at_half_the_traffic_and_its_rollback(lab: Lab, connection: LabConnection) -> None:
    started_ms = WallClock().now_ms()
    change = lab.deploy("orders", weight_bp=5000, text="smaller bodies")
    good, bad = int(str(change["from_revision"])), int(str(change["to_revision"]))
    assert bad == good + 1

    async def check() -> None:
        async with LabSystem(connection) as system, LabWriter(connection) as writer:
            new = f'router_weight_bp{{service="orders",version="{change["to_version"]}"}}'
            old = f'router_weight_bp{{service="orders",version="{change["from_version"]}"}}'

            async def is_half() -> bool:
                return await value(system, new) == 5000 == await value(system, old)

            await wait_until(is_half)
            before = await workload_of(system, "orders")
            assert before.current_revision == bad
            assert {r.weight_bp for r in before.revisions} == {0, 5000}
            assert sum(i.weight_bp for i in before.instances) == 10_000
            with pytest.raises(Conflict, match="resource version"):
                await writer.roll_back("orders", good, expected="0", mark="action-1")
            with pytest.raises(Refused, match="no revision 7000"):
                await writer.roll_back(
                    "orders", 7000, expected=before.resource_version, mark="action-1"
                )
            assert effects(lab, "action-1") == []

            result = await roll_back(system, writer, "orders", good, "action-1")
            assert (result.before["revision"], result.after["revision"]) == (bad, good)
            after = await workload_of(system, "orders")
            assert sum(i.weight_bp for i in after.instances if i.revision == good) == 10_000
            assert after.mark == "action-1"
            assert after.generation == before.generation + 1
            assert after.desired_digest != before.desired_digest
            again = await writer.roll_back("orders", good, expected="0", mark="action-1")
            assert not again.changed
            assert effects(lab, "action-1") == ["rollback"]

            async def is_retired() -> bool:
                workload = await workload_of(system, "orders")
                return {i.revision for i in workload.instances} == {good}

            await wait_until(is_retired)
            changes = await system.between(started_ms, WallClock().now_ms(), service="orders")
            assert [c.kind for c in changes] == ["deploy", "rollback"]
            assert changes[0].from_digest == changes[1].to_digest

    asyncio.run(check())
    errors, requests = edge_errors(lab, started_ms)
    assert requests > 30
    assert errors <= 2  # the noise of a healthy lab, nothing more


def test_a_crash_loop_hits_no_customer_and_a_restart_ends_it(
    lab: Lab, connection: LabConnection
) -> None:
    started_ms = WallClock().now_ms()
    lab.begin_fault(Target("payments", 0, "payments-2"), Profile(corrupt_state=True))

    async def check() -> None:
        async with LabSystem(connection) as system, LabWriter(connection) as writer:

            async def is_looping() -> bool:
                return (await instance_of(system, "payments", "payments-2")).restarts >= 2

            await wait_until(is_looping, 15)
            looping = await instance_of(system, "payments", "payments-2")
            assert looping.ejected
            assert looping.weight_bp == 0
            weight = 'router_instance_weight_bp{service="payments",instance="payments-2"}'
            assert await value(system, weight) == 0
            restarts = 'process_restarts_total{instance="payments-2"}'
            assert await value(system, restarts) >= 1
            logs = await system.records(
                started_ms, WallClock().now_ms(), service="payments", min_severity="ERROR"
            )
            assert any("journal checksum mismatch" in r.body for r in logs)

            at_ms = WallClock().now_ms()
            for _ in range(20):
                version = (await workload_of(system, "payments")).resource_version
                try:
                    first = await writer.restart(
                        "payments-2", at_ms, expected=version, mark="action-2"
                    )
                    break
                except Conflict:
                    continue
            assert first.changed
            again = await writer.restart("payments-2", at_ms, expected="0", mark="action-2")
            assert not again.changed
            assert effects(lab, "action-2") == ["restart"]

            async def is_back() -> bool:
                instance = await instance_of(system, "payments", "payments-2")
                return instance.state == "ready" and instance.weight_bp > 0

            await wait_until(is_back)
            back = await instance_of(system, "payments", "payments-2")
            assert (back.restarts, back.mark, back.ejected) == (0, "action-2", False)

    asyncio.run(check())
    errors, requests = edge_errors(lab, started_ms)
    assert errors <= max(3, requests // 100)


def test_a_failing_version_shows_in_traces_and_logs_but_not_by_name(
    lab: Lab, connection: LabConnection
) -> None:
    started_ms = WallClock().now_ms()
    reason = "KeyError: 'currency'"
    lab.begin_fault(Target("payments"), Profile(error_bp=9000, exception=reason), lasts_s=4)

    async def check() -> None:
        async with LabSystem(connection) as system:

            async def whole_trace() -> list[Span]:
                found = await system.spans(started_ms, WallClock().now_ms(), errors_only=True)
                by_trace: dict[str, list[Span]] = {}
                for span in found:
                    by_trace.setdefault(span.trace_id, []).append(span)
                return next((t for t in by_trace.values() if len(t) == 5), [])

            async def has_failed_trace() -> bool:
                return bool(await whole_trace())

            await wait_until(has_failed_trace)
            until_ms = WallClock().now_ms()
            failed = {(s.service, s.kind): s for s in await whole_trace()}
            served, call = failed["payments", "server"], failed["orders", "client"]
            assert (served.text, served.status) == (reason, 500)
            running = await workload_of(system, "payments")
            assert served.instance in {i.instance for i in running.instances}
            assert served.version in {i.version for i in running.instances}
            assert served.parent_id == call.span_id
            assert (call.peer, call.status) == ("payments", 500)
            assert failed["gateway", "server"].parent_id == ""
            logs = await system.records(
                started_ms, until_ms, service="payments", min_severity="ERROR"
            )
            assert any(r.body == f"checkout failed: {reason} (status 500)" for r in logs)
            everything = json.dumps(
                [str(s) for s in failed.values()] + [str(r) for r in logs]
            ).lower()
            for word in ("inject", "fault", "chaos", "profile"):
                assert word not in everything

    asyncio.run(check())


def test_raw_samples_can_be_recorded(lab: Lab, connection: LabConnection) -> None:
    token = connection.token(connection.read_token_file)
    until_ms = WallClock().now_ms()
    with httpx.Client(trust_env=False, headers={"authorization": f"Bearer {token}"}) as client:
        answer = client.get(
            f"{connection.store_url}/api/samples",
            params={"start_ms": until_ms - 4000, "end_ms": until_ms},
        ).json()
    by_name = {entry["labels"]["__name__"] for entry in answer["series"]}
    assert {"http_requests_total", "router_edge_touched_total", "probe_success"} <= by_name
    longest = max(len(entry["points"]) for entry in answer["series"])
    assert 6 <= longest <= 9  # two samples a second
