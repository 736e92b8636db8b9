"""Runs and versions of the ranker in MLflow, and the way from there to the scheduler.

A training is a *run* (parameters, metrics, the data set's card and checksum, plots, and the bundle
itself as plain files) and a *version* of the registered model `parent-ranker`, whose source is the
folder of the bundle among the run's files. No flavour of MLflow is used: nothing is pickled, and
what the scheduler loads is byte for byte what was logged. Aliases say what a version is:

    challenger   the latest that was trained and not promoted
    champion     the one that serves
    last_good    the champion before it

**Promotion** takes its steps in an order in which a crash after any of them leaves a scheduler with
a checked model and a registry from which both `promote` (again) and `rollback` do the right thing:

    1. fetch the bundle and load it: a broken one is refused before anything has changed
    2. last_good := the champion       harmless: it is good, and still serves
    3. publish at the scheduler's place  one rename; from now on it serves
    4. champion := the version; it is no challenger any more

Were the champion renamed before the model is published, the registry would claim what is not so;
were last_good set last, a crash would leave a new champion with no way back. **Rollback** publishes
last_good and then makes it champion: after a crash between the two, doing it again completes it.

By default all of it is SQLite and files; a tracking server takes the same calls. MLflow takes one
to three seconds to import and start, so it is imported when it is used. It is told to send no usage
data, and the low-level client is used, which does not look for a git repository.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from models.bundle import BUNDLE_FILES, load_bundle, publish
from odonata.errors import (
    NotFoundError,
    PreconditionError,
    StorageError,
    UnavailableError,
    describe,
)
from odonata.redaction import redact_text

MODEL_NAME = "parent-ranker"
CHAMPION, CHALLENGER, LAST_GOOD = "champion", "challenger", "last_good"
ALIASES = (CHAMPION, CHALLENGER, LAST_GOOD)

BUNDLE_ARTIFACT = "bundle"
SQLITE = "sqlite:///"
ROLLED_BACK_TAG = "rolled_back"
BUNDLE_VERSION_TAG = "bundle_version"

VERSIONS_LISTED = 200
"""`odonata model ls` is for people; MLflow's own page shows all."""
PARAM_CHARS = 500
"""MLflow's older servers refuse longer values."""

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # no usage data
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a few small files
    "GIT_PYTHON_REFRESH": "quiet",  # should anything ask for git where there is none
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its 7 let a user wait for minutes
}
_NOISY_LOGGERS = ("mlflow", "alembic")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is kept of one training."""

    name: str
    """Also the version that its bundle has."""
    created_at_s: float
    params: Mapping[str, str | int | float | bool]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    bundle: Path
    """Folder with the bundle's files; others in it are not logged as its part."""
    files: Sequence[Path]
    """Logged beside it: cards, figures, plots."""
    data_digest: str
    data_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of the registered model."""

    number: int
    bundle_version: str
    run_id: str
    created_at_s: float
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What now serves, where, and what served before (None: nothing that is known of)."""

    version: Version
    published: Path
    before: Version | None


