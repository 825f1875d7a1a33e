from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from loop4.lab.balancer import Backend, Route, ServiceBalancer, Table


def balancer(weights: dict[str, int], replicas: int = 3) -> ServiceBalancer:
    """A balancer whose instances are all healthy."""
    made = ServiceBalancer("orders")
    routes = tuple(
        Route(f"{version}-{n}", version, 1000 + n) for version in weights for n in range(replicas)
    )
    made.apply(Table(tuple(weights.items()), routes), 1)
    for backend in made.backends():
        made.passed(backend, 2)
    return made


def picked(made: ServiceBalancer, count: int) -> Counter[str]:
    names: Counter[str] = Counter()
    for _ in range(count):
        backend = made.pick()
        assert backend is not None
        names[backend.version] += 1
    return names


def backend_of(made: ServiceBalancer, name: str) -> Backend:
    backend = made.find(name)
    assert backend is not None
    return backend


@given(weight=st.integers(0, 100).map(lambda percent: percent * 100))
def test_versions_get_calls_by_their_weight_within_one(weight: int) -> None:
    made = balancer({"v1": 10_000 - weight, "v2": weight})
    names = picked(made, 100)
    assert abs(names["v2"] - weight // 100) <= 1


def test_instances_of_a_version_take_turns() -> None:
    made = balancer({"v1": 10_000})
    names = Counter(backend.name for backend in (made.pick() for _ in range(30)) if backend)
    assert set(names.values()) == {10}


def test_an_instance_takes_nothing_before_its_first_passed_check() -> None:
    made = ServiceBalancer("orders")
    made.apply(Table((("v1", 10_000),), (Route("a", "v1", 1),)), 1)
    assert made.pick() is None
    assert not backend_of(made, "a").ejected
    assert made.effective() == {"v1": {"a": 0}}
    made.passed(backend_of(made, "a"), 5)
    assert made.pick() is backend_of(made, "a")
    assert made.changed_ms == 5


def test_two_failures_eject_and_two_passed_checks_readmit() -> None:
    made = balancer({"v1": 10_000})
    sick = backend_of(made, "v1-1")
    made.failed(sick, 10)
    assert made.effective()["v1"]["v1-1"] > 0
    made.failed(sick, 11)
    assert not sick.routable
    assert made.changed_ms == 11
    assert made.effective()["v1"]["v1-1"] == 0
    assert all(b is not None and b.name != "v1-1" for b in (made.pick() for _ in range(12)))
    made.passed(sick, 12)
    assert made.effective()["v1"]["v1-1"] == 0
    made.passed(sick, 13)
    assert made.effective()["v1"]["v1-1"] > 0
    assert made.changed_ms == 13


def test_a_version_without_a_healthy_instance_leaves_its_share_to_the_others() -> None:
    made = balancer({"v1": 5000, "v2": 5000}, replicas=1)
    for at_ms in (1, 2):
        made.failed(backend_of(made, "v2-0"), at_ms)
    assert made.effective() == {"v1": {"v1-0": 10_000}, "v2": {"v2-0": 0}}
    assert picked(made, 10) == {"v1": 10}


def test_a_version_without_weight_serves_only_when_nothing_else_can() -> None:
    made = balancer({"v1": 10_000, "v2": 0}, replicas=1)
    assert picked(made, 10) == {"v1": 10}
    for at_ms in (1, 2):
        made.failed(backend_of(made, "v1-0"), at_ms)
    assert picked(made, 10) == {"v2": 10}


def test_the_same_table_again_changes_nothing() -> None:
    made = balancer({"v1": 10_000})
    changed_ms = made.changed_ms
    routes = tuple(Route(b.name, b.version, b.port) for b in made.backends())
    made.apply(Table((("v1", 10_000),), routes), 99)
    assert made.changed_ms == changed_ms


def test_an_instance_on_a_new_port_must_pass_again() -> None:
    made = balancer({"v1": 10_000}, replicas=1)
    made.apply(Table((("v1", 10_000),), (Route("v1-0", "v1", 4321),)), 9)
    assert made.pick() is None
    assert made.changed_ms == 9


@given(
    weights=st.lists(st.integers(1, 10_000), min_size=1, max_size=4),
    replicas=st.integers(1, 4),
)
def test_weights_in_force_sum_to_all_the_traffic(weights: list[int], replicas: int) -> None:
    made = balancer({f"v{n}": weight for n, weight in enumerate(weights)}, replicas)
    total = sum(bp for shares in made.effective().values() for bp in shares.values())
    assert abs(total - 10_000) <= len(weights)
