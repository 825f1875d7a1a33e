from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop4.lab.exposition import Exposition, Registry

words = st.text(st.characters(whitelist_categories=("Ll", "Nd"), whitelist_characters="-."))


def read(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (name, tuple(sorted(labels.items()))): value
        for name, labels, value in Exposition().parse(registry.render().decode())
    }


@given(service=words, route=words, amount=st.integers(0, 2**40))
def test_what_is_counted_is_read_back(service: str, route: str, amount: int) -> None:
    registry = Registry({"service": service})
    registry.count("requests_total", amount, route=route)
    registry.count("requests_total", 1, route=route)
    key = ("requests_total", (("route", route), ("service", service)))
    assert read(registry) == {key: amount + 1}


def test_a_count_of_nothing_makes_the_series_exist() -> None:
    registry = Registry()
    registry.count("errors_total", 0, outcome="error")
    assert read(registry) == {("errors_total", (("outcome", "error"),)): 0}


def test_histogram_buckets_are_cumulative_and_include_their_bound() -> None:
    registry = Registry({"service": "orders"})
    for seconds in (0.001, 0.3, 0.31, 9.0):
        registry.observe("duration_seconds", seconds)
    found = read(registry)

    def bucket(bound: str) -> float:
        return found["duration_seconds_bucket", (("le", bound), ("service", "orders"))]

    assert [bucket(b) for b in ("0.005", "0.2", "0.3", "0.5", "+Inf")] == [1, 1, 2, 3, 4]
    assert found["duration_seconds_count", (("service", "orders"),)] == 4


def test_a_dropped_gauge_is_gone() -> None:
    registry = Registry()
    registry.gauge("weight_bp", 5000, version="v1")
    registry.reset("weight_bp")
    assert read(registry) == {}
