"""fsspec's filesystem `odonata`: whatever reads through fsspec reads through the swarm.

    odonata://https://host/path     any URL that the daemon knows, as it is
    odonata::s3://bucket/key        chained, with the storage options of the inner filesystem

Reads only. What the daemon and its peers hold is not asked for at the origin. Listings come from
the origin each time. Needs the extra `fsspec`. Names are full URLs; of a chained one they are
written as the inner filesystem writes them.
"""

# fsspec ships no types: what comes of its classes is held to by the tests.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import errno
import io
import secrets
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn, cast

import fsspec
from fsspec.asyn import has_magic
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.utils import isfilelike, stringify_path

from odonata.client.blocking_client import Client
from odonata.client.inner_option import authority_of, name_of, options_of, path_of, scheme_of
from odonata.client.reader import Reader
from odonata.client.tally import Progress
from odonata.client.wish import Options, make_download
from odonata.errors import CallerError, NotFoundError, OdonataError, SourceError, StorageError
from odonata.wire.dragonfly import shown_url
from odonata.wire.origin import Entry, Hdfs, ModelHub, ObjectStorage

PROTOCOL: Final = "odonata"
CONCURRENCY: Final = 16
"""Reads at once of `cat` and `cat_ranges`: enough to hide what a call costs, few enough that their
results are what fills the memory, not they."""

_BUFFER_BYTES: Final = 256 * 1024
_MISSING: Final = frozenset({404, 410})
_FORBIDDEN: Final = frozenset({401, 403})
_STRUCTS: Final = {
    "object_storage": ObjectStorage,
    "hdfs": Hdfs,
    "hugging_face": ModelHub,
    "model_scope": ModelHub,
    "open_csg": ModelHub,
}


def register() -> None:
    """Make fsspec know it where the package is not installed (else its entry point does)."""
    fsspec.register_implementation(PROTOCOL, OdonataFileSystem, clobber=True)


