"""The library: read and download through the swarm, by the daemon of this host.

`Client` blocks, `AsyncClient` is for asyncio; `odonata.client.filesystem` is both for fsspec, and
so for pandas, pyarrow and others. See docs/library.md. Imports nothing of any room.
"""

from odonata.client.async_client import AsyncClient
from odonata.client.async_reader import AsyncReader
from odonata.client.blocking_client import Client
from odonata.client.reader import Reader
from odonata.client.stat import Stat
from odonata.client.tally import Downloaded, Progress
from odonata.client.wish import Options
from odonata.wire.origin import Entry, Hdfs, ModelHub, ObjectStorage

__all__ = [
    "AsyncClient",
    "AsyncReader",
    "Client",
    "Downloaded",
    "Entry",
    "Hdfs",
    "ModelHub",
    "ObjectStorage",
    "Options",
    "Progress",
    "Reader",
    "Stat",
]
