"""The canonical form is that of RFC 8785, by the reference implementation."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from loop4.canonical import canonical_bytes, digest
from loop4.domain import Json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@example({"\U00010000": 1, "\uffff": 2})  # UTF-16 order is not the order of code points
@example({"a": 1.0, "b": 1e21, "c": 2**53 - 1})
@example(['\x00\x1f\x7f\u2028"\\/', "\b\t\n\f\r"])
def test_every_value_has_the_form_of_the_reference_implementation(value: Json) -> None:
    assert canonical_bytes(value) == rfc8785.dumps(value)


@given(st.dictionaries(TEXTS, st.integers(0, 9), min_size=2))
def test_the_order_of_keys_changes_nothing(body: dict[str, Json]) -> None:
    assert digest(dict(reversed(body.items()))) == digest(body)


@pytest.mark.parametrize("value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800"])
def test_what_the_form_cannot_hold_is_a_value_error(value: Json) -> None:
    for inside in (value, [value], {"a": value}):
        with pytest.raises(ValueError, match=r".+"):
            canonical_bytes(inside)
