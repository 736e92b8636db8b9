"""The root command: finding, help without imports, errors to messages and exit codes.

Commands are installed for a test as they are in life: by a distribution's entry points on sys.path.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from odonata import __version__
from odonata.cli import CommandGroup, found, short_help

GROUP = "odonata.test_commands"
ROOM = '''\
"""A room of tests."""
import asyncio, os, signal, sys
import click
from odonata.errors import CapacityError, SettingsError, UnavailableError

if os.environ.get("ROOM_IS_BROKEN"):
    import a_package_that_nobody_has

@click.command()
@click.argument("what")
@click.option("--json", is_flag=True, hidden=True)
def act(what: str, json: bool) -> None:
    """Do what is said, in one
    sentence. More about it.

    And a second paragraph.
    """
    if what == "say": click.echo("said")
    if what == "settings": raise SettingsError("a.yaml:1: first\\na.yaml:2: second")
    if what == "gone": raise UnavailableError("nobody answers")
    if what == "group":
        raise BaseExceptionGroup("tasks", [
            CapacityError("disk full"), ExceptionGroup("inner", [SettingsError("bad port")])])
    if what == "mixed": raise ExceptionGroup("tasks", [CapacityError("full"), ValueError("bug")])
    if what == "interrupt": raise KeyboardInterrupt
    if what == "pipe": raise BrokenPipeError
    if what == "exit": click.get_current_context().exit(7)
    if what == "bug": raise ValueError("bug")
    if what == "sigint": os.kill(os.getpid(), signal.SIGINT)
    if what == "flood":
        for _ in range(100_000): print("x" * 4096)

not_a_command = 3
'''
ENTRY_POINTS = f"""\
[{GROUP}]
act = room_of_tests.command:act
other = room_of_tests.command:not_a_command
lost = room_of_tests.command:lost
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "room_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text('"""A room."""\n')
    (package / "command.py").write_text(ROOM)
    info = tmp_path / "room_of_tests-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: room-of-tests\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith("room_of_tests")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def invoke(*arguments: str) -> Result:
    group = CommandGroup("odonata", help="A test's root.", entry_point_group=GROUP)
    return CliRunner().invoke(group, arguments)


@pytest.mark.usefixtures("room")
def test_help_lists_commands_with_their_first_sentence() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    assert "act    Do what is said, in one sentence\n" in result.output
    assert not [name for name in sys.modules if name.startswith("room_of_tests")]


@pytest.mark.usefixtures("room")
def test_a_command_runs() -> None:
    result = invoke("act", "say")
    assert (result.stdout, result.stderr, result.exit_code) == ("said\n", "", 0)


@pytest.mark.parametrize(
    ("what", "stderr", "exit_code"),
    [
        ("settings", "odonata: a.yaml:1: first\nodonata: a.yaml:2: second\n", 2),
        ("gone", "odonata: nobody answers\n", 1),
        ("group", "odonata: disk full\nodonata: bad port\n", 2),
        ("interrupt", "\n", 130),  # the shell wrote ^C on that line
        ("sigint", "\n", 130),
        ("pipe", "", 141),
        ("exit", "", 7),
    ],
)
@pytest.mark.usefixtures("room")
def test_errors_become_a_message_and_an_exit_code(what: str, stderr: str, exit_code: int) -> None:
    result = invoke("act", what)
    assert result.stdout == ""
    assert result.stderr == stderr
    assert result.exit_code == exit_code


@pytest.mark.parametrize(
    ("words", "errors", "exit_code"),
    [
        (["settings"], [("bad_settings", "a.yaml:1: first\na.yaml:2: second", False)], 2),
        (["gone"], [("unavailable", "nobody answers", True)], 1),
        (
            ["group"],
            [("capacity", "disk full", True), ("bad_settings", "bad port", False)],
            2,
        ),
        ([], [("usage", "Missing argument 'WHAT'.", False)], 2),
    ],
)
@pytest.mark.usefixtures("room")
def test_with_json_errors_are_json_too(
    words: list[str], errors: list[tuple[str, str, bool]], exit_code: int
) -> None:
    result = invoke("act", *words, "--json")
    assert (result.stdout, result.exit_code) == ("", exit_code)
    told = [json.loads(line) for line in result.stderr.splitlines()]
    assert told == [
        {"error": {"code": code, "detail": detail, "retryable": retryable}}
        for code, detail, retryable in errors
    ]


@pytest.mark.parametrize("what", ["bug", "mixed"])
@pytest.mark.usefixtures("room")
def test_a_bug_keeps_its_traceback(what: str) -> None:
    result = invoke("act", what)
    assert isinstance(result.exception, ValueError | ExceptionGroup)


@pytest.mark.usefixtures("room")
def test_a_typo_is_answered_with_the_nearest_command() -> None:
    result = invoke("atc", "say")
    assert result.exit_code == 2
    assert "there is no command 'atc'; did you mean 'act'?" in result.stderr
    far = invoke("qqqqqq")
    assert "there is no command 'qqqqqq'; see `odonata --help`" in far.stderr


@pytest.mark.usefixtures("room")
def test_what_can_not_be_loaded_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOM_IS_BROKEN", "1")
    result = invoke("act", "say")
    assert result.exit_code == 2
    assert result.stderr == (
        "odonata: act (room_of_tests.command:act) can't be loaded: "
        "No module named 'a_package_that_nobody_has'; "
        "is an extra missing, such as odonata[manager]?\n"
    )


@pytest.mark.usefixtures("room")
def test_an_entry_point_that_names_nothing_is_an_error() -> None:
    assert "has no attribute 'lost'" in invoke("lost").stderr
    assert "entry point other = room_of_tests.command:not_a_command is no command" in (
        invoke("other").stderr
    )


def test_short_help_falls_back_to_the_module(room: Path) -> None:
    entries = found(GROUP)
    assert short_help(entries["other"]) == "A room of tests"
    (room / "room_of_tests" / "command.py").unlink()
    assert short_help(entries["act"]) == ""


# --- the installed command, in a process of its own -----------------------------------------------


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "from odonata.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environ},
    )


def test_version() -> None:
    done = run("--version")
    assert (done.stdout, done.returncode) == (f"odonata, version {__version__}\n", 0)


def test_help_imports_no_room_and_nothing_heavy() -> None:
    code = textwrap.dedent("""\
        import sys
        from odonata.cli import main
        try: main()
        finally:
            rooms = {"scheduler", "peer", "models", "simulator", "manager", "training"}
            heavy = {"pydantic", "grpc", "numpy", "structlog", "asyncio", "aiohttp", "yaml", "rich"}
            print("LOADED", sorted((rooms | heavy) & set(sys.modules)), file=sys.stderr)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "LOADED []" in done.stderr
    assert "config" in done.stdout


def test_a_reader_that_goes_away_is_no_error(room: Path) -> None:
    code = (
        "from odonata.cli import CommandGroup;"
        f"CommandGroup('odonata', entry_point_group='{GROUP}').main(['act', 'flood'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(room)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_ctrl_c_is_quiet(room: Path) -> None:
    code = (
        "from odonata.cli import CommandGroup;"
        f"CommandGroup('odonata', entry_point_group='{GROUP}').main(['act', 'flood'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(room)},
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert stderr == b"\n"
    assert process.returncode == 130
