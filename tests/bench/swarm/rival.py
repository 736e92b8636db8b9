"""BitTorrent's best client on the same links: libtorrent as seed and peers of one run.

    python rival.py seed|peer TORRENT FOLDER IP UPLOADS [IP...]

Full mesh by `connect_peer` to the addresses that are named, no tracker, TCP only, no encryption,
UPLOADS unchoke slots. It says "ready", begins with SIGUSR1, and says "piece NUMBER" for each piece
that has passed its check. The seed holds the content from the start (no origin stands behind it,
which is in its favour) and uses super seeding; it says "offers" when it offers the first piece to
a peer: ten seconds after they have met, since libtorrent, which tells a peer what to take when it
meets it, drops that word in the middle of the handshake, and says it again only to who was not
interested for so long. Needs `pip install libtorrent`.
"""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any, Final

PORT: Final = 6881
SEED_SLOTS: Final = 16
PEER_SLOTS: Final = 8
ALERT_MS: Final = 200
OFFERS: Final = "(super seed)"
"""What libtorrent's log of a peer says of a piece that is offered to it."""
_SETTINGS: Final[dict[str, Any]] = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "out_enc_policy": 2,
    "in_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "connection_speed": 200,
    "close_redundant_connections": False,
}


def why_not() -> str:
    """Why there can be no rival here; "" if there can."""
    if importlib.util.find_spec("libtorrent") is None:
        return "the policy bittorrent needs libtorrent: .venv/bin/pip install libtorrent"
    return ""


def make_torrent(content: Path, piece_length: int, torrent: Path) -> None:
    """Describe the content's pieces (SHA-1 of each) in a file."""
    lt = _libtorrent()
    files = lt.file_storage()
    lt.add_files(files, str(content))
    maker = lt.create_torrent(files, piece_size=piece_length, flags=lt.create_torrent.v1_only)
    lt.set_piece_hashes(maker, str(content.parent))
    torrent.write_bytes(lt.bencode(maker.generate()))


def _libtorrent() -> Any:
    return importlib.import_module("libtorrent")


def _serve(role: str, torrent: str, folder: str, ip: str, uploads: str, others: list[str]) -> None:
    lt = _libtorrent()
    pieces = int(lt.alert.category_t.piece_progress_notification)
    words = int(lt.alert.category_t.peer_log_notification)
    session = lt.session(
        {
            **_SETTINGS,
            "listen_interfaces": f"{ip}:{PORT}",
            "unchoke_slots_limit": int(uploads),
            "alert_mask": pieces | words if role == "seed" else pieces,
        }
    )
    wish = lt.add_torrent_params()
    wish.ti = lt.torrent_info(torrent)
    wish.save_path = folder
    flags = lt.torrent_flags
    wish.flags = (wish.flags | flags.paused) & ~flags.auto_managed
    if role == "seed":
        wish.flags |= flags.seed_mode | flags.super_seeding
    handle = session.add_torrent(wish)
    _say("ready")
    signal.sigwait({signal.SIGUSR1})
    handle.resume()
    for other in others:
        handle.connect_peer((other, PORT))
    offers = False
    while True:
        session.wait_for_alert(ALERT_MS)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.piece_finished_alert):
                _say(f"piece {alert.piece_index}")
            elif not offers and OFFERS in alert.message():
                offers = True
                _say("offers")
                session.apply_settings({"alert_mask": pieces})


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    role, torrent, folder, ip, uploads, *others = sys.argv[1:]
    _serve(role, torrent, folder, ip, uploads, others)
