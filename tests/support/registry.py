"""A real docker-registry as the origin, with its own access log and a tap that also sees ranges.

with Registry(place) as registry:
    image = registry.push("lib/rand:v1", [Layer(size=MIB, seed=1)])
    ... pull registry.reference("lib/rand:v1") ...
    assert registry.times_sent(image) == dict.fromkeys(image.blobs, 1.0)

A second one may have the same images behind a log-in: `Registry(place, Guard.BASIC, of=registry)`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support.certificates import Signed
from support.guarded_registry import PASSWORD, USER, Guard, TokenServer, login_config
from support.http_tap import Exchange, HttpTap, Span
from support.image import Image, Layer, make_image
from support.image_push import Shelf, push_image
from support.program import ORIGIN_NAME, Place, Program, wait_until
from support.server_front import ServerFront

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_CONTENT_STATUS = frozenset({200, 206})
# Apache's combined format, which docker-registry writes.
_LOG_LINE = re.compile(
    r'\S+ \S+ \S+ \[[^]]*\] "(?P<method>\S+) (?P<path>\S+) [^"]*" (?P<status>\d+) (?P<bytes>\d+)'
    r' "[^"]*" "(?P<agent>[^"]*)"'
)


@dataclass(frozen=True)
class LogEntry:
    """One line of the registry's access log. `sent_bytes`: of the body."""

    method: str
    path: str
    status: int
    sent_bytes: int
    user_agent: str


