"""What is told of an origin besides URL and headers, and what an origin lists.

One set of values for all who speak of origins: the library and the commands say them to a daemon,
the daemon's sources go by them. `odonata.wire.dragonfly.origin` maps them to Dragonfly's messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from odonata.wire.message import Value


class _Secretive(Value, frozen=True, kw_only=True):
    """Never shows what it holds: most of it are secrets."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class ObjectStorage(_Secretive, frozen=True, kw_only=True):
    """S3 and its like. "" and False: not said, and the daemon finds it its own way."""

    region: str = ""
    endpoint: str = ""
    access_key_id: str = ""
    access_key_secret: str = ""
    session_token: str = ""
    credential_path: str = ""
    predefined_acl: str = ""
    security_token: str = ""
    insecure_skip_verify: bool = False


class Hdfs(_Secretive, frozen=True, kw_only=True):
    """WebHDFS."""

    delegation_token: str = ""


class ModelHub(_Secretive, frozen=True, kw_only=True):
    """Hugging Face and its like. The revision counts in the task id."""

    token: str = ""
    revision: str = ""
    base_url: str = ""


_NO_STORAGE: Final = ObjectStorage()
_NO_HDFS: Final = Hdfs()
_NO_HUB: Final = ModelHub()


class OriginOptions(_Secretive, frozen=True, kw_only=True):
    """All of it; None: nothing said. `certificate_chain`: DER, of authorities to trust.

    Who asks an origin takes `storage`, `web_hdfs` and `hub`, in which what was not said is empty.
    """

    object_storage: ObjectStorage | None = None
    hdfs: Hdfs | None = None
    hugging_face: ModelHub | None = None
    model_scope: ModelHub | None = None
    open_csg: ModelHub | None = None
    certificate_chain: tuple[bytes, ...] = ()

    @property
    def storage(self) -> ObjectStorage:
        """What is said of an object storage."""
        return self.object_storage or _NO_STORAGE

    @property
    def web_hdfs(self) -> Hdfs:
        """What is said of HDFS."""
        return self.hdfs or _NO_HDFS

    @property
    def hub(self) -> ModelHub:
        """What is said of a model hub: of the first one that is named."""
        return self.hugging_face or self.model_scope or self.open_csg or _NO_HUB


NO_OPTIONS: Final = OriginOptions()


class Entry(Value, frozen=True, kw_only=True):
    """One name below a folder of an origin; bytes, None if the origin does not say."""

    url: str
    content_length: int | None = None
    is_dir: bool = False


class Listing(Value, frozen=True, kw_only=True):
    """What an origin says of a URL: its own length (None: not said), and what lies below it."""

    content_length: int | None = None
    response_header: Mapping[str, str] = {}
    entries: tuple[Entry, ...] = ()
