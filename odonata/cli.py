"""The `odonata` command: finds its subcommands, turns errors into one message and an exit code.

Subcommands are entry points of the group `odonata.commands`; each lives in the room that does the
work and is imported only when it is called. `odonata --help` imports none of them: the short help
of a command is the first sentence of its docstring, read from its source. What every program shares
on its command line is `settings_options`.

With --json on the command line errors are JSON, too: {"error": {"code", "detail", "retryable"}}, an
object for each error, on a line of stderr.

Exit codes: 0 done; 1 failed; 2 the caller must change something (arguments, settings); 130
interrupted; 141 the reader of our output went away.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import click

from odonata import __version__
from odonata.errors import OdonataError, SettingsError

if TYPE_CHECKING:
    from odonata.settings.loading import Loaded
    from odonata.settings.log import ProgramSettings

COMMANDS = "odonata.commands"
JSON_FLAG = "--json"
USAGE_CODE = "usage"
"""What an error of the command line itself is called: `odonata.errors` has no class for it."""
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

SettingsT = TypeVar("SettingsT", bound="ProgramSettings")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class CommandGroup(click.Group):
    """Subcommands by entry point, imported when they are called."""

    def __init__(self, *args: Any, entry_point_group: str = COMMANDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entry_point_group = entry_point_group

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(found(self._entry_point_group))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = found(self._entry_point_group).get(cmd_name)
        if entry is None:
            return None
        command = load_entry(entry)
        if not isinstance(command, click.Command):
            raise SettingsError(f"entry point {entry.name} = {entry.value} is no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"see `{ctx.command_path} --help`"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        entries = sorted(found(self._entry_point_group).items())
        if entries:
            with formatter.section("Commands"):
                formatter.write_dl([(name, short_help(entry)) for name, entry in entries])

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but before click makes of a closed pipe what it thinks fit."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _forget_stdout()
            raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, with our own errors and exit codes."""
        words = sys.argv[1:] if args is None else list(args)

        def run() -> Any:
            return super(CommandGroup, self).main(
                args, prog_name, complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return run()
        sys.exit(_exit_code(run, as_json=JSON_FLAG in words))


def found(group: str) -> dict[str, EntryPoint]:
    """The installed entry points of a group by name; Odonata's own win over those of others."""
    entries = sorted(
        entry_points(group=group),
        key=lambda entry: entry.dist is not None and entry.dist.name == "odonata",
    )
    return {entry.name: entry for entry in entries}


def load_entry(entry: EntryPoint) -> Any:
    """What the entry point names. Errors: SettingsError if it or a need of it is not installed."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"{entry.name} ({entry.value}) can't be loaded: {error}; "
            "is an extra missing, such as odonata[manager]?"
        ) from error


def short_help(entry: EntryPoint) -> str:
    """First sentence of the docstring behind an entry point, without importing it."""
    source = _source(entry.module)
    if source is None:
        return ""
    module = ast.parse(source)
    documented: ast.Module | ast.FunctionDef = module
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            documented = node
    first_line = (ast.get_docstring(documented) or "").partition("\n\n")[0].replace("\n", " ")
    return first_line.partition(". ")[0].rstrip(".")


def _source(module: str) -> str | None:
    """The text of a module. Only its top package is looked up, so that nothing is imported."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    for location in spec.submodule_search_locations:
        with contextlib.suppress(OSError):
            return Path(location, *rest).with_suffix(".py").read_text(encoding="utf-8")
    return None


def _exit_code(run: Callable[[], Any], *, as_json: bool) -> int:
    try:
        code = run()
        sys.stdout.flush()
    except click.ClickException as error:
        if as_json:
            _say_as_json(USAGE_CODE, error.format_message(), retryable=False)
        else:
            error.show()
        return error.exit_code
    except OdonataError as error:
        return _report([error], as_json=as_json)
    except BaseExceptionGroup as group:
        errors = _own_errors(group)
        if errors is None:
            raise
        return _report(errors, as_json=as_json)
    except BrokenPipeError:
        _forget_stdout()
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, click.exceptions.Abort):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def _report(errors: Sequence[OdonataError], *, as_json: bool) -> int:
    for detail, error in {error.detail: error for error in errors}.items():
        if as_json:
            _say_as_json(error.code, detail, retryable=error.retryable)
            continue
        for line in detail.splitlines():
            click.echo(f"odonata: {line}", err=True)
    return max(error.exit_code for error in errors)