class Registry:
    """Runs and versions at one tracking URI. OdonataError where MLflow refuses."""

    def __init__(self, tracking_uri: str, *, name: str = MODEL_NAME) -> None:
        self.tracking_uri = tracking_uri
        self.name = name

    def log(self, experiment: str, record: RunRecord) -> Version:
        """Keep a training as a run, register its bundle as a version, and call it challenger."""
        load_bundle(record.bundle)
        with _translated(self.tracking_uri):
            run_id, artifact_uri = self._start(experiment, record)
            try:
                self._fill(run_id, record)
                version = self._register(run_id, f"{artifact_uri}/{BUNDLE_ARTIFACT}", record)
            except BaseException:
                self._client.set_terminated(run_id, status="FAILED")
                raise
            self._client.set_terminated(run_id)
            self._client.set_registered_model_alias(self.name, CHALLENGER, str(version))
        return self.find(str(version))

    def versions(self) -> list[Version]:
        """Versions, newest first; at most `VERSIONS_LISTED`."""
        with _translated(self.tracking_uri):
            aliases = self._aliases()
            found = self._client.search_model_versions(
                f"name = '{self.name}'",
                max_results=VERSIONS_LISTED,
                order_by=["version_number DESC"],
            )
            return [_version(version, aliases) for version in found]

    def find(self, which: str) -> Version:
        """A version by its number or alias. NotFoundError names what there is."""
        with _translated(self.tracking_uri):
            aliases = self._aliases()
            number = aliases.get(which) or (int(which) if which.isdecimal() else 0)
            found = number and self._get(number)
        if not found:
            have = ", ".join(f"{alias} = {number}" for alias, number in sorted(aliases.items()))
            raise NotFoundError(
                f"there is no version {which!r} of {self.name} at {redact_text(self.tracking_uri)} "
                f"({have or 'no aliases'}): `odonata model ls` lists them"
            )
        return _version(found, aliases)

    def fetch(self, version: Version, folder: Path) -> Path:
        """Bring the bundle of a version into `folder` and check it. BundleError, StorageError."""
        with _translated(self.tracking_uri):
            path: str = self._client.download_artifacts(
                version.run_id, BUNDLE_ARTIFACT, dst_path=str(folder)
            )
        bundle = Path(path)
        load_bundle(bundle)
        return bundle

    def promote(self, which: str, place: Path) -> Promotion:
        """Make a version the champion and let the scheduler that watches `place` have it.

        Doing it again is fine. NotFoundError; BundleError if its bundle does not load.
        """
        version = self.find(which)
        before = self._find(CHAMPION)
        with tempfile.TemporaryDirectory() as folder:
            fetched = self.fetch(version, Path(folder))
            if before is not None and before.number != version.number:
                self._set_alias(LAST_GOOD, before)
            published = publish(fetched, place)
        self._set_alias(CHAMPION, version)
        if CHALLENGER in version.aliases:
            self._drop_alias(CHALLENGER)
        self._tag(version, ROLLED_BACK_TAG, "false")
        return Promotion(version=self.find(str(version.number)), published=published, before=before)

    def rollback(self, place: Path) -> Promotion:
        """Publish last_good and make it the champion again.

        PreconditionError if there is none; BundleError if its bundle does not load.
        """
        before = self._find(CHAMPION)
        version = self._find(LAST_GOOD)
        if version is None:
            raise PreconditionError(
                f"{self.name} has no {LAST_GOOD}: nothing was promoted before the champion. "
                "Remove the scheduler's `current` link to let the rule rank"
            )
        with tempfile.TemporaryDirectory() as folder:
            published = publish(self.fetch(version, Path(folder)), place)
        self._set_alias(CHAMPION, version)
        if before is not None and before.number != version.number:
            self._tag(before, ROLLED_BACK_TAG, "true")
        return Promotion(version=self.find(str(version.number)), published=published, before=before)

    # --- MLflow ---------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> Any:
        """MLflow's client. Its types are partial, so it is used as Any, and only in this class."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        database = database_path(self.tracking_uri)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
        for logger in _NOISY_LOGGERS:
            logging.getLogger(logger).setLevel(logging.WARNING)
        tracking: Any = import_module("mlflow.tracking")
        for logger in _NOISY_LOGGERS:  # its import sets them up anew
            logging.getLogger(logger).setLevel(logging.WARNING)
        return tracking.MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    def _start(self, experiment: str, record: RunRecord) -> tuple[str, str]:
        found = self._client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else self._create_experiment(experiment)
        run = self._client.create_run(experiment_id, run_name=record.name, tags=dict(record.tags))
        return str(run.info.run_id), str(run.info.artifact_uri)

    def _create_experiment(self, name: str) -> str:
        """Beside the database if that is a file: MLflow's own default is the working folder."""
        database = database_path(self.tracking_uri)
        location = None if database is None else (database.parent / "artifacts").as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _fill(self, run_id: str, record: RunRecord) -> None:
        entities: Any = import_module("mlflow.entities")
        params = [
            entities.Param(name, str(value)[:PARAM_CHARS]) for name, value in record.params.items()
        ]
        metrics = [
            entities.Metric(name, value, int(record.created_at_s * 1000), 0)
            for name, value in sorted(record.metrics.items())
        ]
        self._client.log_batch(run_id, params=params, metrics=metrics)
        dataset = entities.Dataset(
            name="rows",
            digest=record.data_digest[:36],  # MLflow's limit
            source_type="local",
            source=record.data_source,
        )
        self._client.log_inputs(run_id, [entities.DatasetInput(dataset=dataset, tags=[])])
        for file in BUNDLE_FILES:
            self._client.log_artifact(run_id, str(record.bundle / file), BUNDLE_ARTIFACT)
        for path in record.files:
            self._client.log_artifact(run_id, str(path))

    def _register(self, run_id: str, source: str, record: RunRecord) -> int:
        if self._registered() is None:
            about = "Ranks the candidates of a scheduling decision"
            self._client.create_registered_model(self.name, description=about)
        tags = {**record.tags, BUNDLE_VERSION_TAG: record.name}
        version = self._client.create_model_version(
            self.name, source=source, run_id=run_id, tags=tags, description=record.tags.get("gate")
        )
        return int(version.version)

    def _registered(self) -> Any:
        found = self._client.search_registered_models(f"name = '{self.name}'", max_results=1)
        return found[0] if found else None

    def _aliases(self) -> dict[str, int]:
        registered = self._registered()
        aliases = {} if registered is None else dict(registered.aliases)
        return {str(alias): int(number) for alias, number in aliases.items()}

    def _get(self, number: int) -> Any:
        mlflow_errors: Any = import_module("mlflow.exceptions")
        try:
            return self._client.get_model_version(self.name, str(number))
        except mlflow_errors.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _find(self, alias: str) -> Version | None:
        try:
            return self.find(alias)
        except NotFoundError:
            return None

    def _set_alias(self, alias: str, version: Version) -> None:
        with _translated(self.tracking_uri):
            self._client.set_registered_model_alias(self.name, alias, str(version.number))

    def _drop_alias(self, alias: str) -> None:
        with _translated(self.tracking_uri):
            self._client.delete_registered_model_alias(self.name, alias)

    def _tag(self, version: Version, name: str, value: str) -> None:
        with _translated(self.tracking_uri):
            self._client.set_model_version_tag(self.name, str(version.number), name, value)


