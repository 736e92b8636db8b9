"""Where the daemon is asked, and what a failed call means."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import grpc
import pytest

from odonata.client.endpoint import check_endpoint, explain, find_endpoint, is_gone
from odonata.errors import (
    CallerError,
    DiskFullError,
    NotFoundError,
    OdonataError,
    SourceError,
    UnavailableError,
)
from odonata.grpc_status import CODE_KEY

SOCKET = Path("/run/d.sock")


class Failure:
    """A call that ended so."""

    def __init__(self, code: grpc.StatusCode, details: str, *trailers: tuple[str, str]) -> None:
        self._told = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._told[0]

    def details(self) -> str:
        return self._told[1]

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._told[2]


def test_what_is_said_wins_then_the_variable_then_the_usual_place() -> None:
    environ = {"ODONATA_DAEMON_SOCKET": "/v.sock", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert find_endpoint("/a.sock", environ) == Path("/a.sock")
    assert find_endpoint("unix:/a.sock", environ) == Path("/a.sock")
    assert find_endpoint(None, environ) == Path("/v.sock")
    usual = "/run/odonata" if os.getuid() == 0 else "/run/user/7/odonata"
    assert find_endpoint(None, {"XDG_RUNTIME_DIR": "/run/user/7"}) == Path(usual) / "daemon.sock"


def test_what_is_no_socket_is_said_before_it_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"start one with `.*odonata daemon`"):
        check_endpoint(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CallerError, match="is no socket"):
        check_endpoint(tmp_path / "file")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        check_endpoint(tmp_path / "s")


Status = grpc.StatusCode


@pytest.mark.parametrize(
    ("failure", "kind", "words", "gone"),
    [
        (Failure(Status.UNAVAILABLE, "failed to connect"), UnavailableError, "no daemon at", True),
        (Failure(Status.UNAVAILABLE, "Socket closed"), UnavailableError, "went away", True),
        (Failure(Status.CANCELLED, "Locally cancelled"), UnavailableError, "went away", True),
        (Failure(Status.NOT_FOUND, "no task"), NotFoundError, "daemon at /run/d.sock: no", False),
    ],
)
def test_what_grpc_says_is_explained(
    failure: Failure, kind: type[OdonataError], words: str, gone: bool
) -> None:
    error = explain(failure, SOCKET)
    assert (type(error), words in error.detail) == (kind, True)
    assert is_gone(failure) is gone


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        # The daemon lives, and could not reach something itself.
        (Status.UNAVAILABLE, "unavailable", UnavailableError),
        (Status.RESOURCE_EXHAUSTED, "disk_full", DiskFullError),
        (Status.INTERNAL, "source", SourceError),
    ],
)
def test_what_the_daemon_says_is_repeated(
    status: grpc.StatusCode, code: str, kind: type[OdonataError]
) -> None:
    failure = Failure(status, "because", (CODE_KEY, code))
    error = explain(failure, SOCKET)
    assert (type(error), error.detail) == (kind, "because")
    assert not is_gone(failure)
