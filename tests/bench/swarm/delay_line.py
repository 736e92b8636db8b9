"""Holds packets back: what a long way does to them, where the kernel has no netem.

    python delay_line.py QUEUE=SECONDS [QUEUE=SECONDS ...]     # as root, in the router's namespace

Packets come by the kernel's NFQUEUE (`linux/netfilter/nfnetlink_queue.h`), headers of messages
only, and pass after their time, in the order in which they came. It says "ready", and goes with
SIGTERM; what it held then is lost, and what comes later passes at once, if the rule has
--queue-bypass.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

NETLINK_NETFILTER: Final = 12
QUEUE_SUBSYSTEM: Final = 3 << 8
PACKET, VERDICT, CONFIG, VERDICTS = (QUEUE_SUBSYSTEM | kind for kind in range(4))
REQUEST, ACKNOWLEDGE = 1, 4
ACCEPT: Final = 1
CMD_BIND: Final = 1
COPY_META: Final = 1
LENGTH_MAX: Final = 20_000
"""Packets that wait at most: 40 ms of 5 Gbit/s."""
BUFFER_BYTES: Final = 16 << 20
SO_RCVBUFFORCE: Final = 33
SOL_NETLINK: Final = 270
NETLINK_NO_ENOBUFS: Final = 5
FLAG_FAIL_OPEN, FLAG_GSO = 1, 4
SLACK_S: Final = 0.0002
"""A packet that is due within this passes now: a wake-up takes as long."""
_HEAD: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def message(kind: int, queue: int, attributes: bytes, flags: int = REQUEST) -> bytes:
    """A message of the queue subsystem about one queue."""
    body = struct.pack(">BBH", 0, 0, queue) + attributes
    return _HEAD.pack(_HEAD.size + len(body), kind, flags, 0, 0) + body


def packet_ids(data: bytes) -> Iterator[int]:
    """Of all packets that the kernel tells of in `data`."""
    place = 0
    while place + _HEAD.size <= len(data):
        length, kind = _HEAD.unpack_from(data, place)[:2]
        if length < _HEAD.size:
            return
        if kind == PACKET:  # its first attribute is the packet's header, which begins with the id
            yield struct.unpack_from(">I", data, place + _HEAD.size + 4 + _ATTRIBUTE.size)[0]
        place += length + -length % 4


class DelayLine:
    """One queue of the kernel. Its packets pass `delay_s` after they came."""

    def __init__(self, queue: int, delay_s: float) -> None:
        self._queue = queue
        self._delay_s = delay_s
        self._waiting: deque[tuple[float, int]] = deque()
        """When the last packet that came at a time is due, and its id."""
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.socket.bind((0, 0))
        self._configure(attribute(1, struct.pack(">BBH", CMD_BIND, 0, socket.AF_INET)))
        self._configure(attribute(2, struct.pack(">IB", 0, COPY_META)))
        self._configure(attribute(3, struct.pack(">I", LENGTH_MAX)))
        flags = struct.pack(">I", FLAG_FAIL_OPEN | FLAG_GSO)
        self._configure(attribute(4, flags) + attribute(5, flags))
        self.socket.setblocking(False)

    def _configure(self, attributes: bytes) -> None:
        self.socket.send(message(CONFIG, self._queue, attributes, REQUEST | ACKNOWLEDGE))
        (error,) = struct.unpack_from("=i", self.socket.recv(4096), _HEAD.size)
        if error:
            raise OSError(-error, os.strerror(-error), f"queue {self._queue}")

    def take(self, now_s: float) -> None:
        """Note what has come."""
        last: int | None = None
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                break
            last = max(packet_ids(data), default=last)
        if last is not None:
            self._waiting.append((now_s + self._delay_s, last))

    def pass_due(self, now_s: float) -> float | None:
        """Let pass what is due; when the next one is, None if nothing waits."""
        due = None
        while self._waiting and self._waiting[0][0] <= now_s + SLACK_S:
            due = self._waiting.popleft()[1]
        if due is not None:  # all up to this one
            verdict = attribute(2, struct.pack(">II", ACCEPT, due))
            self.socket.send(message(VERDICTS, self._queue, verdict))
        return self._waiting[0][0] if self._waiting else None


def main(words: list[str]) -> None:
    lines: dict[int, DelayLine] = {}
    poll = select.epoll()
    for word in words:
        queue, _, delay_s = word.partition("=")
        line = DelayLine(int(queue), float(delay_s))
        lines[line.socket.fileno()] = line
        poll.register(line.socket.fileno(), select.EPOLLIN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    due: list[float] = []
    while True:
        wait_s = max(0.0, min(due) - time.monotonic()) if due else -1
        for number, _ in poll.poll(wait_s):
            lines[number].take(time.monotonic())
        passed = [line.pass_due(time.monotonic()) for line in lines.values()]
        due = [one for one in passed if one is not None]


if __name__ == "__main__":
    main(sys.argv[1:])
