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
