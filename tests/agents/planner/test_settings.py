"""Which endpoint: from the environment, with one line for what cannot be used, and no key in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loop4.agents.planner.endpoint import Endpoint, ModelSettings, ToolMode, model_settings
from loop4.errors import SettingsError
from loop4.settings import Secret, load_settings
from tests.agents.conftest import KEY


def test_without_a_model_there_is_no_endpoint() -> None:
    assert model_settings({}) is None
    assert model_settings({"OPENAI_API_KEY": KEY}) is None
    assert model_settings({"LOOP4_MODEL": "m", "LOOP4_TOOL_MODE": "off"}) is None


def test_a_local_endpoint_needs_no_key() -> None:
    settings = model_settings({"LOOP4_MODEL": "m", "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"})
    assert settings is not None
    assert settings.tool_mode is ToolMode.AUTO
    assert not settings.api_key


def test_the_file_counts_where_the_environment_is_silent() -> None:
    local = {"OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"}
    settings = model_settings(local, model="from-file", tool_mode="parse")
    assert settings is not None
    assert (settings.model, settings.tool_mode) == ("from-file", ToolMode.PARSE)
    settings = model_settings({**local, "LOOP4_MODEL": "m"}, model="from-file")
    assert settings is not None
    assert settings.model == "m"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LOOP4_MODEL": "m"}, "OPENAI_API_KEY is not set"),
        ({"LOOP4_MODEL": "m", "LOOP4_TOOL_MODE": "magic"}, "expected one of auto, native"),
        ({"LOOP4_MODEL": "m", "OPENAI_BASE_URL": "127.0.0.1:8080"}, "expected a URL like"),
        ({"LOOP4_MODEL": "m", "OPENAI_BASE_URL": "http://"}, "expected a URL like"),
        ({"LOOP4_MODEL": "m", "OPENAI_BASE_URL": "http://x:99999/v1"}, "expected a URL like"),
        ({"LOOP4_MODEL": "m", "OPENAI_BASE_URL": f"ftp://u:{KEY}@x/v1"}, "expected a URL like"),
    ],
)
def test_what_cannot_be_used_is_one_line(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        model_settings(environ)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_key_is_in_no_print() -> None:
    settings = ModelSettings("m", f"http://user:{KEY}@host:1/v1?k={KEY}", Secret(KEY))
    assert settings.place == "http://host:1/v1"
    assert KEY not in repr(Endpoint(settings)) + settings.place + repr(settings)


def test_model_and_tool_mode_are_settings() -> None:
    settings = load_settings({"LOOP4_MODEL": "m", "LOOP4_TOOL_MODE": "schema"})
    assert (settings.model, settings.tool_mode) == ("m", "schema")
    with pytest.raises(SettingsError, match="expected one of auto"):
        load_settings({"LOOP4_TOOL_MODE": "magic"})


def test_a_run_without_a_model_imports_no_model_package() -> None:
    program = (
        "import sys; import loop4.graphs.session, loop4.agents.planner.model_planner; "
        "print([m for m in ('openai', 'langchain_openai', 'tiktoken') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