def database_path(tracking_uri: str) -> Path | None:
    """The file of an SQLite tracking URI; None for any other."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(tracking_uri.removeprefix(SQLITE)).absolute()


def _version(found: Any, aliases: Mapping[str, int]) -> Version:
    number = int(found.version)
    tags = {str(name): str(value) for name, value in dict(found.tags).items()}
    return Version(
        number=number,
        bundle_version=tags.get(BUNDLE_VERSION_TAG, ""),
        run_id=str(found.run_id or ""),
        created_at_s=float(found.creation_timestamp) / 1000,
        aliases=tuple(alias for alias in ALIASES if aliases.get(alias) == number),
        tags=tags,
        description=str(found.description or ""),
    )


@contextmanager
def _translated(tracking_uri: str) -> Generator[None]:
    """MLflow's errors as ours: it can't be reached, or its database or files can't be used."""
    mlflow_errors: Any = import_module("mlflow.exceptions")
    database_errors: Any = import_module("sqlalchemy.exc")
    try:
        yield
    except (mlflow_errors.MlflowException, database_errors.SQLAlchemyError, OSError) as error:
        where = redact_text(tracking_uri)
        what = redact_text(describe(error))
        if database_path(tracking_uri) is None:
            raise UnavailableError(f"MLflow at {where}: {what}") from error
        raise StorageError(f"MLflow's files at {where}: {what}") from error
