"""The client with asyncio and the one without offer the same, by the same names."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from odonata.client import AsyncClient, Client


def public(kind: type[Any]) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }


def test_both_have_the_same_methods() -> None:
    assert public(AsyncClient).keys() == public(Client).keys()


@pytest.mark.parametrize("name", public(Client))
def test_a_method_takes_the_same_and_says_the_same(name: str) -> None:
    one, other = public(AsyncClient)[name], public(Client)[name]
    assert inspect.signature(one).parameters == inspect.signature(other).parameters
    assert inspect.getdoc(one) == inspect.getdoc(other)
