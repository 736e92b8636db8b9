"""Where training keeps its runs, and where the scheduler looks for a model.

Runs and the registry: `--tracking-uri`, else $MLFLOW_TRACKING_URI, else SQLite and files in the
folder `mlflow` below the state folder. The scheduler's place: `--place`, else what the settings of
`odonata scheduler` say (`model.dir`, also by environment). Nothing is made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from odonata.settings import load
from odonata.settings.place import state_dir
from scheduler.settings import SchedulerSettings

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE_FILE = "mlflow.db"


def tracking_uri(option: str | None, environ: Mapping[str, str], uid: int) -> str:
    """MLflow's address of runs and registry."""
    default = state_dir(environ, uid) / "mlflow" / DATABASE_FILE
    return option or environ.get(TRACKING_VARIABLE) or f"sqlite:///{default}"


def model_place(
    option: Path | None, environ: Mapping[str, str], *, config: Path | None = None
) -> Path:
    """The folder that the scheduler of this machine and user watches. SettingsError.

    `config`: the scheduler's YAML file, if it has one.
    """
    if option is not None:
        return option
    return load(SchedulerSettings, file=config, environ=environ).settings.model.dir
