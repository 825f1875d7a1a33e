from __future__ import annotations

import hmac
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop4.errors import PolicyError
from loop4.policies.people import People, Person, render, token_digest

NOW_MS = 1_790_000_000_000
HEAD = "apiVersion: loop4/v1\nkind: People\nmetadata: {name: people}\nspec:\n"
DANA = Person("dana", ("on-call", "operations-policy-author"), token_digest("dana's token"))
LEE = Person("lee", ("developer",), token_digest("lee's token"))


def load(folder: Path, text: str) -> People:
    path = folder / "people.yaml"
    path.write_text(text)
    return People.load(path)


def test_a_voter_is_found_by_token_only(tmp_path: Path) -> None:
    found = load(tmp_path, render([DANA, LEE]))
    assert found.persons == (DANA, LEE)
    assert found.find_voter("dana's token", now_ms=NOW_MS) == DANA
    assert found.find_voter("lee's token", now_ms=NOW_MS) == LEE
    for nobody in ("", " ", "dana", "dana's token ", DANA.token_sha256, "\udcff"):
        assert found.find_voter(nobody, now_ms=NOW_MS) is None


def test_nobody_votes_where_nobody_is_named(tmp_path: Path) -> None:
    assert load(tmp_path, render([])).find_voter("any", now_ms=NOW_MS) is None


def test_an_empty_token_is_nobodys_even_if_somebody_holds_it() -> None:
    assert People((Person("nobody", (), token_digest("")),)).find_voter("", now_ms=NOW_MS) is None


def test_every_person_is_compared_whoever_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    real = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    found = load(tmp_path, render([DANA, LEE]))
    for token in ("dana's token", "lee's token", "nobody's", ""):
        compared.clear()
        found.find_voter(token, now_ms=NOW_MS)
        assert compared == [DANA.token_sha256, LEE.token_sha256]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("  peoples: []\n", "5:3: unknown key 'peoples'; did you mean 'people'?"),
        ("  people: [{nam: dana}]\n", "unknown key 'nam'; did you mean 'name'?"),
        ("  people: [{name: dana, roles: [on-call]}]\n", "key 'token_sha256' is missing"),
        ("  people: [{name: dana, role: x}]\n", "unknown key 'role'; did you mean 'roles'?"),
        ("  people: {}\n", "expected a list"),
        ('  people: [{name: "Dana O", roles: [], token_sha256: "x"}]\n', "person 'Dana O'"),
        ('  people: [{name: d, roles: ["on call"], token_sha256: "x"}]\n', "role 'on call'"),
        ('  people: [{name: d, roles: [agent], token_sha256: "x"}]\n', "agents never vote"),
        ("  people: [{name: d, roles: [], token_sha256: secret}]\n", "64 lower-case hexadecimal"),
        (
            f'  people: [{{name: d, roles: [], token_sha256: "{token_digest("")}"}}]\n',
            "empty token",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_told_with_its_place(
    tmp_path: Path, body: str, said: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, HEAD + body)
    assert said in str(caught.value)
    assert f"{tmp_path / 'people.yaml'}:5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_people_cannot_share_a_name_or_a_token(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="'dana' stands twice"):
        load(tmp_path, render([DANA, DANA]))
    with pytest.raises(PolicyError, match="'kim' has the token of another person"):
        load(tmp_path, render([DANA, Person("kim", (), DANA.token_sha256)]))


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        People.load(tmp_path / "people.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.builds(
            Person,
            st.from_regex(r"[a-z0-9][a-z0-9._@-]{0,8}", fullmatch=True),
            st.lists(
                st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(
                    lambda role: role != "agent"
                ),
                max_size=3,
            ).map(tuple),
            st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}"),
        ),
        max_size=4,
        unique_by=(lambda person: person.name, lambda person: person.token_sha256),
    )
)
def test_what_is_rendered_is_read_back(tmp_path: Path, persons: list[Person]) -> None:
    assert load(tmp_path, render(persons)).persons == tuple(persons)
