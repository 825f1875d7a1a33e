"""All mutants of all shipped rules: whichever breaks a promise does so on the real gate.

Minutes of solving: `pytest -m exhaustive`. `test_prove` takes a sample of them each time.
"""

from __future__ import annotations

import pytest

from loop4.policies.invariants import load_invariants
from loop4.policies.policy import Policy
from tests.policies.broken_promises import check_mutants


@pytest.mark.exhaustive
def test_every_mutant_that_breaks_a_promise_is_shown_on_the_real_gate(shipped: Policy) -> None:
    tried, caught = check_mutants(shipped, load_invariants(shipped, ()), 1)
    assert tried > 600
    assert caught > 300
