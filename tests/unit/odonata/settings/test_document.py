"""YAML by the core schema, with places; refusals with a line; the one slip that is forgiven."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import SettingsError
from odonata.settings.document import (
    Leaf,
    Place,
    Tree,
    leaf_tree,
    leaves,
    merge,
    parse_document,
    parse_text,
    plain,
    read_document,
)

PLACE = Place("command line", "command line")


def values(text: str) -> object:
    return plain(parse_document(text, "x.yaml"))


def refused(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_document(text, "x.yaml")
    return caught.value.detail


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0x10", "0x10"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1:20", "1:20"),
        ("2024-01-01", "2024-01-01"),
        ("127.0.0.1", "127.0.0.1"),
        ("'12'", "12"),
        ("null", None),
        ("~", None),
        ("", None),
        ("''", ""),
        ("9" * 40, "9" * 40),
        ("!!int 12", 12),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert values(f"key: {text}") == {"key": value}


def test_every_leaf_knows_its_line_and_path() -> None:
    tree = parse_document("a:\n  b: 1\n  c:\n    - x\n    - d: 2\ne: {}\nf: []\n", "x.yaml")
    assert [(path, leaf.value, leaf.place.label, leaf.path) for path, leaf in leaves(tree)] == [
        ("a.b", 1, "x.yaml:2", "a.b"),
        ("a.c[0]", "x", "x.yaml:4", "a.c[0]"),
        ("a.c[1].d", 2, "x.yaml:5", "a.c[1].d"),
        ("e", {}, "x.yaml:6", "e"),
        ("f", [], "x.yaml:7", "f"),
    ]


def test_anchors_and_merge_keys_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3}\nc: {<<: *a, x: 9}\nd: {<<: [*b, *a]}\n"
    assert values(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"y": 3},
        "c": {"x": 9, "y": 2},
        "d": {"x": 1, "y": 3},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "x.yaml:1: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a:\n\t- 1", "x.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 2", "x.yaml:2: not YAML: but found another document"),
        ("- 1", "x.yaml:1: the file must hold a mapping of keys to values"),
        ("just text", "x.yaml:1: the file must hold a mapping of keys to values"),
        ("a: {b: 1}\nc: 2\na: 3", "x.yaml:3: a stands twice: keep one of them"),
        ("a:\n  b: 1\n  b: 1", "x.yaml:3: a.b stands twice: keep one of them"),
        ("? [1]\n: 2", "x.yaml:1: a key must be plain text"),
        ("a: !!int x", "x.yaml:1: 'x' is not a number"),
        (
            "a: !!python/object/apply:os.system [x]\n",
            None,
        ),
        ("a: !secret x", "x.yaml:1: tag !secret is not understood: write a plain value"),
    ],
)
def test_what_is_no_settings_file_is_refused_with_its_line(text: str, message: str | None) -> None:
    if message is None:
        # A tag on a list is nothing but a list: no object is ever built.
        assert values(text) == {"a": ["x"]}
    else:
        assert refused(text) == message


def test_an_alias_that_holds_itself_is_refused() -> None:
    assert "an alias holds itself" in refused("a: &a {b: *a}")


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "nested too deeply" in refused("\n".join(lines))


def test_keys_at_the_dashes_of_a_list_belong_to_its_last_item() -> None:
    text = "s:\n  list:\n    - a: 1\n    - a: 2\n    b: 3\n    c:\n      d: 4\ne: 5\n"
    assert values(text) == {"s": {"list": [{"a": 1}, {"a": 2, "b": 3, "c": {"d": 4}}]}, "e": 5}


def test_only_that_slip_is_forgiven() -> None:
    assert refused("s:\n  list:\n    - a: 1\n   b: 3\n").startswith("x.yaml:4: not YAML")
    assert refused("s:\n  list:\n    - a: 1\n    [b]\n").startswith("x.yaml:5: not YAML")
    assert refused("s:\n  - a\n  b: 3\n  - c\n  d: [\n").startswith("x.yaml:")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no.yaml"
    with pytest.raises(SettingsError) as caught:
        read_document(missing)
    assert caught.value.detail == (
        f"{missing}: can't read the settings file: No such file or directory"
    )
    with pytest.raises(SettingsError, match="Is a directory"):
        read_document(tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"a: \xff")
    with pytest.raises(SettingsError, match="not UTF-8 text: bad byte at 3"):
        read_document(binary)
    binary.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(SettingsError, match="1048577 bytes are no settings file"):
        read_document(binary)


def test_control_characters_are_refused() -> None:
    message = "not YAML: special characters are not allowed"
    assert refused("a: 1\nb: \x07") == f"x.yaml:2: {message}"


def test_text_of_a_flag_is_a_value_a_list_or_yaml() -> None:
    assert plain(parse_text("a,b", PLACE, "k", split_commas=False)) == "a,b"
    assert plain(parse_text("a, b,", PLACE, "k", split_commas=True)) == ["a", "b"]
    assert plain(parse_text("", PLACE, "k", split_commas=True)) == []
    node = parse_text("[{x: 1}]", PLACE, "k", split_commas=True)
    assert [(path, leaf.value, leaf.place) for path, leaf in leaves(node, "k")] == [
        ("k[0].x", 1, PLACE)
    ]


def test_the_upper_tree_wins_and_silence_is_no_word() -> None:
    def tree(value: object) -> Tree:
        node = leaf_tree(value, PLACE, "")
        assert isinstance(node, dict)
        return node

    merged = merge(
        tree({"a": {"b": 1, "c": 2}, "l": [1, 2], "s": 1}),
        tree({"a": {"b": None, "c": 3}, "l": [9], "s": {"t": 4}}),
    )
    assert plain(merged) == {"a": {"b": 1, "c": 3}, "l": [9], "s": {"t": 4}}


@given(st.text(max_size=200))
def test_any_text_is_a_tree_or_a_settings_error(text: str) -> None:
    try:
        tree = parse_document(text, "x.yaml")
    except SettingsError:
        return
    assert all(isinstance(leaf, Leaf) for _, leaf in leaves(tree))
