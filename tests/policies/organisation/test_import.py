"""The shop's repository, read as bids for limits: what maps, what conflicts, what is not read."""

from __future__ import annotations

import shutil
import time
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Json
from loop4.errors import PolicyError
from loop4.policies.load import load_policy
from loop4.policies.organisation.exceptions import read_exception
from loop4.policies.organisation.files import MAX_BYTES, Source
from loop4.policies.organisation.importing import Import, import_repository
from loop4.policies.organisation.markdown import parse_page
from loop4.policies.organisation.quantities import Unit, quantity
from loop4.policies.organisation.reconcile import Limit
from loop4.policies.organisation.report import lines, outcome, to_json
from loop4.policies.organisation.vocabulary import severity_of
from loop4.policies.severity import load_severity

SHOP = Path(__file__).parent / "shop"
NOW_MS = 1_795_600_000_000  # 2026-11-25
POLICIES = "org/4-quality/policies"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHOP, tmp_path / "shop"))


def read(root: Path) -> Import:
    return import_repository(root, load_policy(), load_severity(), NOW_MS)


def one(tmp_path: Path, requirement: str, *, config: str = "") -> Import:
    """The import of a repository with a single requirement."""
    folder = tmp_path / POLICIES
    folder.mkdir(parents=True)
    (folder / "delivery.md").write_text(f"# Policy\n\n- [ ] {requirement}\n", encoding="utf-8")
    if config:
        (tmp_path / "CONFIG.yaml").write_text(config, encoding="utf-8")
    return read(tmp_path)


def limit(found: Import, key: str, environment: str = "") -> Limit:
    return next(x for x in found.limits if (x.key, x.environment) == (key, environment))


def test_each_number_names_its_line_and_its_unit() -> None:
    found = read(SHOP)
    traffic = limit(found, "traffic_share_bp")
    assert [(c.place, c.value) for c in traffic.claims] == [
        (f"{POLICIES}/delivery.md:15", 1000),
        (f"{POLICIES}/security.md:11", 5000),
    ]
    assert (traffic.value, traffic.own) == (1000, 2500)
    assert limit(found, "approval_ttl_s").value == 600
    assert limit(found, "availability_bp").value == 9950
    assert limit(found, "latency_p99_ms").value == 300
    assert limit(found, "replicas_min", "production").value == 3
    assert limit(found, "clocks.SEV1.ack").value == 300
    assert limit(found, "clocks.SEV4.mitigate").unit is Unit.BUSINESS_DAYS


def test_a_conflict_names_both_files_with_lines_and_the_stricter_value() -> None:
    told = "\n".join(lines(read(SHOP)))
    assert (
        f"rollback_p99_ratio_bp: {POLICIES}/delivery.md:25 says 10000 bp of normal, "
        "process/3-ship/GUIDE.md:5 says 20000 bp of normal; 10000 bp of normal holds"
    ) in told
    assert [x.key for x in read(SHOP).conflicts] == ["rollback_p99_ratio_bp", "traffic_share_bp"]


def test_a_variable_of_the_configuration_is_filled_in_and_others_grant_nothing() -> None:
    found = read(SHOP)
    assert limit(found, "restarts_1h").value == 2
    assert limit(found, "verify_within_s").value == 240
    for key in ("rollback_error_increase_bp", "rollback_health_failures_bp"):
        assert limit(found, key).value is None
    assert "leaves MAX_ERROR_RATE_INCREASE unresolved" in outcome(
        limit(found, "rollback_error_increase_bp")
    )


def test_an_unresolved_clock_leaves_the_shipped_one_in_force() -> None:
    found = limit(read(SHOP), "clocks.SEV4.resolve")
    assert found.value == 604_800
    assert "Loop4 stays" in outcome(found)


def test_what_loop4_does_not_enforce_is_listed() -> None:
    places = {f"{u.path}:{u.line}" for u in read(SHOP).unmapped}
    assert f"{POLICIES}/security.md:13" in places
    assert f"{POLICIES}/observability.md:8" in places
    assert "not enforced by Loop4" in outcome(limit(read(SHOP), "latency_p99_ms"))


