"""Names of tasks: ids as Dragonfly's own tests have them, beginnings, and what is neither."""

from __future__ import annotations

import hashlib

import pytest
from click.testing import CliRunner

from odonata.errors import CallerError, NotFoundError
from peer.task_command import id_
from peer.task_name import Naming, id_of, id_of_url, only_match

URL = "https://example.com"
HEX = "b2c366cce7e68013d5441c6326d5a3e1b12aeb5ed58564d0fd3fa089bc29cb6e"
BLOB_URL = f"http://localhost:5000/v2/library/ubuntu/blobs/sha256:{HEX}"
FOO_BAR = "06408fbf247ddaca478f8cb9565fe5591c28efd0994b8fea80a6a87d3203c5ca"
FOO = "3c3f230ef9f191dd2821510346a7bc138e4894bee9aee184ba250a3040701d2a"


# dragonflyoss/client, dragonfly-client-util/src/id_generator: should_generate_task_id.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tag", "foo", "--application", "bar"], FOO_BAR),
        (["--tag=foo"], FOO),
        (
            ["--piece-length=1KiB", "--tag=foo", "--application=bar", "--revision=v1.0"],
            "5844f27a257287e9b734256bb25603d8005422ced8c0377f15063ec11963b25f",
        ),
        (
            ["--content-for-calculating-task-id=hello"],
            hashlib.sha256(b"hello").hexdigest(),
        ),
    ],
)
def test_ids_are_those_of_dragonfly(options: list[str], expected: str) -> None:
    result = CliRunner().invoke(id_, [URL, *options])
    assert (result.output, result.exit_code) == (f"{expected}\n", 0)


def test_signatures_do_not_count_unless_others_are_named_instead() -> None:
    signed = f"{URL}/a?X-Amz-Signature=1&x=2"
    assert id_of_url(signed, Naming()) == id_of_url(f"{URL}/a?x=2", Naming())
    own = Naming(filtered_query_params=("x",))
    assert id_of_url(signed, own) == id_of_url(f"{URL}/a?X-Amz-Signature=1", own)
    assert id_of_url(signed, own) != id_of_url(signed, Naming())


def test_a_blob_goes_by_its_digest_if_told_so() -> None:
    assert id_of_url(BLOB_URL, Naming(by_blob_digest=True)) == HEX
    assert id_of_url(BLOB_URL, Naming()) != HEX


def test_an_id_is_taken_as_it_is_and_its_beginning_left_to_the_daemon() -> None:
    assert id_of(HEX, Naming()) == HEX
    assert id_of("b2c3", Naming()) is None
    assert only_match("b2c3", [FOO, HEX]) == HEX


@pytest.mark.parametrize("name", ["", "b2c", "B2C3", "example.com/a", "../x", "b2c3/"])
def test_what_is_neither_url_nor_id_is_said_to_be(name: str) -> None:
    with pytest.raises(CallerError, match="neither a URL nor a task id"):
        id_of(name, Naming())


def test_an_id_needs_no_options() -> None:
    with pytest.raises(CallerError, match="leave out the options"):
        id_of(HEX, Naming(tag="t"))


def test_a_beginning_names_one_task_or_is_refused() -> None:
    with pytest.raises(NotFoundError, match="begins with beef"):
        only_match("beef", [HEX])
    with pytest.raises(CallerError, match="and 1 more: say more of the id"):
        only_match("0000", [f"0000{n}" for n in range(6)])


@pytest.mark.parametrize("words", [["no url"], [URL, "--piece-length=big"]])
def test_mistakes_are_errors(words: list[str]) -> None:
    result = CliRunner().invoke(id_, words)
    assert isinstance(result.exception, CallerError)
