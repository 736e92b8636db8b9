"""`odonata train`, `odonata evaluate` and `odonata model`: options in, tables out; no work here.

What is heavy (pandas, LightGBM, MLflow) is imported when a command runs, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from odonata.errors import NotFoundError, PreconditionError
from odonata.invocation import command

if TYPE_CHECKING:
    from models.learned import LearnedModel
    from training.pipeline import Tell, Trained
    from training.registry import Promotion, Registry, Version

FOLDER = click.Path(path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
tracking_option = click.option(
    "--tracking-uri",
    metavar="URI",
    help="MLflow's runs and registry. Default: $MLFLOW_TRACKING_URI, else SQLite and files in the "
    "state folder.",
)
place_option = click.option(
    "--place",
    type=FOLDER,
    help="Folder that the scheduler watches. Default: model.dir of its settings.",
)
config_option = click.option(
    "-c", "--config", type=FOLDER, help="The scheduler's YAML file, to find its model.dir."
)


@click.command()
@click.argument("dataset", type=FOLDER)
@click.option("--seed", default=1, show_default=True, help="Same rows, same seed: same model.")
@click.option("--experiment", default="parent-ranker", show_default=True, help="Name in MLflow.")
@tracking_option
@click.option("--out", type=FOLDER, help="Keep bundle, card, figures and plots here too.")
@click.option("--promote", "wants_promotion", is_flag=True, help="Let the scheduler have it.")
@click.option("--force", is_flag=True, help="Promote it even if it is worse than the rule.")
@place_option
@config_option
@json_option
def train(
    dataset: Path,
    seed: int,
    experiment: str,
    tracking_uri: str | None,
    out: Path | None,
    wants_promotion: bool,
    force: bool,
    place: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Fit a ranker on a data set, judge it, and keep it in MLflow.

    It is judged where it has not learned: on the newest decisions and on held-out hosts, against
    dragonfly, rule, random and a linear model. --promote takes only what is not worse than the
    rule there.
    """
    from odonata.redaction import redact_text
    from training.fit import FitConfig
    from training.pipeline import plain, run_record
    from training.pipeline import train as train_on
    from training.rows import load

    registry = _registry(tracking_uri)
    target = _place(place, config) if wants_promotion else None
    with contextlib.ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with _stages() as tell:
            tell("reading the data set")
            data = load(dataset)
            trained = train_on(
                data,
                FitConfig(seed=seed),
                folder,
                created_at_s=time.time(),
                command=redact_text(shlex.join(["odonata", *sys.argv[1:]])),
                tell=tell,
            )
            tell("keeping it in MLflow")
            version = registry.log(experiment, run_record(trained, data, str(dataset)))
        if not as_json:
            _show_training(trained, version, registry, out)
        promotion = None
        if target is not None and (trained.gate.is_open or force):
            promotion = registry.promote(str(version.number), target)
    if as_json:
        promoted = promotion is not None
        found = plain(trained) | {"folder": str(out or ""), "promoted": promoted}
        click.echo(json.dumps(found | {"model": _plain_version(version)}))
    elif promotion is not None:
        _say_promotion(promotion)
    if target is not None and promotion is None:
        raise PreconditionError(
            f"not promoted: {trained.gate.reason}; --force promotes it nevertheless"
        )


