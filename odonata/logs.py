"""What Odonata's programs say while they run: structured events on stderr.

An event's name is a stable snake_case phrase in the past tense (`parent_assigned`); everything else
is a key of `GLOSSARY`, so that the same thing is called the same in every program and a collector
can index it. Secrets are hidden last, whatever hands them in. Cores do not log; runtimes take
`structlog.get_logger(__name__)` at module level.

Nothing is written to files and nothing is rotated: whoever starts a program keeps its stderr. What
libraries say through `logging` arrives as `library_logged`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from odonata.redaction import redact
from odonata.settings.log import LogFormat, LogLevel, LogSettings

GLOSSARY: Final[Mapping[str, str]] = {
    # Who.
    "task_id": "the content, by the digest over its URL and meta data",
    "peer_id": "one download of one task by one host",
    "host_id": "a host, as it announced itself",
    "host_type": "normal or seed",
    "parent_id": "peer id of the parent that a piece came from or was asked of",
    "parent_ids": "peer ids of the parents given to a child",
    "hostname": "name of a host",
    "scheduler": "host:port of a scheduler",
    "program": "daemon, scheduler, manager, ...",
    "version": "version of the program",
    "model_version": "version of the model that ranks",
    "decision_id": "one decision of a scheduler, as in the telemetry",
    "ranker": "the ranker that was asked",
    "ranked_by": "the ranker that ranked",
    # Where.
    "ip": "IP literal",
    "port": "TCP port",
    "proxy_port": "TCP port of the proxy",
    "piece_port": "TCP port of the piece server",
    "address": "host:port or unix socket that is listened on or connected to",
    "addresses": "several of them",
    "client": "host:port of whoever asked",
    "path": "file or folder",
    "url": "URL without its secrets",
    "host": "authority of a URL",
    "method": "HTTP method",
    "rpc": "gRPC method",
    # What.
    "piece": "number of a piece in its task, from 0",
    "pieces": "number of pieces",
    "offset": "position in the content, bytes",
    "bytes": "amount of content, bytes",
    "bytes_from_peers": "how much of it came from other peers, bytes",
    "bytes_from_source": "how much of it came from the source, bytes",
    "content_length": "length of the whole content, bytes",
    "piece_length": "length of a piece, bytes",
    "range": "first and last byte wanted",
    "status": "HTTP status code",
    "count": "how many there are or were",
    "failures": "how many of them failed",
    "limit": "the bound that was reached",
    "first": "the lowest of several numbers",
    "attempt": "how often it was tried, from 1",
    "state": "state in a life cycle",
    "answer": "kind of the scheduler's answer",
    "candidates": "number of parents that came into question",
    "considered": "those parents: score, features, and why one was dropped",
    "peers": "number of peers of a task",
    "outcome": "what a child was told: parents, source, ...",
    "fallback": "why another ranker ranked than was asked",
    "explored": "true if parents were drawn and not ranked",
    "kind": "kind of the event, effect, task or message",
    "seed": "true for a seed peer",
    # How long.
    "cost_ms": "how long it took, milliseconds",
    "wait_s": "how long until it is tried again, seconds",
    "timeout_s": "how long it was waited for, seconds",
    "interval_s": "how often it happens, seconds",
    # Why.
    "code": "code of an error of odonata.errors",
    "reason": "why, in words",
    "error": "an error's message",
    "exc_info": "an exception, shown with its traceback",
    "signal": "name of the signal that came",
    "setting": "what is to be said about a setting",
    "worker": "number of a worker among those of one `--workers`, from 1",
    "unreachable": "true if nobody answered at all",
    "library": "name of a library's logger",
    "message": "text of a library's own log line",
}
"""Every key a log call may use, and its meaning. A test holds all calls to it."""

# Library chatter below this is about their own business.
_LIBRARY_LEVEL: Final = logging.WARNING


class _Stderr:
    """sys.stderr as it is at the moment of writing: tests and terminals exchange it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


_LEVELS: Final[Mapping[LogLevel, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# Before `configure`, structlog writes everything.
_shown: Final = {"level": 0}


def configure(settings: LogSettings | None = None, *, program: str = "") -> None:
    """Set up logging for this process; again, to change it. Default: info, for the console."""
    settings = settings or LogSettings()
    _shown["level"] = _level(settings.level)
    structlog.configure(
        processors=_processors(settings.format, program, settings.worker),
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings.level)),
        # Write and flush are all that it calls.
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
        # A cached logger would keep its level for ever. Not caching costs 2 us for each call,
        # measured on a 2-core virtual machine.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler(_LIBRARY_LEVEL))


def shows(level: LogLevel) -> bool:
    """Whether events of `level` are written: asked before an event is put together.

    A call that is filtered out still costs 2 us, which is a fifth of a piece message.
    """
    return _level(level) >= _shown["level"]


def _level(level: LogLevel) -> int:
    return _LEVELS[level]


def _processors(log_format: LogFormat, program: str, worker: int | None) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _named(program, worker),
        structlog.processors.format_exc_info,
        hide_secrets,
        *_renderers(log_format),
    ]


def _renderers(log_format: LogFormat) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer(serializer=_json)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            timestamp_key="time",
            # A plain one: the pretty one shows local variables, and with them secrets.
            exception_formatter=structlog.dev.plain_traceback,
            pad_event_to=24,
            sort_keys=False,
        )
    ]


def _named(program: str, worker: int | None) -> Processor:
    who: dict[str, Any] = {"program": program} if program else {}
    if worker is not None:
        who["worker"] = worker

    def name(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Time, level and event first, as people read them."""
        ordered = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
        return {**ordered, **who, **event}

    return name


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: no password, token, Authorization or signed URL gets past it."""
    hidden: MutableMapping[str, Any] = {key: redact(value, key) for key, value in event.items()}
    return hidden


def _json(event: object, **_unused: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


class _LibraryHandler(logging.Handler):
    """Carries what libraries log into our events."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        getattr(logger, level)(
            "library_logged", library=record.name, message=message, exc_info=record.exc_info
        )
