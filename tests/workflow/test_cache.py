"""With --cache and SNAKEMAKE_OUTPUT_CACHE a second working directory makes nothing twice."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, snakemake, write_study

CHECKPOINT = "results/checkpoints/q1/w4-g128-c4-s0"
TARGET = "results/scores/q1/w4-g128-c4-s0/memorization.json"
CACHED = {"models", "calibration", "requests", "checkpoints"}
TIMESTAMP = ".snakemake_timestamp"
TO_BE_MADE = re.compile(r"^Output file results/(\w+)/.* will be written to global between-workflow cache", re.MULTILINE)


def run_with_cache(cache: Path, folder: Path, *arguments: str, **environment: str) -> str:
    """What snakemake says."""
    result = snakemake(folder, TARGET, "--cache", *arguments, SNAKEMAKE_OUTPUT_CACHE=str(cache), **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    cache.chmod(0o777)
    return cache


@pytest.fixture(scope="module")
def first(cache, tmp_path_factory) -> Path:
    """The working directory that filled the cache."""
    folder = tmp_path_factory.mktemp("first")
    write_study(folder)
    run_with_cache(cache, folder)
    return folder


def test_a_second_directory_takes_what_the_first_made(cache, first, tmp_path):
    write_study(tmp_path)
    run_with_cache(cache, tmp_path)
    # Two quantizations never take the same time to the millisecond: the second folder has the first one's.
    seconds = [json.loads((folder / CHECKPOINT / "audit.json").read_text())["seconds"] for folder in (first, tmp_path)]
    assert seconds[0] == seconds[1]
    for stage in CACHED:
        files = [path for path in (tmp_path / "results" / stage).rglob("*.*") if path.name != TIMESTAMP]
        assert files
        for path in files:
            assert path.resolve().is_relative_to(cache), f"{path} was made twice"


def install(folder: Path, package: str) -> None:
    """Put a version of a package in a folder: of this library a copy with one more comment, of others a claim."""
    if package == "stratalaw":
        shutil.copytree(ROOT / "src" / "stratalaw", folder / "stratalaw")
        with (folder / "stratalaw" / "study" / "variants.py").open("a") as module:
            module.write("# A comment.\n")
    else:
        metadata = folder / f"{package}-99.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99\n")


@pytest.mark.parametrize(
    ("package", "made"),
    [
        ("none", set()),
        ("gptqmodel", {"checkpoints"}),
        ("lm_eval", {"requests"}),
        # A checkpoint rests on its calibration set.
        ("numpy", {"calibration", "checkpoints"}),
        ("stratalaw", CACHED),
    ],
)
def test_another_version_takes_nothing_that_the_former_one_made(cache, first, tmp_path, package, made):
    folder, other = tmp_path / "run", tmp_path / "other"
    folder.mkdir()
    write_study(folder)
    install(other, package)
    assert set(TO_BE_MADE.findall(run_with_cache(cache, folder, "-n", PYTHONPATH=str(other)))) == made
    # What is finished in the folder of the former version stays.
    assert "Nothing to be done" in run_with_cache(cache, first, "-n", PYTHONPATH=str(other))
