"""The options by which a command is told of an object storage: `--storage-*`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Field of ObjectStorage -> what it says.
_FIELDS: Final = {
    "region": "Region of the bucket.",
    "endpoint": "URL of the storage, if it is not the scheme's own.",
    "access_key_id": "Access key.",
    "access_key_secret": "Its secret.",
    "session_token": "Of temporary credentials (S3).",
    "security_token": "Of temporary credentials (OSS, COS).",
    "credential_path": "File with credentials on the daemon's host (gs).",
    "predefined_acl": "Of an object that is written (s3).",
}
_INSECURE: Final = "insecure_skip_verify"


def storage_options(function: _Function) -> _Function:
    """Decorator: --storage-*; the command gets `storage`, an `ObjectStorage`.

    Secrets may come by environment, for a command line is seen by every process.
    """

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        from odonata.wire.origin import ObjectStorage  # noqa: PLC0415  # so that --help is quick

        told = {name: kwargs.pop(f"storage_{name}") for name in (*_FIELDS, _INSECURE)}
        storage = ObjectStorage(**{name: value for name, value in told.items() if value})
        return function(*args, storage=storage, **kwargs)

    decorated: Any = click.option(
        _flag(_INSECURE), is_flag=True, help="Do not check the storage's certificate."
    )(command)
    for name, text in reversed(_FIELDS.items()):
        variable = f"ODONATA_STORAGE_{name.upper()}"
        option = click.option(_flag(name), envvar=variable, help=f"{text} Or ${variable}.")
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click calls it by its options


def _flag(name: str) -> str:
    return f"--storage-{name.replace('_', '-')}"
