"""Core types <-> Dragonfly's API v2 (package `dragonfly_api`): a total mapping in both directions.

The only place that turns one into the other. `*_from_wire` checks what came (CallerError for a
request, ProtocolError for an answer), `*_to_wire` writes what the API's own rules accept. No I/O.
The Task message has no piece length: it is learned from Download.actual_piece_length or from the
pieces themselves.
"""

from odonata.wire.dragonfly.announce import (
    PeerRequest,
    add_finished,
    answer_from_wire,
    answer_to_wire,
    finished_piece_in,
    others_finished_in,
    request_from_wire,
    request_to_wire,
    source_answer_from_wire,
    source_answer_to_wire,
)
from odonata.wire.dragonfly.check import (
    require_id,
    require_ip_literal,
    require_url,
    shown,
    shown_url,
)
from odonata.wire.dragonfly.dfdaemon import (
    DownloadProgress,
    HeldPiece,
    LocalTask,
    PieceArrived,
    TaskStarted,
    WantedPieces,
    download_request_from_wire,
    download_request_to_wire,
    held_piece_from_wire,
    held_piece_to_wire,
    local_task_from_wire,
    local_task_to_wire,
    progress_from_wire,
    progress_to_wire,
    wanted_pieces_from_wire,
    wanted_pieces_to_wire,
)
from odonata.wire.dragonfly.download import (
    download_from_wire,
    download_to_wire,
    piece_from_wire,
    piece_to_wire,
    range_from_wire,
    range_to_wire,
)
from odonata.wire.dragonfly.host import check_host, host_from_wire, host_to_wire
from odonata.wire.dragonfly.moment import (
    duration_from_wire,
    duration_to_wire,
    timestamp_from_wire,
    timestamp_to_wire,
)
from odonata.wire.dragonfly.parent import (
    content_length_from_wire,
    content_length_to_wire,
    parent_from_wire,
    parent_to_wire,
)
from odonata.wire.dragonfly.source_detail import (
    DETAILS_KEY,
    source_error_from_details,
    source_error_to_details,
)

__all__ = [
    "DETAILS_KEY",
    "DownloadProgress",
    "HeldPiece",
    "LocalTask",
    "PeerRequest",
    "PieceArrived",
    "TaskStarted",
    "WantedPieces",
    "add_finished",
    "answer_from_wire",
    "answer_to_wire",
    "check_host",
    "content_length_from_wire",
    "content_length_to_wire",
    "download_from_wire",
    "download_request_from_wire",
    "download_request_to_wire",
    "download_to_wire",
    "duration_from_wire",
    "duration_to_wire",
    "finished_piece_in",
    "held_piece_from_wire",
    "held_piece_to_wire",
    "host_from_wire",
    "host_to_wire",
    "local_task_from_wire",
    "local_task_to_wire",
    "others_finished_in",
    "parent_from_wire",
    "parent_to_wire",
    "piece_from_wire",
    "piece_to_wire",
    "progress_from_wire",
    "progress_to_wire",
    "range_from_wire",
    "range_to_wire",
    "request_from_wire",
    "request_to_wire",
    "require_id",
    "require_ip_literal",
    "require_url",
    "shown",
    "shown_url",
    "source_answer_from_wire",
    "source_answer_to_wire",
    "source_error_from_details",
    "source_error_to_details",
    "timestamp_from_wire",
    "timestamp_to_wire",
    "wanted_pieces_from_wire",
    "wanted_pieces_to_wire",
]