class OdonataFileSystem(ChainedFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """See the module. Thread-safe; goes to other processes by pickling, as all of fsspec's do."""

    protocol = PROTOCOL
    root_marker = ""

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        fo: str | None = None,
        endpoint: str | None = None,
        **options: Any,
    ) -> None:
        """`target_*` and `fo` are fsspec's, of the inner filesystem.

        `endpoint`: the daemon's socket. `options`: those of `odonata.client.Options`; what is a
        struct there may be a dict here. Raises CallerError.
        """
        super().__init__()
        del fo  # every path comes with its own name
        self._inner = target_protocol
        self._before = "" if target_protocol is None else f"{scheme_of(target_protocol)}://"
        told: Options = {}
        if target_protocol is not None:
            self._before += authority_of(target_protocol, target_options or {})
            told = options_of(target_protocol, target_options or {})
        self._options = cast("Options", {**told, **_structs(options)})
        make_download("http://x.invalid/", self._options)  # raises if an option is wrong
        self._client = Client(endpoint)

    # --- names ---

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(stringify_path(path))
        for prefix in (f"{PROTOCOL}://", f"{PROTOCOL}::"):
            text = text.removeprefix(prefix)
        is_web = text.startswith(("http://", "https://"))  # where a slash at the end has a meaning
        return text if is_web else text.rstrip("/")

    def unstrip_protocol(self, name: str) -> str:
        """With the protocol before it."""
        return f"{PROTOCOL}://{self._url(name)}"

    def _url(self, path: str) -> str:
        name: str = self._strip_protocol(path)
        if "://" in name:
            return name
        if self._inner is None:
            raise CallerError(
                f"{name!r} is no URL: write odonata://https://host/path, or odonata::s3://bucket/key"
            )
        return self._before + path_of(self._inner, name)

    def _name(self, url: str, like: str) -> str:
        """How the caller, who wrote `like`, writes `url`."""
        if "://" in like or self._inner is None:
            return url.rstrip("/")
        return name_of(self._inner, url.removeprefix(self._before)).rstrip("/")

    # --- what is there ---

    def info(self, path: str, **_kwargs: Any) -> dict[str, Any]:
        """Facts of a content (asked of the swarm) or a folder (asked of the origin)."""
        name = self._strip_protocol(path)
        url = self._url(name)
        try:
            with _translated(url):
                stat = self._client.stat(url, **self._options)
        except (FileNotFoundError, CallerError) as missing:
            return self._folder(name, url, missing)
        header = {key.lower(): value for key, value in stat.response_header.items()}
        facts = {"name": name, "size": stat.content_length, "type": "file", "task_id": stat.task_id}
        kept = {"etag": "ETag", "last-modified": "last_modified", "content-type": "mimetype"}
        return facts | {kept[key]: value for key, value in header.items() if key in kept}

    def _folder(self, name: str, url: str, missing: Exception) -> dict[str, Any]:
        """The folder `url`; else `missing`, which says why it is no content."""
        try:
            entries = self._client.look(f"{url.rstrip('/')}/", **self._options).entries
        except OdonataError:
            entries = ()
        if entries:
            return {"name": name, "size": 0, "type": "directory"}
        if isinstance(missing, FileNotFoundError):
            raise missing
        raise FileNotFoundError(errno.ENOENT, str(missing), shown_url(url)) from missing

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether it is there. That it can't be found out is an error, not an answer."""
        try:
            self.info(path, **kwargs)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = True, **_kwargs: Any) -> list[Any]:
        """One level. Web servers have no folders: of them only a file lists, as itself."""
        return self._listed(path, recursive=False, detail=detail)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **_kwargs: Any,
    ) -> Any:
        """All files below, by one question to the origin."""
        name: str = self._strip_protocol(path)
        found: list[dict[str, Any]] = self._listed(path, recursive=True, detail=True)
        if withdirs and not any(one["name"] == name for one in found):
            found = [{"name": name, "size": 0, "type": "directory"}, *found]
        depth = name.count("/")
        kept: dict[str, Any] = {}
        for one in found:
            below = str(one["name"])
            near = maxdepth is None or below.count("/") - depth <= maxdepth
            if near and (withdirs or one["type"] == "file"):
                kept[below] = one
        return kept if detail else sorted(kept)

    def _listed(self, path: str, *, recursive: bool, detail: bool) -> list[Any]:
        name = self._strip_protocol(path)
        url = self._url(name)
        if url.startswith(("http://", "https://")):
            entries = [Entry(url=url, content_length=self.info(name)["size"])]
        else:
            with _translated(url):
                entries = self._client.list(url, recursive=recursive, **self._options)
        if not entries:
            raise FileNotFoundError(errno.ENOENT, "nothing is there", shown_url(url))
        found = [
            {
                "name": self._name(entry.url, name) if entry.url != url else name,
                "size": 0 if entry.is_dir else entry.content_length,
                "type": "directory" if entry.is_dir else "file",
            }
            for entry in entries
        ]
        return found if detail else [one["name"] for one in found]

    # --- what is in it ---

    def _open(self, path: str, mode: str = "rb", **_kwargs: Any) -> OpenFile:
        if mode != "rb":
            _refuse(f"open for {mode!r}")
        url = self._url(path)
        reader = self._client.open(url, **self._options)
        return OpenFile(reader, url)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_kwargs: Any
    ) -> bytes:
        """Bytes from `start` to `end`, each None or, if negative, counted from the end."""
        url = self._url(path)
        with _translated(url):
            first, last = self._bounds(url, start, end)
            if last is not None and last <= first:
                return b""
            length = None if last is None else last - first
            return self._client.read(url, first, length, **self._options)

    def _bounds(self, url: str, start: int | None, end: int | None) -> tuple[int, int | None]:
        first, last = start or 0, end
        if first < 0 or (last is not None and last < 0):
            length = self._client.stat(url, **self._options).content_length
            if length is None:
                raise CallerError(f"{shown_url(url)} does not say its length: count from its start")
            first = max(0, first + length) if first < 0 else first
            last = last + length if last is not None and last < 0 else last
        return first, last

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Several parts, some at once. Gaps are not read: `max_gap` means nothing here."""
        del max_gap
        firsts: Sequence[Any] = starts if isinstance(starts, Sequence) else [starts] * len(paths)
        lasts: Sequence[Any] = ends if isinstance(ends, Sequence) else [ends] * len(paths)
        if not len(firsts) == len(lasts) == len(paths):
            raise ValueError("cat_ranges needs as many starts and ends as paths")
        jobs = list(zip(paths, firsts, lasts, strict=True))
        return self._at_once(lambda job: self.cat_file(*job, **kwargs), jobs, on_error)

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """One content; or several by name, some at once."""
        if isinstance(path, str) and not recursive and not has_magic(path):
            return self.cat_file(path, **kwargs)
        names = self.expand_path(path, recursive=recursive)
        files = [name for name in names if not recursive or self.isfile(name)]
        got = self._at_once(lambda name: self.cat_file(name, **kwargs), files, on_error)
        pairs = zip(files, got, strict=True)
        return {
            name: data
            for name, data in pairs
            if on_error != "omit" or not isinstance(data, Exception)
        }

    def _at_once(self, work: Callable[[Any], bytes], jobs: list[Any], on_error: str) -> list[Any]:
        def one(job: Any) -> Any:
            try:
                return work(job)
            except (OdonataError, OSError, ValueError) as error:
                if on_error == "raise":
                    raise
                return error

        with ThreadPoolExecutor(max(1, min(CONCURRENCY, len(jobs)))) as pool:
            return list(pool.map(one, jobs))

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **_kwargs: Any,
    ) -> None:
        """Into a file, written by the daemon (linked if it can be), or copied if it may not."""
        out = outfile or (lpath if isfilelike(lpath) else None)
        url = self._url(rpath)
        if out is not None:
            self._copy(rpath, out)
        elif self.isdir(rpath):
            Path(str(lpath)).mkdir(parents=True, exist_ok=True)
        else:
            path = Path(str(lpath)).absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            with _translated(url):
                self._to_path(rpath, url, path, callback)

    def _to_path(self, rpath: str, url: str, path: Path, callback: Any) -> None:
        def told(progress: Progress) -> None:
            callback.set_size(progress.content_length)
            callback.absolute_update(progress.arrived)

        try:
            self._client.download(url, path, overwrite=True, on_progress=told, **self._options)
        except (StorageError, CallerError):  # the daemon does not see the folder, or may not write
            draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
            try:
                with draft.open("xb") as out:
                    self._copy(rpath, out)
                draft.replace(path)
            finally:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)

    def _copy(self, rpath: str, out: Any) -> None:
        with self._open(rpath) as source:
            shutil.copyfileobj(source, out, _BUFFER_BYTES)

    # --- what is refused ---

    def put_file(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("put a file")

    def pipe_file(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("write")

    def cp_file(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("copy")

    def mv(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("move")

    def touch(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("touch")

    def mkdir(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("make a folder")

    def makedirs(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("make a folder")

    def rmdir(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("remove a folder")

    def rm(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("remove")

    def rm_file(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("remove")

    _rm = rm_file


class OpenFile(io.BufferedReader):
    """What `open` gives: a buffered binary file, with the facts that users of fsspec look for."""

    def __init__(self, reader: Reader, url: str) -> None:
        """The first bytes are asked for at once: what is not there can't be opened."""
        raw = _Translating(reader, url)
        super().__init__(raw, _BUFFER_BYTES)
        self._reader = reader
        self.path = url
        try:
            raw.begin()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self._reader.size


