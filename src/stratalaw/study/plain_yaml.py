"""YAML as plain values, in bounded time and memory; a key that stands twice is refused, not overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from stratalaw.errors import StratalawError

MAX_BYTES = 2**22  # an allocation names each expert of each layer
MAX_DEPTH = 20
MAX_VALUES = 200_000  # with what aliases stand for written out


class YamlError(StratalawError):
    """Text that is not plain YAML; the message is one line that names the line and, where there is one, the key."""


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file.

    Raises:
        YamlError: it cannot be read, is not UTF-8, too large, or no plain YAML (see ``parse_yaml``); names the file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise YamlError(f"{path}: there is no such file") from None
    except OSError as error:
        raise YamlError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise YamlError(f"{path}: larger than {MAX_BYTES // 1024} KiB")
    try:
        return parse_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(f"{path}: line {line}: not UTF-8; save the file in that encoding") from None
    except YamlError as error:
        raise YamlError(f"{path}: {error}") from None


def parse_yaml(text: str) -> Any:
    """The plain values that a text means.

    Raises:
        YamlError: it is not YAML, has a key twice in a mapping, is nested too deeply, or has too many values.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _measure(root, "", {})
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f"line {place.line + 1}: " if place else ""
        raise YamlError(f"{where}not YAML: {getattr(error, 'problem', None) or ' '.join(str(error).split())}") from None
    except YamlError:
        raise
    except ValueError as error:  # a date that no calendar has, a number of thousands of digits
        raise YamlError(f"not YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    """Stops before nested values exhaust the stack."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlError(f"line {self.line + 1}: nested more than {MAX_DEPTH} deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _measure(node: yaml.Node, key: str, measured: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """The number of values in a node and their depth, with what aliases stand for written out.

    Args:
        node: what is measured.
        key: where it is, such as ``grids.0.bits``.
        measured: the nodes seen so far by their identity; None for those that are not wholly seen. An alias stands
            after what it means, so each node is visited once.
    """
    if id(node) in measured:
        known = measured[id(node)]
        if known is None:
            raise YamlError(f"{_line(node)}{key}: an alias within what it stands for")
        return known
    measured[id(node)] = None
    parts: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        parts = [(str(place), part) for place, part in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node, key)
        parts = [(name.value, part) for name, part in node.value]
    size, depth = 1, 1
    for name, part in parts:
        size_of_part, depth_of_part = _measure(part, _within(key, name), measured)
        size, depth = size + size_of_part, max(depth, depth_of_part + 1)
        if size > MAX_VALUES:
            raise YamlError(f"{_line(node)}{_within(key, name)}: more than {MAX_VALUES:,} values, aliases written out")
        if depth > MAX_DEPTH:
            raise YamlError(f"{_line(node)}{_within(key, name)}: nested more than {MAX_DEPTH} deep")
    measured[id(node)] = size, depth
    return size, depth


def _check_keys(mapping: yaml.MappingNode, key: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for name, _ in mapping.value:
        if not isinstance(name, yaml.ScalarNode):
            raise YamlError(f"{_line(name)}a key is a list or a mapping; keys are text")
        named = (name.tag, name.value)
        if named in lines:
            raise YamlError(f"{_line(name)}{_within(key, name.value)}: the key is in line {lines[named]} already")
        lines[named] = _line_number(name)


def _within(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _line(node: yaml.Node) -> str:
    return f"line {_line_number(node)}: "


def _line_number(node: yaml.Node) -> int:
    assert node.start_mark is not None  # nodes of a text have marks
    return node.start_mark.line + 1