class Registry:
    """docker-registry on a free port; clients reach it by `reference`, through the tap."""

    def __init__(
        self,
        place: Place,
        guard: Guard = Guard.NONE,
        *,
        tokens: TokenServer | None = None,
        of: Registry | None = None,
        name: str = "registry",
    ) -> None:
        """`tokens`: who gives them out, for Guard.TOKEN. `of`: whose images it has."""
        self._place = place
        self._guard = guard
        self._name = f"{name}-{guard.value}"
        self._folder = place.folder / self._name
        self._tokens = tokens or TokenServer(self._folder)
        self.storage: Path = self._folder / "data" if of is None else of.storage
        self._stack = ExitStack()
        self._log_start = 0

    def __enter__(self) -> Self:
        with self._stack:
            self._folder.mkdir()
            config = self._folder / "config.yml"
            config.write_text(json.dumps(self._config()))  # which is YAML
            program = Program(self._place, self._name, ["docker-registry", "serve", config])
            self._program = self._stack.enter_context(program)
            program.wait_until(lambda: _LISTENING.search(program.err.read_text()), "its port")
            self.port = int(_LISTENING.findall(program.err.read_text())[0])
            self._tap = self._stack.enter_context(HttpTap(self.port))
            self._kept = self._stack.pop_all()
        return self

    def _config(self) -> dict[str, Any]:
        return {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},  # info tells the port
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": "127.0.0.1:0", "secret": "of no use here"},
            # Foreign layers: without a word here it refuses all of them.
            "validation": {"manifests": {"urls": {"allow": ["."]}}},
            **login_config(self._guard, self._folder, self._tokens),
        }

    def __exit__(self, *exc: object) -> None:
        self._kept.close()

    def push(self, name: str, layers: Sequence[Layer]) -> Image:
        """Make an image and push it as `name` (repository:tag), past the tap."""
        assert self._guard is not Guard.TOKEN, "its tokens are good for pulls alone"
        folder = self._place.folder / "pushed"
        image = make_image(folder, layers)
        repository, _, tag = name.rpartition(":")
        push_image(image, f"127.0.0.1:{self.port}", repository, tag, login=f"{USER}:{PASSWORD}")
        shutil.rmtree(folder)
        self.forget()
        return image

    def shelf(self, repository: str) -> Shelf:
        """A repository to be filled by hand, past the tap; `forget` then."""
        return Shelf(f"127.0.0.1:{self.port}", repository, login=f"{USER}:{PASSWORD}")

    def reference(self, name: str, tap: HttpTap | None = None) -> str:
        """What a client has to be asked for."""
        return f"{self.authority(tap)}/{name}"

    def authority(self, tap: HttpTap | None = None) -> str:
        """host:port of the registry, as clients know it."""
        return f"{ORIGIN_NAME}:{(tap or self._tap).port}"

    @property
    def tap_port(self) -> int:
        """Of loopback, where the tap listens."""
        return self._tap.port

    @contextmanager
    def front(self, signed: Signed) -> Generator[str]:
        """TLS before the tap: host:port of the registry by https."""
        with ServerFront(self.tap_port, signed) as front:
            yield f"{ORIGIN_NAME}:{front.port}"

    @contextmanager
    def thin_link(self, rate_bytes_per_s: float) -> Generator[HttpTap]:
        """Another way to the registry, with so much bandwidth; for `reference`."""
        with HttpTap(self.port, rate_bytes_per_s=rate_bytes_per_s) as tap:
            yield tap

    def forget(self) -> None:
        """Start both logs anew, once everything under way has come to its end."""
        self.settle()
        self._log_start = len(self._lines())
        self._tap.exchanges.clear()

    def settle(self) -> None:
        """Wait until the registry has logged every request that passed the tap."""
        wait_until(lambda: all(seen.over for seen in self._tap.exchanges), "the tap's last byte")
        tapped = len(self._tap.exchanges)
        wait_until(lambda: len(self._lines()) - self._log_start >= tapped, "the registry's log")

    def log(self) -> list[LogEntry]:
        """The registry's own words since `forget`."""
        self.settle()
        entries: list[LogEntry] = []
        for line in self._lines()[self._log_start :]:
            found = _LOG_LINE.fullmatch(line)
            assert found is not None, f"not a line of an access log: {line!r}"
            entries.append(
                LogEntry(
                    method=found["method"],
                    path=found["path"],
                    status=int(found["status"]),
                    sent_bytes=int(found["bytes"]),
                    user_agent=found["agent"],
                )
            )
        return entries

    def blob_requests(self) -> list[Exchange]:
        """Requests for blobs since `forget`, with their ranges; a HEAD asks only for leave."""
        self.settle()
        return [
            seen for seen in self._tap.exchanges if "/blobs/" in seen.path and seen.method != "HEAD"
        ]

    def spans(self, digest: str) -> list[Span]:
        """Which parts of a blob the registry sent, sorted; parts without a byte left out."""
        spans = [
            seen.span
            for seen in self.blob_requests()
            if seen.path.endswith(digest)
            and seen.method == "GET"
            and seen.status in _CONTENT_STATUS
            and seen.sent_bytes
        ]
        return sorted(spans)

    def times_sent(self, image: Image) -> dict[str, float]:
        """By the registry's own log: the body bytes of each blob as copies of it."""
        log = self.log()
        return {
            digest: sum(
                entry.sent_bytes
                for entry in log
                if entry.path.endswith(digest)
                and entry.method == "GET"
                and entry.status in _CONTENT_STATUS
            )
            / length
            for digest, length in image.blobs.items()
        }

    def _lines(self) -> list[str]:
        text = self._program.out.read_text()
        return text[: text.rfind("\n") + 1].splitlines()


def with_every_guard(
    stack: ExitStack, place: Place, store: Registry, tokens: TokenServer
) -> dict[Guard, Registry]:
    """Registries with the images of `store`, which let in everybody, or not."""
    return {
        guard: stack.enter_context(Registry(place, guard, tokens=tokens, of=store))
        for guard in Guard
    }


def check_sent_once(registry: Registry, image: Image) -> None:
    """Each blob left the registry once: whole, or as ranges that neither overlap nor leave gaps."""
    assert registry.times_sent(image) == dict.fromkeys(image.blobs, 1.0)
    for digest, length in image.blobs.items():
        position = 0
        for first, end in registry.spans(digest):
            assert first == position, f"{digest}: {registry.spans(digest)}"
            position = end
        assert position == length, f"{digest}: {registry.spans(digest)}"
