"""The command line: fast help, one line for every mistake, the right exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loop4.cli import main as cli
from loop4.errors import Loop4Error, UsageError

HEAVY = ("langgraph", "langchain_core", "pydantic", "sqlalchemy", "typer", "rich", "opentelemetry")


def command(monkeypatch: pytest.MonkeyPatch, body: str, tmp_path: Path) -> None:
    """Make a real sub-command `probe`, a file of its own, the only one that there is."""
    folder = tmp_path / "commands"
    folder.mkdir()
    (folder / "probe.py").write_text(body, encoding="utf-8")
    monkeypatch.setattr(cli, "COMMANDS", (cli.Entry("probe", "a probe"),))
    monkeypatch.setattr(cli, "__file__", str(folder / "main.py"))
    monkeypatch.setattr("loop4.cli.__path__", [str(folder)])
    monkeypatch.delitem(sys.modules, "loop4.cli.probe", raising=False)


def raising(statement: str) -> str:
    return f"""
import asyncio, errno
from loop4.errors import InputError, Loop4Error
def command(name: str = "") -> None:
    '''Do it.'''
    {statement}
"""


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom loop4.cli.main import main\ncode = main(['--help'])\n"
        f"print('loaded:', [m for m in sys.modules if m.split('.')[0] in {HEAVY!r}], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: loop4 COMMAND")
    assert done.stdout.endswith("loaded: [] 0\n")


def test_help_lists_the_commands_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for entry in cli.COMMANDS:
        is_there = (Path(cli.__file__).parent / f"{entry.name}.py").is_file()
        assert (f"  {entry.name} " in shown) == is_there


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"loop4 {version('loop4')}\n"


def test_no_command_is_a_usage_error_with_the_help_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: loop4")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("prob", "loop4: unknown command 'prob'; did you mean 'probe'?\n"),
        ("zzz", "loop4: unknown command 'zzz'; known: probe\n"),
        ("--verbose", "loop4: unknown option '--verbose'; known: probe\n"),
    ],
)
def test_an_unknown_word_is_one_line(
    word: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command(monkeypatch, raising("..."), tmp_path)
    assert cli.main([word]) == 2
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("statement", "code", "message"),
    [
        ("raise InputError('bad\\n  thing')", 2, "loop4: bad thing\n"),
        ("raise Loop4Error('no')", 1, "loop4: no\n"),
        (
            "raise OSError(errno.ENOSPC, 'No space left on device', 'ledger.db')",
            1,
            "loop4: No space left on device: 'ledger.db'\n",
        ),
        ("open('/nowhere/at/all')", 1, "loop4: No such file or directory: '/nowhere/at/all'\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise ExceptionGroup('', [ExceptionGroup('', [InputError('in')])])", 2, "loop4: in\n"),
        ("raise BaseExceptionGroup('', [KeyboardInterrupt()])", 130, "loop4: interrupted\n"),
        ("import typer; raise typer.Exit(3)", 3, ""),
        ("import typer; raise typer.Abort", 1, "loop4: aborted\n"),
        ("...", 0, ""),
    ],
)
def test_what_a_command_raises_becomes_one_line_and_a_code(
    statement: str,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command(monkeypatch, raising(statement), tmp_path)
    assert cli.main(["probe"]) == code
    assert capsys.readouterr().err == message


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command(monkeypatch, raising("raise RuntimeError('a bug')"), tmp_path)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["probe"])


def test_a_wrong_option_of_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, raising("..."), tmp_path)
    assert cli.main(["probe", "--nmae", "x"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("loop4: ")
    assert "--nmae" in shown
    assert shown.count("\n") == 1


def test_a_group_of_commands_works_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = """
import typer
app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
@app.command()
def show(number: int) -> None:
    print("shown", number)
@app.command()
def verify() -> None:
    raise typer.Exit(1)
"""
    command(monkeypatch, body, tmp_path)
    assert cli.main(["probe", "show", "3"]) == 0
    assert capsys.readouterr().out == "shown 3\n"
    assert cli.main(["probe", "verify"]) == 1
    assert cli.main(["probe", "show", "x"]) == 2
    assert "valid integer" in capsys.readouterr().err
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err.startswith("Usage: loop4 probe")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = "import sys\nfrom loop4.cli.main import main\nsys.exit(main(['--help']))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert said == ""
    assert process.returncode == 1


def test_the_error_tree_carries_the_exit_codes() -> None:
    assert (Loop4Error.exit_code, UsageError.exit_code, cli.INTERRUPTED) == (1, 2, 130)
