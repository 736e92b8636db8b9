"""The sources of the production packages, and the log calls in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("odonata", "scheduler", "peer", "models", "training", "simulator", "manager")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
_LOGGER = re.compile(r"(^|[._])(log|logger)$")


def log_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls such as `_log.info(...)`, `self._logger.bind(...)`, `get_logger().error(...)`."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in {*METHODS, "bind"}:
            continue
        receiver = node.func.value
        called = isinstance(receiver, ast.Call)
        name = ast.unparse(receiver.func if isinstance(receiver, ast.Call) else receiver)
        if (called and name.endswith(("get_logger", ".bind"))) or _LOGGER.search(name):
            yield node
