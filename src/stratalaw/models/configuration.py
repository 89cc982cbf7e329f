"""What a model's configuration says, with what its class in transformers says where the configuration is silent.

Configurations leave out what is the default of their class. The defaults are read from the source of transformers:
importing a configuration's class takes seconds, since it imports torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from stratalaw.models.installed import package_folder

TEXT = "text_config"  # of a model that takes images or sound, too
ALIASES = "attribute_map"


def text_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model."""
    section = config.get(TEXT)
    return section if isinstance(section, dict) else config


def setting(config: Mapping[str, Any], key: str) -> Any:
    """A value of the language model's configuration; None where neither it nor the class has one."""
    section = text_section(config)
    if key in section:
        return section[key]
    defaults = class_defaults(str(section.get("model_type", config.get("model_type"))))
    alias = defaults.get(ALIASES, {}).get(key, key)
    return section.get(alias, defaults.get(alias))


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output embedding is the input embedding."""
    key = "tie_word_embeddings"
    return bool(config[key] if key in config else class_defaults(str(config.get("model_type"))).get(key))


@cache
def class_defaults(model_type: str) -> dict[str, Any]:
    """The defaults of the class of configurations that transformers has for a type of models; none if it has none."""
    try:
        folder = package_folder("transformers")
    except ModuleNotFoundError:
        return {}
    for path in sorted(folder.glob("models/*/configuration_*.py")):
        source = path.read_text()
        if f'model_type = "{model_type}"' not in source:
            continue
        classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
        for node in classes.values():
            if _assigned(node).get("model_type") == model_type:
                return _with_bases(node, classes)
    return {}


def _with_bases(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> dict[str, Any]:
    inherited: dict[str, Any] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            inherited |= _with_bases(classes[base.id], classes)
    return inherited | _assigned(node)


def _assigned(node: ast.ClassDef) -> dict[str, Any]:
    return dict(_literals(node))


def _literals(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Attributes of a class that are literals."""
    for statement in node.body:
        match statement:
            case ast.AnnAssign(ast.Name(name), value=ast.expr() as value) | ast.Assign([ast.Name(name)], value):
                try:
                    yield name, _value(value)
                except ValueError:
                    continue


def _value(expression: ast.expr) -> Any:
    """A literal, or a product of such; raises ValueError for anything else."""
    match expression:
        case ast.BinOp(left, ast.Mult(), right):
            return _value(left) * _value(right)
    return ast.literal_eval(expression)
