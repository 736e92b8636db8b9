"""Where runs are kept and where the scheduler looks, by option, environment and default."""

from __future__ import annotations

from pathlib import Path

from training.settings import model_place, tracking_uri

USER = 1000


def test_tracking_uri_is_the_option_else_the_environment_else_files() -> None:
    environ = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "XDG_STATE_HOME": "/state"}
    assert tracking_uri("sqlite:////x.db", environ, USER) == "sqlite:////x.db"
    assert tracking_uri(None, environ, USER) == "http://127.0.0.1:5000"
    del environ["MLFLOW_TRACKING_URI"]
    assert tracking_uri(None, environ, USER) == "sqlite:////state/odonata/mlflow/mlflow.db"
    assert tracking_uri(None, {}, 0) == "sqlite:////var/lib/odonata/mlflow/mlflow.db"


def test_place_is_the_one_the_scheduler_watches(tmp_path: Path) -> None:
    assert model_place(Path("/here"), {}) == Path("/here")
    assert model_place(None, {"ODONATA_MODEL__DIR": "/there"}) == Path("/there")
    config = tmp_path / "scheduler.yaml"
    config.write_text("model:\n  dir: /configured\n")
    assert model_place(None, {}, config=config) == Path("/configured")
    assert model_place(None, {"XDG_STATE_HOME": "/state"}).name == "parent-ranker"