@click.command()
@click.argument("dataset", type=FOLDER)
@click.option(
    "--model", "which", default="champion", show_default=True, metavar="DIR|VERSION|ALIAS",
    help="A bundle's folder, or a version or alias in the registry.",
)  # fmt: skip
@tracking_option
@click.option("--plots", type=FOLDER, help="Save pictures in this folder.")
@click.option("--seed", default=0, show_default=True, help="Of ties, and of what is drawn.")
@json_option
def evaluate(
    dataset: Path,
    which: str,
    tracking_uri: str | None,
    plots: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Judge a finished model on a data set, beside dragonfly, rule and random.

    The data should be newer than the model: of rows it has learned from it knows the answers.
    """
    from rich.console import Console

    from models.learned import LearnedRanker
    from training.card import as_plain
    from training.evaluate import LEARNED, rules
    from training.evaluate import evaluate as evaluate_on
    from training.pipeline import judged_before
    from training.plot import save_plots
    from training.report import render
    from training.rows import load

    with _stages() as tell:
        tell("reading the data set")
        data = load(dataset)
        tell("loading the model")
        model = _model(which, tracking_uri)
        tell("judging")
        rankers = {**rules(), LEARNED: LearnedRanker(model)}
        evaluation = evaluate_on(data.frame, rankers, seed=seed)
        saved = save_plots(evaluation, plots) if plots is not None else []
    warnings = judged_before(model.manifest, data)
    if as_json:
        found = {"model": model.version, "warnings": list(warnings), **as_plain(evaluation)}
        click.echo(json.dumps(found))
        return
    click.echo(f"model {model.version} on {data.card.decision_count:,} decisions")
    Console().print(render(evaluation))
    for line in (*warnings, *(f"plot: {path}" for path in saved)):
        click.echo(line)


@click.group()
def model() -> None:
    """Look at trained rankers, and choose which one serves."""


@model.command("ls")
@tracking_option
@json_option
def list_versions(tracking_uri: str | None, as_json: bool) -> None:
    """List the versions of the ranker, newest first."""
    from rich.console import Console

    versions = _registry(tracking_uri).versions()
    if as_json:
        click.echo(json.dumps([_plain_version(version) for version in versions]))
    elif versions:
        Console().print(_version_table(versions))
    else:
        click.echo(f"no version yet: `{command('odonata')} train DATASET` makes one")


@model.command()
@click.argument("which", default="champion", metavar="[VERSION|ALIAS]")
@tracking_option
@json_option
def show(which: str, tracking_uri: str | None, as_json: bool) -> None:
    """Show what is known of one version: its card. Default: the champion."""
    from rich.console import Console
    from rich.table import Table

    registry = _registry(tracking_uri)
    version = registry.find(which)
    with tempfile.TemporaryDirectory() as folder:
        manifest = _manifest(registry, version, Path(folder))
    if as_json:
        click.echo(json.dumps(_plain_version(version) | {"card": manifest.card}))
        return
    table = Table(title=f"version {version.number}", title_justify="left", show_header=False)
    known = {**_plain_version(version), **version.tags, **manifest.card}
    lines = {name: value for name, value in known.items() if name != "tags"}
    for name, value in lines.items():
        table.add_row(name, ", ".join(version.aliases) if name == "aliases" else str(value))
    Console().print(table)


@model.command()
@click.argument("which", metavar="VERSION|ALIAS")
@tracking_option
@place_option
@config_option
@json_option
def promote(
    which: str, tracking_uri: str | None, place: Path | None, config: Path | None, as_json: bool
) -> None:
    """Make a version the champion and publish it for the scheduler."""
    promotion = _registry(tracking_uri).promote(which, _place(place, config))
    _tell_promotion(promotion, as_json=as_json)


@model.command()
@tracking_option
@place_option
@config_option
@json_option
def rollback(
    tracking_uri: str | None, place: Path | None, config: Path | None, as_json: bool
) -> None:
    """Go back to the champion before this one, and publish it."""
    promotion = _registry(tracking_uri).rollback(_place(place, config))
    _tell_promotion(promotion, as_json=as_json)


# --- what commands share ------------------------------------------------------------------------


def _registry(option: str | None) -> Registry:
    from training.registry import Registry
    from training.settings import tracking_uri

    return Registry(tracking_uri(option, os.environ, os.geteuid()))


def _place(option: Path | None, config: Path | None) -> Path:
    from training.settings import model_place

    return model_place(option, os.environ, config=config)


def _model(which: str, tracking_uri: str | None) -> LearnedModel:
    """A bundle's folder if there is one of that name, else a version or alias."""
    from models.bundle import load_bundle

    if Path(which).is_dir():
        return load_bundle(Path(which))
    if os.sep in which:
        raise NotFoundError(f"{which}: there is no such folder; --model names one with a bundle")
    registry = _registry(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        return load_bundle(registry.fetch(registry.find(which), Path(folder)))


def _manifest(registry: Registry, version: Version, folder: Path) -> Any:
    from models.bundle import read_manifest

    return read_manifest(registry.fetch(version, folder))


@contextlib.contextmanager
def _stages() -> Generator[Tell]:
    """What is being done, on standard error, gone when it is done."""
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda stage: status.update(f"{stage} ...")


def _show_training(
    trained: Trained, version: Version, registry: Registry, out: Path | None
) -> None:
    from rich.console import Console

    from odonata.redaction import redact_text
    from training.report import render

    fitted = trained.fitted
    Console().print(render(trained.evaluation))
    click.echo(
        f"fitted on {fitted.decisions:,} decisions, {fitted.parents:,} labelled parents "
        f"({fitted.failed:,} failed): {fitted.size.trees} trees of {fitted.size.leaves} leaves"
    )
    click.echo(f"gate: {trained.gate.reason}")
    where = redact_text(registry.tracking_uri)
    click.echo(f"version {version.number} ({version.bundle_version}), challenger, at {where}")
    click.echo(f"look at it: {command('mlflow')} ui --backend-store-uri {shlex.quote(where)}")
    if out is not None:
        click.echo(f"bundle, card, figures and plots: {out}")


def _version_table(versions: list[Version]) -> Any:
    from datetime import UTC, datetime

    from rich.table import Table

    table = Table()
    for name in ("version", "aliases", "trained (UTC)", "bundle", "gate"):
        table.add_column(name, overflow="fold")
    for version in versions:
        moment = datetime.fromtimestamp(version.created_at_s, UTC)
        rolled_back = version.tags.get("rolled_back") == "true"
        aliases = (*version.aliases, *(("rolled back",) if rolled_back else ()))
        table.add_row(
            str(version.number),
            ", ".join(aliases),
            moment.strftime("%Y-%m-%d %H:%M:%S"),
            version.bundle_version,
            _GATE_WORDS.get(version.tags.get("gate_open", ""), ""),
        )
    return table


_GATE_WORDS = {"true": "not worse than the rule", "false": "worse than the rule"}


def _tell_promotion(promotion: Promotion, *, as_json: bool) -> None:
    if not as_json:
        _say_promotion(promotion)
        return
    before = None if promotion.before is None else _plain_version(promotion.before)
    found = {"model": _plain_version(promotion.version), "before": before}
    click.echo(json.dumps(found | {"published": str(promotion.published)}))


def _say_promotion(promotion: Promotion) -> None:
    before = promotion.before
    change = "the rule served before"
    if before is not None and before.number == promotion.version.number:
        change = "it was the champion already"
    elif before is not None:
        change = f"version {before.number} before"
    version = promotion.version
    click.echo(f"champion is version {version.number} ({version.bundle_version}); {change}")
    click.echo(f"published: {promotion.published}")


def _plain_version(version: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "bundle_version": version.bundle_version,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
        "created_at_s": version.created_at_s,
        "tags": dict(version.tags),
    }
