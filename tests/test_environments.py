"""The conda environments of jobs have what their rules import, in the locked versions."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = {line.strip().lower() for line in Path("requirements.lock").read_text().splitlines() if "==" in line}
ENVIRONMENTS = sorted(Path("envs").glob("*.yaml"))
RULE = re.compile(r'conda:\s+"../../envs/(?P<environment>[\w.]+)".*?script:\s+"../(?P<script>[\w./]+)"', re.DOTALL)
STAGE = re.compile(r'"stratalaw\.stages:(\w+)"')


def pins_of(environment: Path) -> list[str]:
    dependencies = yaml.safe_load(environment.read_text())["dependencies"]
    (pins,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return pins


def stages_of(environment: Path) -> set[str]:
    """The functions of ``stratalaw.jobs.stages`` that the rules of an environment run."""
    rules = [rule for path in Path("workflow/rules").glob("*.smk") for rule in RULE.finditer(path.read_text())]
    scripts = {rule["script"] for rule in rules if rule["environment"] == environment.name}
    return {name for script in scripts for name in STAGE.findall((Path("workflow") / script).read_text())}


def source_of(module: str) -> Path | None:
    """The file of a module of this library; None for other names."""
    path = Path("src", *module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def imports_among(statements: list[ast.stmt]) -> Iterator[str]:
    """The modules that statements import, those of ``from package import module`` included."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield statement.module
            yield from (name for alias in statement.names if source_of(name := f"{statement.module}.{alias.name}"))


def imports_of_stages(names: set[str]) -> Iterator[str]:
    """What functions of ``stratalaw.jobs.stages`` import, and those of its functions that they call."""
    module = ast.parse(source_of("stratalaw.jobs.stages").read_text()).body
    functions = {statement.name: statement for statement in module if isinstance(statement, ast.FunctionDef)}
    waiting, seen = set(names), set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        nodes = list(ast.walk(functions[name]))
        yield from imports_among(nodes)
        waiting |= {node.id for node in nodes if isinstance(node, ast.Name) and node.id in functions} - seen


def packages_imported(modules: set[str]) -> set[str]:
    """The top-level names of others' packages that modules, and what they import when they are loaded, need."""
    waiting, seen = set(modules), set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if source := source_of(name):
            waiting |= {*imports_among(ast.parse(source.read_text()).body), name.rpartition(".")[0] or name} - seen
    return {name.partition(".")[0] for name in seen} - sys.stdlib_module_names - {"stratalaw"}


def installed_with(pins: list[str]) -> set[str]:
    """The distributions that an installation of some brings with it."""
    waiting, seen = {(canonicalize_name(pin.partition("==")[0])) for pin in pins}, set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        needed = map(Requirement, requires(name) or ())
        wanted = {canonicalize_name(r.name) for r in needed if not r.marker or r.marker.evaluate({"extra": ""})}
        waiting |= wanted - seen
    return seen


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_the_environments_of_jobs_have_the_locked_versions(path):
    pins = pins_of(path)
    assert pins and {pin.lower() for pin in pins} <= LOCK


def test_every_rule_with_a_script_has_an_environment():
    stages = set.union(*map(stages_of, ENVIRONMENTS))
    assert stages == {
        name for path in Path("workflow/scripts").glob("*.py") for name in STAGE.findall(path.read_text())
    }


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_the_environments_of_jobs_have_all_that_their_stages_import(path):
    modules = {"stratalaw.jobs.run", "stratalaw.jobs.stages", *imports_of_stages(stages_of(path))}
    installed, distributions = installed_with(pins_of(path)), packages_distributions()
    missing = {
        package
        for package in packages_imported(modules)
        if not installed & {canonicalize_name(name) for name in distributions[package]}
    }
    assert missing == set()
