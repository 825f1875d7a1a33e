"""Settings: environment before file, unknown keys named, secrets never shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loop4.errors import SettingsError
from loop4.settings import Secret, Settings, load_settings


def write(folder: Path, text: str) -> Path:
    (folder / "loop4.toml").write_text(text, encoding="utf-8")
    return folder


def test_without_anything_only_the_data_folder_has_a_default(tmp_path: Path) -> None:
    assert load_settings({"HOME": "/home/x"}, folder=tmp_path) == Settings(
        data=Path("/home/x/.local/share/loop4")
    )


def test_xdg_data_home_counts_only_if_it_is_absolute(tmp_path: Path) -> None:
    environ = {"HOME": "/home/x", "XDG_DATA_HOME": "/data"}
    assert load_settings(environ, folder=tmp_path).data == Path("/data/loop4")
    environ["XDG_DATA_HOME"] = "data"
    assert load_settings(environ, folder=tmp_path).data == Path("/home/x/.local/share/loop4")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'data = "here"\nmetrics_url = "http://127.0.0.1:1/"\n')
    found = load_settings({"LOOP4_METRICS_URL": "http://127.0.0.1:2"}, folder=tmp_path)
    assert found.metrics_url == "http://127.0.0.1:2"
    assert found.data == tmp_path / "here"


def test_a_path_in_a_named_file_is_relative_to_that_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere, 'operations = "org"\n')
    found = load_settings({"LOOP4_CONFIG": "elsewhere/loop4.toml"}, folder=tmp_path)
    assert found.operations == elsewhere / "org"


@pytest.mark.parametrize(
    ("environ", "text", "message"),
    [
        ({"LOOP4_DATE": "x"}, "", "unknown environment variable 'LOOP4_DATE'.*'LOOP4_DATA'"),
        ({"LOOP4_data": "x"}, "", "unknown environment variable 'LOOP4_data'.*'LOOP4_DATA'"),
        ({}, 'metric_url = "http://x"\n', "unknown key 'metric_url'.*'metrics_url'"),
        ({}, "data = 3\n", "'data': expected text, found a number"),
        ({}, "data = true\n", "'data': expected text, found true or false"),
        ({}, "[data]\n", "'data': expected text, found a dict"),
        ({}, 'token = "x"\n', "'token' is a secret.*LOOP4_TOKEN"),
        ({}, "data = \n", "is not valid TOML"),
        ({}, 'world = "lab"\n', "'world': expected KIND:PLACE"),
        ({"LOOP4_METRICS_URL": "ftp://x"}, "", "LOOP4_METRICS_URL: expected a URL"),
        ({"LOOP4_CONFIG": "gone.toml"}, "", "no such file"),
    ],
)
def test_a_mistake_is_one_clear_error(
    tmp_path: Path, environ: dict[str, str], text: str, message: str
) -> None:
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=message):
        load_settings(environ, folder=tmp_path)


def test_a_file_that_is_not_text_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "loop4.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        load_settings({}, folder=tmp_path)


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    found = load_settings({"LOOP4_TOKEN": "hunter2"}, folder=tmp_path)
    assert found.token.reveal() == "hunter2"
    assert "hunter2" not in repr(found)
    assert "hunter2" not in f"{found.token} {found.token!r} {found}"
    assert not Secret()


def test_a_wrong_value_of_a_secret_is_not_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"LOOP4_TOKN": "hunter2"}, folder=tmp_path)
    assert "hunter2" not in str(caught.value)


PASSWORD_URLS = [
    "postgresql+psycopg://loop4:hunter2@db.example/loop4",
    "postgresql://db.example/loop4?user=loop4&password=hunter2",
]


def test_a_database_is_set_and_never_shown_with_its_password(tmp_path: Path) -> None:
    for url in PASSWORD_URLS:
        found = load_settings({"LOOP4_DB": url}, folder=tmp_path)
        assert found.ledger == found.db.reveal() == url
        assert "hunter2" not in repr(found)
    assert load_settings({}, folder=tmp_path).ledger == load_settings({}).data / "ledger.db"


@pytest.mark.parametrize("url", PASSWORD_URLS)
def test_a_database_password_does_not_belong_in_the_file(tmp_path: Path, url: str) -> None:
    write(tmp_path, f'db = "{url}"')
    with pytest.raises(
        SettingsError, match="a password, which does not belong in a file"
    ) as caught:
        load_settings({}, folder=tmp_path)
    assert "hunter2" not in str(caught.value)
    write(tmp_path, 'db = "postgresql+psycopg://loop4@db.example:5432/loop4"')
    assert load_settings({}, folder=tmp_path).db


def test_a_wrong_database_url_is_not_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LOOP4_DB: expected postgresql") as caught:
        load_settings({"LOOP4_DB": "mysql://loop4:hunter2@db.example/loop4"}, folder=tmp_path)
    assert "hunter2" not in str(caught.value)


def test_settings_need_only_the_standard_library() -> None:
    program = (
        "import sys\nimport loop4.settings\n"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('yaml', 'pydantic', 'rfc8785', 'typer', 'opentelemetry', 'langgraph')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
