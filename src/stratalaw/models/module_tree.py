"""Which matrices gptqmodel quantizes in a type of models, from its source: importing it takes many seconds.

A definition has a ``module_tree``: the path to the layers, then the modules of a layer. ``!`` marks those that stay as
they are, ``#`` a number, ``|`` other names of the same module; a name that repeats its parent's is the parent itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from stratalaw.models.installed import package_folder, source_within

LAYER = "#"


@cache
def known_architectures() -> frozenset[str]:
    """The types of models that gptqmodel can quantize."""
    return frozenset(_definition_of_types())


@cache
def _definition_of_types() -> dict[str, str]:
    """The class that defines how models of a type are quantized, by the type."""
    known: dict[str, str] = {}
    for statement in ast.walk(source_within("gptqmodel", "models/auto.py")):
        match statement:
            case ast.Assign([ast.Name("MODEL_MAP")], ast.Dict(keys, values)):
                pairs = zip(keys, values, strict=True)
                known |= {
                    str(key.value): value.id
                    for key, value in pairs
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Name)
                }
            case ast.Assign([ast.Subscript(ast.Name("MODEL_MAP"), ast.Constant(key))], ast.Name(definition)):
                known[str(key)] = definition
    return known


@cache
def quantized_modules(model_type: str) -> re.Pattern[str] | None:
    """What the modules that are quantized are called within a layer; None where gptqmodel finds that out by itself, or
    does not know the type.

    The pattern matches a path such as ``self_attn.q_proj``, and that of a Hub's weights where it differs.
    """
    trees = _trees(_definition_of_types().get(model_type, ""))
    modules = [path for tree in trees for path in _modules(tree[tree.index(LAYER) + 1 :], ())]
    return re.compile("|".join(map(r"\.".join, modules))) if modules else None


def _trees(definition: str) -> list[list[Any]]:
    """The trees of a definition, or of the first base that has any; one for each place where layers may be."""
    node = _definitions().get(definition)
    if node is None:
        return []
    for statement in node.body:
        match statement:
            case ast.Assign([ast.Name("module_tree")], value):
                try:
                    tree = ast.literal_eval(value)
                except ValueError:
                    return []
                trees = [tree] if LAYER in tree else tree
                return [variant for variant in trees if LAYER in variant]
    return next((trees for base in node.bases if isinstance(base, ast.Name) and (trees := _trees(base.id))), [])


@cache
def _definitions() -> dict[str, ast.ClassDef]:
    files = sorted((package_folder("gptqmodel") / "models" / "definitions").glob("*.py"))
    parsed = (node for path in files for node in ast.parse(path.read_text()).body)
    return {node.name: node for node in parsed if isinstance(node, ast.ClassDef)}


def _modules(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Paths of the modules that are quantized, each part a regular expression."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _modules(child, path + _part(key))
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _modules(child, path)
    elif isinstance(node, str) and "!" not in node.split(":")[1:]:
        part = _part(node)
        yield path if path[-1:] == part else path + part


def _part(entry: str) -> tuple[str, ...]:
    """A name with its flags as regular expressions of the parts of a path; an empty name adds nothing."""
    name = entry.partition(":")[0]
    if name == LAYER:
        return (r"\d+",)
    return (f"(?:{'|'.join(map(re.escape, name.split('|')))})",) if name else ()
