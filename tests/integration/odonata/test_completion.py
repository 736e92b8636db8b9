"""The scripts of `odonata completion`, in the shells that are here; bash is everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import environment

PROGRAM = str(Path(sys.executable).with_name("odonata"))


def complete_in_bash(script: Path, *words: str) -> set[str]:
    """What bash's TAB offers after `odonata WORDS`, by the function that the script registers."""
    asked = " ".join(("odonata", *words))
    text = f"""
set -e
source {script}
registered=$(complete -p odonata)
[[ $registered == *"-F _odonata_completion odonata" ]]
COMP_WORDS=({asked.rstrip()}{" ''" if asked.endswith(" ") else ""})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_odonata_completion odonata
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    # As a user has it: the program on the PATH.
    folder = str(Path(PROGRAM).parent)
    found = environment() | {"PATH": f"{folder}:{os.environ['PATH']}"}
    run = subprocess.run(
        ["bash", "--norc", "-c", text], capture_output=True, text=True, check=False, env=found
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def written_by(shell: str, **variables: str) -> str:
    run = subprocess.run(
        [PROGRAM, "completion", shell],
        capture_output=True,
        text=True,
        check=False,
        env=environment() | variables,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.fixture
def bash_script(tmp_path: Path) -> Path:
    script = tmp_path / "odonata.bash"
    script.write_text(written_by("bash"))
    return script


def test_bash_completes_commands_options_and_choices(bash_script: Path) -> None:
    assert {"task", "telemetry", "train"} <= complete_in_bash(bash_script, "t")
    assert complete_in_bash(bash_script, "task", "") == {"id", "ls", "preheat", "rm", "stat"}
    assert complete_in_bash(bash_script, "task", "stat", "--ev") == {"--everywhere"}
    assert complete_in_bash(bash_script, "completion", "") == {"bash", "zsh", "fish"}
    assert complete_in_bash(bash_script, "task", "preheat", "i") == {"image"}


@pytest.mark.parametrize(
    ("shell", "registers"),
    [("zsh", "compdef _odonata_completion odonata"), ("fish", "complete --no-files --command")],
)
def test_the_other_shells_get_their_own(shell: str, registers: str, tmp_path: Path) -> None:
    script = written_by(shell)
    assert registers in script
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_nothing_is_spawned_for_it() -> None:
    """click would start a bash to look at its version."""
    assert "_odonata_completion" in written_by("bash", PATH="/nowhere")
