"""Which parents a child of a persistent task gets."""

import pytest
from support.persistent_world import PersistentWorld

from scheduler.core.persistent.effect import Answer, Parents
from scheduler.core.persistent.parent import score
from scheduler.core.persistent.state import Kind, PeerHost


def home(idc: str, location: str) -> PeerHost:
    return PeerHost(id="h", ip="10.0.0.1", port=1, idc=idc, location=location)


@pytest.mark.parametrize(
    ("idc", "location", "wanted"),
    [
        ("A", "eu|de|b", 1.0),
        ("a", "us", 0.7),
        ("b", "EU|DE|B", 0.3),
        ("b", "eu|de|x", 0.3 * 2 / 5),
        ("", "", 0.0),
    ],
)
def test_the_score_is_dragonflys(idc: str, location: str, wanted: float) -> None:
    assert score(home("a", "eu|de|b"), home(idc, location)) == pytest.approx(wanted)


def test_equal_parents_share_the_children() -> None:
    world = PersistentWorld(Kind.PERSISTENT_CACHE, parent_limit=1)
    for number in range(4):
        world.announce(f"h{number}")
    world.upload("p0", "h0")
    world.download("p1", "h1")
    world.download("p2", "h2")
    first: list[str] = []
    for number in range(30):
        world.announce(f"child{number}")
        (answer,) = world.register(f"c{number}", f"child{number}")
        assert isinstance(answer, Answer)
        assert isinstance(answer.answer, Parents)
        first.append(answer.answer.peers[0].id)
    assert {name: first.count(name) > 4 for name in ("p0", "p1", "p2")} == dict.fromkeys(
        ("p0", "p1", "p2"), True
    )
