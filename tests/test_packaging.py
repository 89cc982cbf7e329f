"""The package as users install it: the light one for laptops, which has no torch, and what the extra adds."""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stratalaw.models.shipped import shipped_models
from tests.test_environments import installed_with

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# transformers imports accelerate to load a model onto a device.
RUN_NOT_IMPORTED = {"accelerate"}
STUDY = ROOT / "docs" / "studies" / "ladder"


def names_of(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


BASE = names_of(PROJECT["dependencies"])
PIPELINE = names_of(PROJECT["optional-dependencies"]["pipeline"])


def imported_distributions() -> set[str]:
    """The distributions of all packages that the library imports, within functions too."""
    nodes = [node for path in (ROOT / "src").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"stratalaw"}
    distributions = packages_distributions()
    return {canonicalize_name(distributions[package][0]) for package in packages}


def test_all_that_is_imported_is_declared_and_nothing_else():
    assert imported_distributions() == (BASE | PIPELINE) - RUN_NOT_IMPORTED


def test_the_lock_has_all_that_is_declared():
    lock = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    test = PROJECT["optional-dependencies"]["test"]
    assert BASE | PIPELINE | names_of(test) - {"stratalaw"} <= names_of(lock)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, folder], check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_everything_that_is_no_code(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "stratalaw").rglob("*")
        if path.suffix in (".css", ".csv", ".html", ".js", ".json") or path.name == "py.typed"
    }
    some = ("py.typed", "report/explorer.html", "cost/rates.csv", "models/shipped.json")
    assert {f"stratalaw/{name}" for name in some} <= data <= names


@pytest.fixture(scope="module")
def light(wheel, tmp_path_factory) -> Path:
    """The programs of an environment that has the wheel and what its base dependencies bring, and nothing else.

    The dependencies are those of this environment, linked, so that no network is needed; pip checks that none lacks.
    """
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in installed_with(sorted(BASE)):
        files = distribution(name).files or ()
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution(name).locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-index"]
    subprocess.run([*pip, wheel], check=True)
    return folder / "bin"


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "200"}
    return subprocess.run([program, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def laws(light, tmp_path_factory) -> Path:
    """Laws that the light installation fitted to a part of the ladder study."""
    folder = tmp_path_factory.mktemp("laws")
    with (STUDY / "observations.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["stratum"] == "reasoning"]
    wanted = [
        row
        for row in rows
        if row["variant"] == "bf16" or "-g32-c8-" in row["variant"] or "-g128-c128-" in row["variant"]
    ]
    with (folder / "observations.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(wanted)
    fitted = run(
        *(light / "stratalaw", "fit", folder / "observations.csv", "--resamples", 100),
        *("--form", "paper", "--out", folder / "out"),
    )
    assert fitted.returncode == 0, fitted.stderr
    assert (folder / "out" / "predicted.svg").exists()
    return folder / "out" / "laws.json"


def test_the_light_installation_has_no_torch(light):
    assert "ModuleNotFoundError: No module named 'torch'" in run(light / "python", "-c", "import torch").stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "{laws}"], "reasoning"),
        (["predict", "--laws", "{laws}", "--n-params", "1e6", "--bits", "3"], "w3-g128-c128-s0"),
        (["plan", ROOT / "config" / "ladder.yaml", "--laws", "{laws}", "--memory", "4MB"], "Memory"),
        (
            [
                *("select", ROOT / "config" / "ladder.yaml", "--laws", "{laws}"),
                *("--seconds", STUDY / "seconds.csv", "--gpu-hours", "0.5"),
            ],
            "variants, 0.",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_laws_are_shown_and_planned_with_in_the_light_installation(light, laws, arguments, expected):
    done = run(light / "stratalaw", *(str(argument).format(laws=laws) for argument in arguments))
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_a_model_is_planned_for_by_name_and_by_its_configuration_in_the_light_installation(light, tmp_path):
    config = dict(shipped_models()["Qwen/Qwen3-8B"].config) | {"rms_norm_eps": 1e-6}
    (tmp_path / "Qwen3-8B").mkdir()
    (tmp_path / "Qwen3-8B" / "config.json").write_text(json.dumps(config))
    by_name, by_folder = (
        run(light / "stratalaw", "plan", model, "--memory", "8GB") for model in ("Qwen/Qwen3-8B", tmp_path / "Qwen3-8B")
    )
    assert by_name.returncode == by_folder.returncode == 0, by_name.stderr + by_folder.stderr
    (chosen,) = re.findall("^Choose .*$", by_name.stdout, flags=re.MULTILINE)
    assert chosen in by_folder.stdout


def test_variants_are_compared_in_the_light_installation(light, tmp_path):
    folders = [tmp_path / "scores" / "small" / name for name in ("bf16", "w3-g128-c32-s0")]
    for folder, period in zip(folders, (3, 4), strict=True):
        folder.mkdir(parents=True)
        rows = [{"task": "arc_easy", "document": i, "score": float(i % period > 0)} for i in range(200)]
        pd.DataFrame(rows).to_parquet(folder / "reasoning.parquet")
    done = run(light / "stratalaw", "compare", *folders)
    assert done.returncode == 0, done.stderr
    assert "arc_easy" in done.stdout or "reasoning" in done.stdout


@pytest.mark.parametrize("command", ["pin", "preflight", "cost", "resume", "redo"])
def test_a_command_of_the_pipeline_says_how_to_install_it(light, command):
    study = ROOT / "config" / "ladder.yaml"
    arguments = {"resume": [], "redo": [study, "ladder"]}.get(command, [study])
    done = run(light / "stratalaw", command, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("this command needs ")
    assert done.stderr.endswith("which is not installed: pip install 'stratalaw[pipeline]'\n")
    assert done.stderr.count("\n") == 1