class _Translating(io.RawIOBase):
    """A reader whose errors are those of files, where there are such."""

    def __init__(self, reader: Reader, url: str) -> None:
        super().__init__()
        self._reader = reader
        self._url = url

    def begin(self) -> None:
        with _translated(self._url):
            self._reader.reach(0, 1)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with _translated(self._url):
            return self._reader.readinto(buffer)

    def readall(self) -> bytes:
        with _translated(self._url):
            return self._reader.readall()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with _translated(self._url):
            return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def close(self) -> None:
        self._reader.close()
        super().close()


@contextmanager
def _translated(url: str) -> Generator[None]:
    """What is missing or forbidden is said as files say it; all else as Odonata says it."""
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, error.detail, shown_url(url)) from error
    except SourceError as error:
        if error.status_code in _MISSING:
            raise FileNotFoundError(errno.ENOENT, error.detail, shown_url(url)) from error
        if error.status_code in _FORBIDDEN:
            raise PermissionError(errno.EACCES, error.detail, shown_url(url)) from error
        raise


def _structs(options: Mapping[str, Any]) -> dict[str, Any]:
    """What is a struct in a request may come as a dict, since fsspec's options are plain."""
    return {
        name: _STRUCTS[name](**value) if name in _STRUCTS and isinstance(value, dict) else value
        for name, value in options.items()
    }


def _refuse(what: str) -> NoReturn:
    raise OSError(
        errno.EROFS, f"can't {what}: odonata only reads; write to the origin's own filesystem"
    )
