"""The service catalogue: strict keys, places in errors, and the topology that follows from it."""

from __future__ import annotations

import pytest

from loop4.errors import InputError, PolicyError
from loop4.policies.catalogue import Catalogue, parse_catalogue, shipped_catalogue

SERVICE = """  - name: {name}
    owner: team
    tier: 1
    environment: lab
    edge: {edge}
    depends_on: [{depends_on}]
    replicas: {{min: 1, max: 3}}
    restart_budget_1h: 2
    on_call: {{primary: somebody}}
"""
HEAD = """apiVersion: loop4/v1
kind: ServiceCatalogue
metadata: {name: test}
spec:
"""


def catalogue(*services: tuple[str, str], externals: str = "bank") -> Catalogue:
    return parse_catalogue(text(*services, externals=externals))


def text(*services: tuple[str, str], externals: str = "bank") -> str:
    rows = "".join(
        SERVICE.format(name=name, depends_on=depends_on, edge=str(index == 0).lower())
        for index, (name, depends_on) in enumerate(services)
    )
    return f"{HEAD}  services:\n{rows}  externals:\n  - name: {externals}\n"


def test_the_shipped_example_loads() -> None:
    shipped = shipped_catalogue()
    assert [service.name for service in shipped.edge_services()] == ["gateway"]
    assert shipped.require("payments").secondary == ""


def test_downstream_is_transitive_and_nearest_first() -> None:
    shop = catalogue(("gateway", "orders"), ("orders", "payments"), ("payments", "bank"))
    assert shop.downstream("gateway") == ("orders", "payments", "bank")
    assert shop.downstream("bank") == ()
    assert shop.upstream("bank") == ("payments", "orders", "gateway")
    assert shop.upstream("gateway") == ()


def test_a_cycle_of_dependencies_ends() -> None:
    ring = catalogue(("a", "b"), ("b", "c"), ("c", "a"))
    assert ring.downstream("a") == ("b", "c")
    assert ring.upstream("a") == ("c", "b")


def test_an_external_is_not_a_service() -> None:
    shop = catalogue(("a", "bank"))
    assert shop.is_external("bank")
    assert shop.service("bank") is None
    with pytest.raises(InputError, match="unknown service 'bank'"):
        shop.require("bank")


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("tier: 1", "teir: 1", r"c\.yaml:8:5: unknown key 'teir'; did you mean 'tier'\?"),
        ("tier: 1", "tier: 4", r"c\.yaml:8:11: found 4, expected 1 to 3"),
        ("tier: 1", "tier: true", r"c\.yaml:8:11: found true, expected an integer"),
        ("edge: true", "edge: yes", r"c\.yaml:10:11: "),
        ("environment: lab", "environment: labb", r"c\.yaml:9:18: .*did you mean 'lab'"),
        ("max: 3", "max: 0", r"expected 1 to"),
        ("min: 1", "min: 4", r"min 4 is larger than max 3"),
        ("[b]", "[bb]", r"c\.yaml:11:18: unknown dependency 'bb'; did you mean 'b'\?"),
        ("[b]", "[b, b]", "listed twice"),
        ("[b]", "[a]", "cannot depend on itself"),
        ("name: a", "name: A", "expected a name like"),
        ("name: b", "name: a", "stands twice"),
        ("name: bank", "name: b", "stands twice"),
        ("kind: ServiceCatalogue", "kind: ServiceCatalog", "did you mean 'ServiceCatalogue'"),
        ("owner: team", "owner: {{TEAM}}", "nobody filled in"),
        ("  externals:", "  externals: [", "broken YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(good: str, bad: str, message: str) -> None:
    right = text(("a", "b"), ("b", "bank"))
    parse_catalogue(right)
    wrong = right.replace(good, bad, 1)
    assert wrong != right
    with pytest.raises(PolicyError, match=message) as caught:
        parse_catalogue(wrong, path="c.yaml")
    assert str(caught.value).startswith("c.yaml:")


def test_a_second_catalogue_in_the_file_is_refused() -> None:
    one = text(("a", "bank"))
    with pytest.raises(PolicyError, match="second catalogue"):
        parse_catalogue(f"{one}---\n{one}")


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(PolicyError):
        parse_catalogue("# nothing\n")
