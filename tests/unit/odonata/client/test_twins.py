"""The client with asyncio and the one without offer the same, by the same names."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from odonata.client import AsyncClient, Client
from odonata.client.link import run_blocking


def public(kind: type[Any]) -> dict[str, Any]:
    return {
        name: member
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_have_the_same_methods() -> None:
    assert public(AsyncClient).keys() == public(Client).keys()


@pytest.mark.parametrize("name", public(Client))
def test_a_method_takes_the_same_and_says_the_same(name: str) -> None:
    one, other = public(AsyncClient)[name], public(Client)[name]
    assert inspect.signature(one).parameters == inspect.signature(other).parameters
    assert inspect.getdoc(one) == inspect.getdoc(other)


@pytest.mark.parametrize("name", public(Client))
def test_a_method_of_the_blocking_one_is_none_to_await(name: str) -> None:
    assert not inspect.iscoroutinefunction(public(Client)[name])


def test_a_coroutine_that_waits_is_no_blocking_call() -> None:
    with pytest.raises(AssertionError, match="event loop"):
        run_blocking(asyncio.sleep(0))