def test_metadata_of_two_pairs_on_a_line_is_read() -> None:
    page = parse_page(Source("x.md", "> **Version:** 1.3 | **Last updated:** 2026-09-01\n"))
    assert page.metadata == {"version": "1.3", "last updated": "2026-09-01"}


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("SEV1", "SEV1"),
        ("P0", "SEV1"),
        ("sev-3", "SEV3"),
        ("P4 (Low)", "SEV4"),
        ("SEV1 or SEV2", ""),
        ("P7", ""),
        ("Severity 2", "SEV2"),
    ],
)
def test_severity_words_are_one_vocabulary(text: str, severity: str) -> None:
    assert severity_of(text) == severity


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("25 %", Unit.SHARE_BP, 2500),
        ("0.5 percent", Unit.SHARE_BP, 50),
        ("250 bp", Unit.SHARE_BP, 250),
        ("2x", Unit.RATIO_BP, 20_000),
        ("1.5x", Unit.RATIO_BP, 15_000),
        ("15 min", Unit.SECONDS, 900),
        ("4 h", Unit.SECONDS, 14_400),
        ("0.3 s", Unit.MILLISECONDS, 300),
        ("three", Unit.COUNT, 3),
    ],
)
def test_units_are_normalised(text: str, unit: Unit, value: int) -> None:
    assert (quantity(text, unit).value, quantity(text, unit).fault) == (value, "")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("25 ms", Unit.SHARE_BP),
        ("25", Unit.SHARE_BP),
        ("0.001 %", Unit.SHARE_BP),
        ("10 %", Unit.SECONDS),
        ("1.5", Unit.COUNT),
        ("many", Unit.COUNT),
        ("NaN", Unit.SHARE_BP),
    ],
)
def test_a_number_of_another_kind_is_a_fault(text: str, unit: Unit) -> None:
    assert quantity(text, unit).fault


@given(st.text(max_size=400))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    parse_page(Source("x.md", text))


@pytest.mark.parametrize(
    "requirement",
    [
        "More than 2{{X}} % of traffic needs approval.",
        "More than {{X}} of traffic needs approval.",
        "More than 25 ms of traffic needs approval.",
    ],
)
def test_a_number_that_cannot_be_read_grants_nothing(tmp_path: Path, requirement: str) -> None:
    found = limit(one(tmp_path, requirement), "traffic_share_bp")
    assert found.value is None
    assert outcome(found).startswith("nothing is granted")


def test_two_units_for_one_number_are_reported_and_the_stricter_holds(tmp_path: Path) -> None:
    found = one(tmp_path, "An approval expires after 15 min (600 s).")
    assert limit(found, "approval_ttl_s").value == 600
    assert "for one number" in found.faults[0].message
    assert found.faults[0].line == 3


def test_a_variable_with_two_values_or_with_words_stays_unresolved(tmp_path: Path) -> None:
    text = "More than {{SHARE}} of traffic needs approval."
    twice = one(tmp_path / "a", text, config="a: {share: 10 %}\nb: {share: 20 %}\n")
    assert limit(twice, "traffic_share_bp").value is None
    assert "gives SHARE 2 values" in twice.faults[0].message
    worded = one(tmp_path / "b", text, config="share: as little as possible\n")
    assert limit(worded, "traffic_share_bp").value is None
    assert "expected a number" in worded.faults[0].message


def test_a_broken_configuration_is_reported_and_resolves_nothing(tmp_path: Path) -> None:
    text = "More than {{SHARE}} of traffic needs approval."
    found = one(tmp_path, text, config="share: 10 %\nother: {{X}}\n")
    assert limit(found, "traffic_share_bp").value is None
    assert found.faults[0].place.startswith("CONFIG.yaml:2")


def test_a_clause_about_one_environment_is_a_limit_there(tmp_path: Path) -> None:
    found = one(
        tmp_path,
        "More than 20 % of traffic needs approval; in production more than 5 % of traffic does.",
    )
    assert limit(found, "traffic_share_bp").value == 2000
    assert limit(found, "traffic_share_bp", "production").value == 500


def test_a_broken_table_row_is_reported_and_left_out(shop: Path) -> None:
    path = shop / POLICIES / "incident-response.md"
    text = path.read_text(encoding="utf-8").replace("| P0 | Critical |", "| P0 |")
    path.write_text(text, encoding="utf-8")
    found = read(shop)
    assert any("a table row of 5 cells under 6 columns" in f.message for f in found.faults)
    assert not [x for x in found.limits if x.key == "clocks.SEV1.ack"]


