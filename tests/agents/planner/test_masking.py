"""Secrets out of what a model sees and says; the same text back when it stays with us."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.agents.planner.masking import REMOVED, Masker, holds_secret, scrub
from tests.agents.hostile import SECRETS

SAID = (
    "api_key={}",
    "the password is {} they say",
    '{{"token": "{}"}}',
    "Authorization: Bearer {}",
    "secret: '{}'",
    "CLIENT_SECRET={}",
    "db.password = {}",
)
secrets = st.one_of(
    st.sampled_from([s for s in SECRETS if "horse" not in s]),  # a bare word is no secret
    st.from_regex(r"sk-[A-Za-z0-9]{16,40}", fullmatch=True),
    st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?@[a-z]{2,8}\.example", fullmatch=True),
    st.from_regex(
        r"postgres://[a-z]{2,6}:[A-Za-z0-9]{6,12}@[a-z]{2,8}:5432/[a-z]{2,8}", fullmatch=True
    ),
    st.from_regex(r"eyJ[A-Za-z0-9]{10,20}\.[A-Za-z0-9]{10,20}\.[A-Za-z0-9]{10,20}", fullmatch=True),
)
texts = st.lists(
    st.one_of(
        st.text(max_size=30),
        secrets,
        st.sampled_from(
            ["[masked-email-1]", "[masked-key-2]", "[masked-", "]", " ", "password=", "\n"]
        ),
    ),
    max_size=8,
).map("".join)


@given(st.lists(texts, max_size=4))
def test_unmask_of_mask_is_the_text(lines: list[str]) -> None:
    masker = Masker()
    masked = [masker.mask(line) for line in lines]
    assert [masker.unmask(m) for m in masked] == lines


@given(st.text(max_size=20), secrets, st.text(max_size=20))
def test_a_masked_text_does_not_hold_the_secret(before: str, secret: str, after: str) -> None:
    text = f"{before} {secret} {after}"
    assert secret not in Masker().mask(text)
    assert secret not in scrub(text)


@pytest.mark.parametrize("form", SAID)
@given(value=st.from_regex(r"[A-Za-z0-9]{6,20}", fullmatch=True))
def test_what_is_called_a_secret_is_one(form: str, value: str) -> None:
    said = form.format(value)
    assert value not in Masker().mask(said)
    assert value not in scrub(said)


@given(texts)
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    once = scrub(text)
    assert scrub(once) == once
    assert not holds_secret(once)


def test_the_same_secret_has_the_same_placeholder_and_another_has_another() -> None:
    masker = Masker()
    first = masker.mask("mail a@x.example")
    assert masker.mask("mail a@x.example") == first
    assert masker.mask("mail b@x.example") != first
    assert masker.count == 2


def test_a_placeholder_from_outside_is_not_put_back_as_a_secret() -> None:
    masker = Masker()
    masker.mask("a@x.example")
    planted = masker.mask("tell me [masked-email-1]")
    assert masker.unmask(planted) == "tell me [masked-email-1]"


def test_what_goes_out_holds_neither_secret_nor_placeholder() -> None:
    masker = Masker()
    masked = masker.mask("the key is sk-abcdefghijklmnop1234")
    assert masker.scrub(masked) == f"the key is {REMOVED}"
    assert REMOVED in masker.scrub("sk-abcdefghijklmnop1234")


def test_ids_and_digests_of_operations_stay() -> None:
    plain = (
        "INC-2026-001 orders-v2 chg-42 ev-6832d7bd682cf30b revision 41 at 2026-11-25 03:12 UTC, "
        'trace 4bf92f3577b34da6a3ce929d0e0e4736, http_requests_total{service="orders"}'
    )
    assert scrub(plain) == plain
    assert Masker().mask(plain) == plain


OURS = (
    "work/retrospectives/2026-11-25-INC-2026-001-payments.md",
    "work/incidents/INC-2026-001/customer-update-01.md",
    "work/signals/2026-11-25-Orders-fails-6000-bp-of-its-requests.md",
    "/srv/shop/work/retrospectives/2026-11-25-inc-2026-001-payments.md",
    "postmortem-of-INC-2026-001-and-ev-6832d7bd682cf30b",
    f"sha256:{'0123456789abcdef' * 4}",
)
segments = st.lists(
    st.one_of(
        st.from_regex(r"[a-z]{2,14}(-[a-z]{2,9}){0,3}", fullmatch=True),
        st.sampled_from(["INC-2026-001", "2026-11-25-INC-2026-014-orders", "page-01"]),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("path", OURS)
def test_work_paths_and_our_own_ids_stay(path: str) -> None:
    said = f"gate: oncall.page on {path}: allow, {path} written [file {path}:12]"
    assert Masker().mask(said) == said
    assert scrub(said) == said


@given(segments, st.integers(0, 5), st.sampled_from([s for s in SECRETS if "horse" not in s]))
def test_a_secret_inside_a_work_path_does_not_stay(parts: list[str], at: int, secret: str) -> None:
    path = "/".join(["work", *parts[:at], secret, *parts[at:]])
    assert secret not in Masker().mask(path)
    assert secret not in scrub(path)


@given(segments, st.integers(0, 5), st.from_regex(r"[A-Za-z0-9+_-]{32,60}", fullmatch=True))
def test_a_random_part_of_a_work_path_is_masked_and_the_rest_stays(
    parts: list[str], at: int, drawn: str
) -> None:
    token = f"aB3{drawn}"
    path = "/".join(["work", *parts[:at], token, *parts[at:]])
    masker = Masker()
    masked = masker.mask(path)
    assert token not in masked
    assert masker.unmask(masked) == path
    assert all(p in masked for p in parts)
    assert "aB3" not in scrub(path)


def test_a_work_path_in_the_middle_saves_no_random_text_before_it() -> None:
    token = "aB3dE5fG7hJ9/kL1mN3pQ5r"  # noqa: S105  (of nothing)
    assert token not in scrub(f"see {token}/work/signals/x.md")


def test_a_name_at_the_end_of_a_long_path_still_makes_its_value_a_secret() -> None:
    said = "work/retrospectives/2026-11-25-INC-2026-001/password=hunter2hunter2"
    assert "hunter2" not in scrub(said)
    assert "hunter2" not in Masker().mask(said)
