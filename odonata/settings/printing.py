"""Shows effective settings, as YAML with origins beside the values or as JSON, without secrets.

The YAML can be used as a file again, once the hidden secrets (`***`) are filled in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import yaml

from odonata.redaction import HIDDEN, is_secret_key, redact_text
from odonata.settings.document import Leaf, as_mapping, as_sequence, join
from odonata.settings.loading import Loaded
from odonata.settings.section import Settings

# Comments line up at the longest line, but not so far right that they leave a terminal.
_COMMENT_COLUMN_MAX = 56
# How pydantic writes a secret that is not empty.
_PYDANTIC_HIDDEN = "**********"


def as_yaml(loaded: Loaded[Any]) -> str:
    """The effective settings, a line for each, with its origin as a comment."""
    lines = list(_block(effective(loaded.settings), loaded.origins, "", ""))
    column = min(max(len(text) for text, _ in lines), _COMMENT_COLUMN_MAX)
    rendered = [f"{text:<{column}}  # {origin}" if origin else text for text, origin in lines]
    warnings = [f"# {warning}" for warning in loaded.warnings]
    return "\n".join([*warnings, *rendered]) + "\n"


def as_json(loaded: Loaded[Any]) -> str:
    """Indented `{"settings", "origins": {path: origin}, "warnings"}`; defaults have no origin."""
    document = {
        "settings": effective(loaded.settings),
        "origins": {path: _origin(path, leaf) for path, leaf in loaded.origins.items()},
        "warnings": loaded.warnings,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def effective(settings: Settings) -> dict[str, Any]:
    """The values by canonical key, as text where they have units, without secrets."""
    hidden: dict[str, Any] = _hide(settings.model_dump(mode="json", by_alias=True))
    return hidden


def _hide(value: Any, key: str = "") -> Any:
    if (mapping := as_mapping(value)) is not None:
        return {name: _hide(inner, str(name)) for name, inner in mapping.items()}
    if (items := as_sequence(value)) is not None:
        return [_hide(inner) for inner in items]
    if not isinstance(value, str) or not value:
        return value
    return HIDDEN if value == _PYDANTIC_HIDDEN or is_secret_key(key) else redact_text(value)


def _block(
    value: Mapping[Any, Any], origins: Mapping[str, Leaf], path: str, indent: str
) -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        here = join(path, str(key))
        mappings = [as_mapping(item) for item in as_sequence(inner) or ()]
        if mapping := as_mapping(inner):
            yield f"{indent}{_scalar(key)}:", ""
            yield from _block(mapping, origins, here, f"{indent}  ")
        elif any(mappings):
            yield f"{indent}{_scalar(key)}:", ""
            for i, item in enumerate(mappings):
                yield from _item(item or {}, origins, f"{here}[{i}]", f"{indent}  ")
        else:
            yield f"{indent}{_scalar(key)}: {_scalar(inner)}", _origin_of(here, origins)


def _item(
    item: Mapping[Any, Any], origins: Mapping[str, Leaf], path: str, indent: str
) -> Iterator[tuple[str, str]]:
    """A mapping in a list: the dash takes the place of the first line's indent."""
    for number, (text, origin) in enumerate(_block(item, origins, path, f"{indent}  ")):
        yield (f"{indent}- {text.lstrip()}" if number == 0 else text), origin


def _origin_of(path: str, origins: Mapping[str, Leaf]) -> str:
    """The origin of a value; a list has that of its first item."""
    leaf = origins.get(path) or origins.get(f"{path}[0]")
    return _origin(path, leaf) if leaf is not None else "default"


def _origin(path: str, leaf: Leaf) -> str:
    """Where it was written, and as what, if that is an older word."""
    written = leaf.path.removesuffix("[0]")
    same = written in {path, path.removesuffix("[0]")}
    return leaf.place.label if same else f"{leaf.place.label} ({written})"


def _scalar(value: object) -> str:
    """One value on one line of YAML."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")
