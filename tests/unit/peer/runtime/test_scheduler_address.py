"""Names of schedulers become the literals that the hash ring needs."""

from __future__ import annotations

import pytest

from odonata.errors import UnavailableError
from odonata.ring import Address
from peer.runtime.host_info import find_ip
from peer.runtime.scheduler_address import resolve


async def test_literals_stay_and_doubles_go() -> None:
    found = await resolve(["127.0.0.2:8002", "127.0.0.1:8002", "127.0.0.1:8002", "[::1]:8002"])
    assert found == (
        Address(ip="127.0.0.1", port=8002),
        Address(ip="127.0.0.2", port=8002),
        Address(ip="::1", port=8002),
    )


async def test_a_name_is_its_ipv4_addresses() -> None:
    assert await resolve(["localhost:8002"]) == (Address(ip="127.0.0.1", port=8002),)


async def test_an_unknown_name_is_left_out_unless_it_is_the_only_one() -> None:
    unknown = "no-such-host.invalid:8002"
    assert await resolve([unknown, "127.0.0.1:1"]) == (Address(ip="127.0.0.1", port=1),)
    with pytest.raises(UnavailableError, match=r"no-such-host\.invalid"):
        await resolve([unknown])
    assert await resolve([]) == ()


def test_the_address_that_faces_the_scheduler_is_ours() -> None:
    assert find_ip(["127.0.0.1:8002"]) == "127.0.0.1"
    assert find_ip([]).count(".") == 3
