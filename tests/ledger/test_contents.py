from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop4.canonical import digest
from loop4.domain import Json
from loop4.errors import LedgerError
from loop4.ledger import contents
from loop4.ledger.ledger import Ledger

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=JSON)
def test_a_body_is_found_under_its_canonical_digest(ledger: Ledger, body: Json) -> None:
    with ledger.transaction() as tx:
        name = contents.put(tx, body)
        assert name == contents.put(tx, body) == digest(body)
        assert contents.get(tx, name) == body
        assert contents.has(tx, name)


def test_what_is_absent_or_altered_is_never_returned(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        name = contents.put(tx, {"error_rate_bp": 2600})
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER contents_no_update")
    connection.execute("UPDATE contents SET body = replace(body, '2600', '2400')")
    connection.commit()
    connection.close()
    with Ledger.open(path) as ledger, ledger.read() as tx:
        with pytest.raises(LedgerError, match="was altered"):
            contents.get(tx, name)
        with pytest.raises(LedgerError, match="is not in the ledger"):
            contents.get(tx, "0" * 64)
