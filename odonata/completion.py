"""`odonata completion`: the script by which a shell completes commands and options of `odonata`.

click writes it; at each TAB the shell asks `odonata` itself, so that it never goes stale. Only
commands that are named are imported for it.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_PROGRAM = "odonata"
COMPLETE_VARIABLE = "_ODONATA_COMPLETE"
"""Through which the script asks; click's own rule for a program of this name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `odonata` in a shell.

    bash: put `eval "$(odonata completion bash)"` into ~/.bashrc (bash 4.4 or newer). zsh: the same
    with zsh in ~/.zshrc, after compinit. fish: odonata completion fish >
    ~/.config/fish/completions/odonata.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click has the three of them"
    root = click.get_current_context().find_root().command
    script = kind(root, {}, _PROGRAM, COMPLETE_VARIABLE)
    # Not `source()`, which for bash starts one to look at its version: nothing is spawned here.
    click.echo(script.source_template % script.source_vars())
