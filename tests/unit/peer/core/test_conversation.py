"""What is said to the scheduler: in order, once, and never after the last word."""

from __future__ import annotations

from support.download import URL, kinds, messages

from odonata.wire.message import Download, Failed
from peer.core.conversation import Conversation
from peer.core.effect import CloseStream, DownloadEffect


def test_nothing_is_said_before_the_register() -> None:
    talk = Conversation()
    out: list[DownloadEffect] = []
    talk.start(out)
    talk.end(Failed(), out)
    assert out == []


def test_a_whole_conversation() -> None:
    talk = Conversation()
    out: list[DownloadEffect] = []
    talk.register(Download(url=URL), out)
    talk.start(out)
    talk.start(out)
    talk.finish(out)
    talk.say(Failed(), out)
    assert kinds(messages(out)) == ["Register", "Started", "Finished"]
    assert out[-1] == CloseStream()
    assert not talk.open


def test_source_is_told_once_and_ends_as_such() -> None:
    talk = Conversation()
    out: list[DownloadEffect] = []
    talk.register(Download(url=URL), out)
    talk.start_source("told to", out)
    talk.start_source("told to", out)
    talk.finish(out)
    assert kinds(messages(out)) == ["Register", "BackToSourceStarted", "BackToSourceFinished"]


def test_a_lost_scheduler_hears_nothing() -> None:
    talk = Conversation()
    out: list[DownloadEffect] = []
    talk.register(Download(url=URL), out)
    talk.lose()
    talk.finish(out)
    assert kinds(out) == ["Send"]