def _say_as_json(code: str, detail: str, *, retryable: bool) -> None:
    """One object on one line of stderr, for who asked with --json."""
    error = {"code": code, "detail": detail, "retryable": retryable}
    click.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)


def print_json(value: object) -> None:
    """`value` (msgspec's structs, mappings, sequences, plain values) on stdout, for machines."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _own_errors(group: BaseExceptionGroup[BaseException]) -> list[OdonataError] | None:
    """All errors of a group if each is one of ours; None if one deserves its traceback."""
    errors: list[OdonataError] = []
    for error in group.exceptions:
        if isinstance(error, OdonataError):
            errors.append(error)
        elif isinstance(error, BaseExceptionGroup):
            # The isinstance loses what the group is made of.
            inner = _own_errors(cast("BaseExceptionGroup[BaseException]", error))
            if inner is None:
                return None
            errors += inner
        else:
            return None
    return errors


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere: nobody reads any more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@dataclass(frozen=True, slots=True)
class SettingsOptions:
    """What the user said about settings on the command line."""

    config: Path | None = None
    overrides: Mapping[str, Any] | None = None

    def read(
        self, model: type[SettingsT], overrides: Mapping[str, Any] | None = None
    ) -> Loaded[SettingsT]:
        """The settings, with this process's environment.

        `overrides` are the command's own flags, by dotted key; None says nothing. Errors:
        SettingsError.
        """
        from odonata.settings.loading import load

        own = {key: value for key, value in (overrides or {}).items() if value is not None}
        merged = {**(self.overrides or {}), **own}
        return load(model, file=self.config, overrides=merged, environ=os.environ)

    def apply(
        self, model: type[SettingsT], overrides: Mapping[str, Any] | None = None
    ) -> SettingsT:
        """Read the settings, set up logging after them, and say what has no effect."""
        import structlog

        from odonata import logs

        loaded = self.read(model, overrides)
        logs.configure(loaded.settings.log, program=model.program)
        logger = structlog.get_logger(__name__)
        for warning in loaded.warnings:
            logger.warning("setting_ignored", setting=warning)
        return loaded.settings


def settings_options(function: _Function) -> _Function:
    """Decorator: -c/--config, --set, --log-level, --log-format; the command gets `options`."""

    @click.option(
        "-c", "--config", type=click.Path(path_type=Path), envvar="ODONATA_CONFIG",
        help="YAML file with settings. Default: none, or $ODONATA_CONFIG.",
    )  # fmt: skip
    @click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE",
        help="One setting, such as proxy.server.port=65001. May be repeated.",
    )  # fmt: skip
    @click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
        help="Least important events that are logged.",
    )  # fmt: skip
    @click.option(
        "--log-format", type=click.Choice(["console", "json"]),
        help="For people, or one JSON object on each line.",
    )  # fmt: skip
    @wraps(function)
    def command(
        *args: Any,
        config: Path | None,
        assignments: tuple[str, ...],
        log_level: str | None,
        log_format: str | None,
        **kwargs: Any,
    ) -> Any:
        overrides: dict[str, Any] = dict(_assignment(text) for text in assignments)
        flags = {"log.level": log_level, "log.format": log_format}
        overrides |= {key: value for key, value in flags.items() if value is not None}
        options = SettingsOptions(config=config, overrides=overrides)
        return function(*args, options=options, **kwargs)

    return command  # type: ignore[return-value]  # click calls it by its options


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SettingsError("--set needs KEY=VALUE, such as --set proxy.server.port=65001")
    return key.strip(), value.strip()


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="odonata")
def root() -> None:
    """Distribute container images, models and files from peer to peer."""


def main() -> NoReturn:
    """The console script."""
    root.main(prog_name="odonata")
    raise AssertionError("click ends the process")