def test_a_path_that_is_no_repository_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is not a folder"):
        read(tmp_path / "none")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(PolicyError, match="is not a folder"):
        read(tmp_path / "file")
    with pytest.raises(PolicyError, match="holds no policy"):
        read(tmp_path)


def test_files_that_are_no_text_are_reported_and_the_rest_is_read(shop: Path) -> None:
    folder = shop / POLICIES
    (folder / "binary.md").write_bytes(b"\x00\x01 text")
    (folder / "latin.md").write_bytes(b"caf\xe9")
    (folder / "huge.md").write_bytes(b"a" * (MAX_BYTES + 1))
    found = read(shop)
    told = {f.path.rsplit("/", 1)[-1]: f.message for f in found.faults}
    assert "binary" in told["binary.md"]
    assert "UTF-8" in told["latin.md"]
    assert "larger than" in told["huge.md"]
    assert limit(found, "traffic_share_bp").value == 1000


def test_links_out_of_the_repository_and_loops_are_not_followed(shop: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.md"
    outside.write_text("- [ ] More than 1 % of traffic needs approval.\n", encoding="utf-8")
    folder = shop / POLICIES
    (folder / "out.md").symlink_to(outside)
    (folder / "loop.md").symlink_to(folder / "loop.md")
    (folder / "again").symlink_to(folder)
    found = read(shop)
    told = {f.path.rsplit("/", 1)[-1] for f in found.faults}
    assert {"out.md", "loop.md", "again"} <= told
    assert limit(found, "traffic_share_bp").value == 1000


GRANTED = (
    "> **ID:** EXC-2026-009 | **Status:** approved\n> **Approvers:** ade\n"
    "> **Expires:** 2026-12-31\n> **Limit:** traffic_share_bp | **Value:** 20 %\n"
)


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        ("approved", "proposed", "not approved"),
        ("approved", "revoked", "not approved"),
        ("ade", "-", "nobody"),
        ("2026-12-31", "2026-11-24", "expired"),
        ("2026-12-31", "later", "no day"),
        ("2026-12-31", "2026-13-31", "no day"),
        ("traffic_share_bp", "everything", "no limit"),
        ("20 %", "20 ms", "is not a share"),
    ],
)
def test_an_exception_that_is_not_in_force_is_refused(old: str, new: str, refusal: str) -> None:
    found = read_exception(Source("EXC-2026-009.md", GRANTED.replace(old, new)), NOW_MS)
    assert refusal in found.refusal


def test_an_exception_in_force_widens_to_its_value_never_beyond_loop4(shop: Path) -> None:
    path = shop / "work" / "decisions" / "EXC-2026-009.md"
    path.write_text(GRANTED, encoding="utf-8")
    found = read(shop)
    assert limit(found, "traffic_share_bp").value == 2000
    assert found.until_ms == 1_798_761_600_000  # the end of the year 2026
    path.write_text(GRANTED.replace("20 %", "90 %"), encoding="utf-8")
    assert limit(read(shop), "traffic_share_bp").value == 2500


def test_the_json_holds_what_the_text_says() -> None:
    body = to_json(read(SHOP))
    assert isinstance(body, dict)
    limits: Json = body["limits"]
    assert isinstance(limits, list)
    traffic = next(x for x in limits if isinstance(x, dict) and x["limit"] == "traffic_share_bp")
    assert isinstance(traffic, dict)
    assert traffic["holds"] == 1000
    assert traffic["winner"] == f"{POLICIES}/delivery.md:15"


def test_a_hostile_line_costs_little_and_is_reported(tmp_path: Path) -> None:
    began = time.monotonic()
    found = one(tmp_path, "availability error rate p99 more than " * 20_000)
    assert time.monotonic() - began < 2
    assert "characters; not read" in found.faults[0].message


def test_an_item_with_a_variable_that_nobody_understands_is_listed(tmp_path: Path) -> None:
    found = one(tmp_path, "Something depends on {{ANYTHING}}.")
    assert [u.line for u in found.unmapped] == [3]


def test_the_labs_own_policies_agree_with_loop4() -> None:
    found = read(Path(str(files("loop4.lab") / "operations")))
    assert found.conflicts == ()
    assert found.unresolved == ()
    assert found.faults == ()
    assert limit(found, "traffic_share_bp").value == limit(found, "traffic_share_bp").own
