"""A member of the swarm is killed while real clients pull: the others still get the right image.

The origin's link is thin, so that there is a middle to kill in; the bytes that have left the origin
tell when that is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.client import Client, Dockerd, Skopeo
from support.content import MIB
from support.image import Layer
from support.program import Place, wait_until
from support.registry import Registry
from support.swarm import Swarm

pytestmark = pytest.mark.e2e

NAME = "lib/rand:v1"
PEERS = 4
LAYERS = [Layer(size=n * MIB, seed=n) for n in (1, 20, 40)]
RATE_BYTES_PER_S = 16 * MIB


@pytest.mark.parametrize("victim", ["seed-1", "scheduler", "peer-4"])
def test_a_death_in_mid_pull(place: Place, registry: Registry, victim: str) -> None:
    image = registry.push(NAME, LAYERS)
    with (
        Swarm(place, peers=PEERS, registry_mirror=f"http://{registry.authority()}") as swarm,
        registry.thin_link(RATE_BYTES_PER_S) as link,
        Dockerd(place, registry.authority(link), proxy=swarm.proxy("peer-1")) as dockerd,
    ):
        skopeos = {
            name: Skopeo(place, f"at-{name}-without-{victim}", proxy=swarm.proxy(name))
            for name in swarm.peers[1:]
        }
        clients: dict[str, Client] = {"peer-1": dockerd, **skopeos}
        reference = registry.reference(NAME, link)
        with ThreadPoolExecutor(len(clients)) as threads:
            pulls = {at: threads.submit(it.pull, reference) for at, it in clients.items()}
            wait_until(lambda: link.sent_bytes > image.size / 4, "a quarter of the image")
            assert not any(pull.done() for pull in pulls.values()), "too late to matter"
            swarm.kill(victim)
            orphan = pulls.pop(victim, None)
            digests = {at: pull.result() for at, pull in pulls.items()}
        assert digests == dict.fromkeys(pulls, image.digest)
        for name in skopeos.keys() - {victim}:
            assert skopeos[name].wrong_blobs(image) == []
        assert orphan is None or orphan.exception() is not None
        # Without a scheduler everybody is alone; else what the dead one had is all that is lost.
        assert link.sent_bytes < image.size * (PEERS + 1 if victim == "scheduler" else 2)
        assert swarm.alive() == [name for name in swarm.members if name != victim]
