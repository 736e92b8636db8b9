"""What a serving process imports: a peer or a scheduler must start without the learning stack."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Distributions that may turn up in a serving process, with what brings them.
ALLOWED = {
    # aiohttp and what it needs
    "aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "attrs", "frozenlist", "multidict",
    "propcache", "yarl", "idna",
    # settings
    "annotated_types", "pydantic", "pydantic_core", "typing_inspection",
    "dotenv",
    "click", "rich", "pygments", "markdown_it", "mdurl",  # command line
    "dragonfly_api", "google", "grpc", "grpc_health", "grpc_reflection",  # the wires
    "blake3", "h11", "hpack", "isal", "msgspec", "numpy", "prometheus_client", "structlog",
    "typing_extensions", "re2", "uvloop", "yaml", "_yaml",
    "cryptography",  # certificates of intercepted hosts
    "odonata", "scheduler", "peer", "models",
}  # fmt: skip
NEVER = {
    "lightgbm",
    "mlflow",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "matplotlib",
    "sqlalchemy",
    "IPython",
}

PROBE = """
import sys
before = set(sys.modules)
import {module}
print("\\n".join(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


@pytest.mark.parametrize("module", ["scheduler.runtime.app", "peer.runtime.daemon"])
def test_serving_process_imports_only_what_it_serves_with(module: str) -> None:
    probe = [sys.executable, "-c", PROBE.format(module=module)]
    run = subprocess.run(probe, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    third_party = {
        name
        for name in run.stdout.split()
        if name not in sys.stdlib_module_names and not name.startswith(("_", "cython"))
    }
    assert not third_party & NEVER
    assert third_party <= ALLOWED, f"new in a serving process: {sorted(third_party - ALLOWED)}"
    own = {"scheduler", "peer", "models", "training", "simulator", "manager"} & third_party
    assert own <= {module.partition(".")[0], "models"}


def test_peer_needs_no_numpy() -> None:
    probe = [sys.executable, "-c", PROBE.format(module="peer.runtime.daemon")]
    run = subprocess.run(probe, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "numpy" not in run.stdout.split()


def test_learning_stack_is_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert {"train", "manager", "notebooks", "dev"} <= set(extras)
    base = " ".join(project["dependencies"])
    assert not any(name in base for name in ("lightgbm", "mlflow", "pandas", "scikit-learn"))
    locked = (ROOT / "deploy/locks/run.txt").read_text()
    assert not any(f"\n{name}==" in locked for name in ("lightgbm", "mlflow", "pandas", "scipy"))
