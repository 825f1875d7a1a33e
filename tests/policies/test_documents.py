"""Reading YAML with places: what is refused, and the numbers of other people's formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop4.errors import PolicyError
from loop4.policies.documents import MAX_BYTES, parse_nodes, read_text


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n",
        "a: &x 1\nb: *x\n",
        "a: *x\n",
        "a: &x [*x]\n",
        "a: {{VAR}}\n",
        "a: 'at most {{VAR}}'\n",
        "a: !!python/object/apply:os.getcwd []\n",
        "? [a]\n: 1\n",
        "a: [1\n",
        "a: 1.5\n",
        "a: 2026-11-25\n",
        "a: \x01\n",
        "[" * 5000,
        "- " * 5000,
        "".join(" " * depth + "- \n" for depth in range(60)),
    ],
)
def test_what_could_surprise_is_refused_with_a_place(text: str) -> None:
    with pytest.raises(PolicyError, match=r"^f\.yaml"):
        list(parse_nodes(text, "f.yaml"))


def test_floats_are_read_only_where_they_are_asked_for() -> None:
    (node,) = parse_nodes("target: 0.995\nbig: 3\n", "slo.yaml", floats=True)
    assert node.mapping()["target"].number() == 0.995
    assert node.mapping()["big"].number() == 3.0
    with pytest.raises(PolicyError, match="float"):
        list(parse_nodes("target: .inf\n", "slo.yaml", floats=True))


def test_a_boolean_is_not_a_number() -> None:
    (node,) = parse_nodes("a: true\n", "f.yaml", floats=True)
    with pytest.raises(PolicyError, match="expected a number"):
        node.mapping()["a"].number()


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        read_text(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(PolicyError, match="not UTF-8"):
        read_text(tmp_path / "latin.yaml")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(PolicyError, match="larger than"):
        read_text(tmp_path / "huge.yaml")
