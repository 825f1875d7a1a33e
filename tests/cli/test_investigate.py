"""`loop4 investigate`: looks at anybody's Prometheus, says what it saw and what it could not, and
changes nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import quote

import httpx
import pytest

from tests.cli.conftest import Desk, alert, now_ms, webhook
from tests.cli.serving import served
from tests.graphs.toy import ToyClock, ToyWorld
from tests.tools.backends.conftest import MISSING

ERRORS = 'sum by (service) (rate(http_requests_total{outcome="error"}[10s])) > 0'
Body = dict[str, object]


def linked(query: str) -> str:
    return f"g0.expr={quote(query)}&g0.tab=1"


def incidents(body: Body) -> list[Body]:
    return cast("list[Body]", body["incidents"])


def rows(body: Body, key: str) -> list[Body]:
    return cast("list[Body]", body[key])


def no_data(body: Body) -> list[str]:
    return cast("list[str]", body["no_data"])


def contents(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture
def alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with no settings at all."""
    monkeypatch.delenv("LOOP4_DATA")
    monkeypatch.delenv("LOOP4_OPERATIONS")
    monkeypatch.setenv("XDG_DATA_HOME", str(desk.root / "home"))
    return desk


def test_with_an_operations_folder_it_tells_severity_findings_and_what_would_be_done(
    alone: Desk, metrics_url: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders", query=linked(ERRORS))]))
    before, traces = contents(alone.operations), alone.traces()
    body = alone.json(
        "investigate", "--alert", file, "--metrics", metrics_url, "--operations", alone.operations
    )
    assert contents(alone.operations) == before
    assert alone.traces() == traces
    (seen,) = incidents(body)
    assert (seen["severity"], seen["service"]) == ("SEV1", "orders")
    known = {str(e["evidence"]) for e in rows(seen, "evidence")}
    assert "burn_rate" in {f["kind"] for f in rows(seen, "findings")}
    for finding in rows(seen, "findings"):
        assert finding["claim"]
        assert set(cast("list[str]", finding["evidence"])) <= known
    decided = {str(d["tool"]): d for d in rows(seen, "would_have")}
    assert decided["oncall.page"]["decided"] == "allow"
    assert {d["mode"] for d in decided.values()} == {"observe"}
    for kind in ("traces", "logs", "changes", "topology"):
        assert f"{kind}: no back end is configured" in no_data(seen)


def test_without_any_document_it_still_asks_the_alerts_own_query(
    alone: Desk, metrics_url: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders", query=linked(ERRORS))]))
    (seen,) = incidents(alone.json("investigate", "--alert", file, "--metrics", metrics_url))
    (query,) = rows(seen, "alert_queries")
    assert query["query"] == ERRORS
    for moment in ("now", "at_start"):
        answer = cast("Body", query[moment])
        assert str(answer["evidence"]).startswith("ev-")
        values = {
            cast("dict[str, str]", v["labels"])["service"]: float(str(v["value"]))
            for v in rows(answer, "values")
        }
        assert values == pytest.approx({"gateway": 12, "orders": 12})
    assert "service 'orders' is not in the catalogue, so no agent looked at it" in no_data(seen)
    assert "targets: no target file speaks of service 'orders'" in no_data(seen)
    assert seen["environment"] == "production"
    assert not (alone.root / "home").exists()


def test_targets_and_services_do_without_an_operations_folder(
    alone: Desk, metrics_url: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders"), alert("gateway")]))
    body = alone.json(
        *("investigate", "--alert", file, "--metrics", metrics_url),
        *("--targets", alone.policy("targets"), "--services", alone.policy("services.yaml")),
    )
    (seen,) = incidents(body)
    assert seen["severity"] == "SEV1"
    assert len(cast("list[str]", seen["alerts"])) == 2
    readings = {t["target"]: t["reading"] for t in rows(seen, "targets")}
    assert readings["orders-availability"] == "fail"
    assert readings["payments-availability"] == "pass"
    assert "alert ErrorBudgetBurn: its URL carries no query" in no_data(seen)


def test_metrics_without_a_single_sample_are_no_data_and_not_health(
    alone: Desk, metrics_url: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders", query=linked("absent_metric > 1"))]))
    with served(ToyWorld().store) as empty:
        body = alone.json(
            "investigate", "--alert", file, "--metrics", empty, "--operations", alone.operations
        )
    (seen,) = incidents(body)
    assert {t["reading"] for t in rows(seen, "targets")} == {"no_data"}
    assert rows(seen, "findings") == []
    assert any(m.startswith("orders-availability: no data") for m in no_data(seen))
    assert any(m.startswith("the alert's own query now: ") for m in no_data(seen))


def test_a_query_that_the_server_refuses_is_no_data_with_the_place(
    alone: Desk, metrics_url: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders", query=linked("topk(3, up)"))]))
    (seen,) = incidents(alone.json("investigate", "--alert", file, "--metrics", metrics_url))
    assert any("topk(3, up)" in m and "column" in m for m in no_data(seen))


def test_the_text_says_the_same_and_holds_no_control_characters(
    alone: Desk, metrics_url: str
) -> None:
    hostile = alert("orders", query=linked(ERRORS), name="Bad\x1b[2J\nloop4: fine")
    file = alone.write("a.json", webhook([hostile]))
    code, out, err = alone.say(
        "investigate", "--alert", file, "--metrics", metrics_url, "--operations", alone.operations
    )
    assert (code, err) == (0, "")
    assert out.startswith("orders (lab): SEV1, ")
    assert "  found: orders-availability: " in out
    assert "[ev-" in out
    assert "  would have: oncall.page on " in out
    assert "  no data: traces: no back end is configured\n" in out
    assert "\x1b" not in out
    assert "\nloop4: fine" not in out


def test_a_webhook_that_only_resolves_leaves_nothing_to_look_for(
    alone: Desk, metrics_url: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders", resolved=True)]))
    body = alone.json("investigate", "--alert", file, "--metrics", metrics_url)
    assert incidents(body) == []
    assert len(cast("list[str]", body["resolved"])) == 1


def test_metrics_that_nobody_answers_for_are_a_failure_in_one_line(alone: Desk) -> None:
    file = alone.write("a.json", webhook([alert("orders")]))
    with socket.socket() as bound:  # bound but not listening: refused at once
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        began = time.monotonic()
        code, err = alone.refused("investigate", "--alert", file, "--metrics", url)
    assert code == 1
    assert f"metrics at {url}: " in err
    assert time.monotonic() - began < 8


def test_something_else_than_a_prometheus_is_a_failure_in_one_line(
    alone: Desk, metrics_url: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders")]))
    url = f"{metrics_url}/elsewhere"
    code, err = alone.refused("investigate", "--alert", file, "--metrics", url)
    assert code == 1
    assert "expected the base address of a Prometheus server" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metrics", "ftp://x"), "expected one such as http://"),
        ((), "no metrics to look at"),
        (("--metrics", "http://127.0.0.1:9", "--operations", "nowhere"), "nowhere"),
        (("--metrics", "http://127.0.0.1:9", "--targets", "nowhere"), "nowhere"),
        (("--metrics", "http://127.0.0.1:9", "--services", "nowhere"), "nowhere"),
        (("--metrics", "http://127.0.0.1:9", "--environment", "prod"), "production"),
        (
            ("--metrics", "http://127.0.0.1:9", "--operations", "operations", "--targets", "x"),
            "give it, or --targets and --services",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_asked(
    alone: Desk, words: tuple[str, ...], said: str
) -> None:
    file = alone.write("a.json", webhook([alert("orders")]))
    code, err = alone.refused("investigate", "--alert", file, *words)
    assert code == 2
    assert said in err


@pytest.fixture(scope="module")
def real_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that holds a minute of health, and failures until a minute from now: it
    answers for its own present, however slow the machine.
    """
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip(MISSING)
    toy = ToyWorld(clock=ToyClock(now_ms() - 90_000))
    toy.run(70)
    toy.deploy()
    toy.run(90)
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples.om").write_text(exposition(toy))
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    promtool = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "samples.om", "data"]
    subprocess.run(promtool, cwd=folder, check=True, capture_output=True, timeout=60)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                str(shutil.which("prometheus")),
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not is_ready(url):
            assert server.poll() is None, "prometheus ended"
            assert time.monotonic() < deadline, "prometheus is not ready"
            time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def exposition(toy: ToyWorld) -> str:
    """The world's samples in the OpenMetrics text form, for promtool."""
    lines: list[str] = []
    name = ""
    for series in toy.store.all_series():
        labels = dict(series.labels)
        if labels["__name__"] != name:
            name = labels["__name__"]
            lines.append(f"# TYPE {name} unknown")
        shown = ",".join(f'{k}="{v}"' for k, v in series.labels if k != "__name__")
        lines += [
            f"{name}{{{shown}}} {value!r} {at_ms / 1000:.3f}"
            for at_ms, value in zip(series.times, map(float, series.values), strict=True)
        ]
    return "\n".join([*lines, "# EOF", ""])


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_a_real_prometheus_gives_the_same_answer(alone: Desk, real_prometheus: str) -> None:
    query = "topk(2, sum by (service) (rate(http_requests_total{outcome='error'}[10s]))) > 0"
    file = alone.write("a.json", webhook([alert("orders", query=linked(query))]))
    body = alone.json(
        *("investigate", "--alert", file, "--metrics", real_prometheus),
        *("--operations", alone.operations),
    )
    (seen,) = incidents(body)
    assert seen["severity"] == "SEV1"
    claims = [str(f["claim"]) for f in rows(seen, "findings") if f["kind"] == "burn_rate"]
    assert any(c.startswith("orders-availability: 3") for c in claims), claims
    (asked,) = rows(seen, "alert_queries")
    values = {
        cast("dict[str, str]", v["labels"])["service"]: float(str(v["value"]))
        for v in rows(cast("Body", asked["now"]), "values")
    }
    assert values == pytest.approx({"gateway": 12, "orders": 12}, rel=0.2)
