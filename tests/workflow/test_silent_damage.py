"""Damage that no library would notice: each file that a later stage reads, changed, swapped, emptied or edited."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from stratalaw.jobs.verification import verify_study
from stratalaw.layout import Results
from stratalaw.study import Study, read_study

# One file of each kind, and a sibling of the same kind that is about something else.
FILES = {
    "weights of a model": ("models/q1/model.safetensors", "models/q4/model.safetensors"),
    "configuration of a model": ("models/q1/config.json", "models/q4/config.json"),
    "tokenizer": ("models/q1/tokenizer.json", None),
    "manifest": ("models/q1/manifest.json", "models/q4/manifest.json"),
    "requests": ("requests/q1/reasoning.parquet", "requests/q1/application.parquet"),
    "batches": ("requests/q1/reasoning.batches.safetensors", "requests/q1/application.batches.safetensors"),
    "documents": ("requests/q1/documents/reasoning.parquet", "requests/q1/documents/application.parquet"),
    "calibration": ("calibration/q1/s0.parquet", "calibration/q4/s0.parquet"),
    "checkpoint": ("checkpoints/q1/w4-g128-c4-s0/model.safetensors", "checkpoints/q1/w8-g128-c4-s0/model.safetensors"),
    "configuration of a checkpoint": ("checkpoints/q1/w4-g128-c4-s0/config.json", None),
    "audit": ("checkpoints/q1/w4-g128-c4-s0/audit.json", "checkpoints/q1/w8-g128-c4-s0/audit.json"),
    "answers": ("answers/q1/w4-g128-c4-s0/reasoning.parquet", "answers/q1/w8-g128-c4-s0/reasoning.parquet"),
    "scores": ("scores/q1/w4-g128-c4-s0/reasoning.parquet", "scores/q4/w4-g128-c4-s0/reasoning.parquet"),
    "observations": ("studies/demo/observations.parquet", "studies/demo/items.parquet"),
    "items": ("studies/demo/items.parquet", "studies/demo/observations.parquet"),
    "damage": ("studies/demo/damage.parquet", "studies/demo/items.parquet"),
    "laws": ("studies/demo/laws.json", None),
}
FLIPS = 10


@pytest.fixture(scope="module")
def finished(folder, whole, tmp_path_factory) -> tuple[Study, Path]:
    """The study, and a copy of its results to damage."""
    copy = tmp_path_factory.mktemp("damaged") / "results"
    # Sensitivities are measured by other tests, before these or after.
    shutil.copytree(folder / "results", copy, ignore=shutil.ignore_patterns("sensitivities"))
    return read_study(folder / "study.yaml"), copy


def problems(finished: tuple[Study, Path]) -> list[str]:
    study, results = finished
    return [problem for stage in verify_study(study, Results(results)) for problem in stage.problems]


def test_a_whole_study_has_no_problem(finished):
    assert problems(finished) == []
    stages = {stage.stage: stage.whole for stage in verify_study(finished[0], Results(finished[1]))}
    assert stages == {
        "models": 2, "requests": 18, "calibration": 2, "checkpoints": 4, "answers": 18, "scores": 18,
        "observations": 2, "damage": 1, "laws": 1,
    }  # fmt: skip


def damaged(finished: tuple[Study, Path], file: str, damage: Callable[[bytes], bytes]) -> list[str]:
    path = finished[1] / file
    whole = path.read_bytes()
    try:
        path.write_bytes(damage(whole))
        return problems(finished)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", FILES)
def test_flipped_bits_are_named(finished, kind):
    file, _ = FILES[kind]
    rng = np.random.default_rng(len(kind))
    for place in rng.integers(0, 8 * (finished[1] / file).stat().st_size, FLIPS):

        def flip(content: bytes, place: int = int(place)) -> bytes:
            return content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]

        found = damaged(finished, file, flip)
        assert any(file in problem for problem in found), (kind, place, found)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b""], ids=["cut", "emptied"]
)
def test_a_file_that_was_cut_or_emptied_is_named(finished, kind, damage):
    assert any(FILES[kind][0] in problem for problem in damaged(finished, FILES[kind][0], damage))


@pytest.mark.parametrize("kind", [kind for kind, (_, sibling) in FILES.items() if sibling])
def test_a_file_of_a_sibling_is_named(finished, kind):
    file, sibling = FILES[kind]
    content = (finished[1] / sibling).read_bytes()
    assert damaged(finished, file, lambda _: content)


def test_a_whole_checkpoint_of_another_variant_or_model_is_named(finished):
    checkpoints = finished[1] / "checkpoints"
    place = checkpoints / "q1" / "w4-g128-c4-s0"
    for other in (checkpoints / "q1" / "w8-g128-c4-s0", checkpoints / "q4" / "w4-g128-c4-s0"):
        place.rename(finished[1] / "aside")
        shutil.copytree(other, place)
        found = problems(finished)
        shutil.rmtree(place)
        (finished[1] / "aside").rename(place)
        assert any("checkpoints/q1/w4-g128-c4-s0" in problem for problem in found), other


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("checkpoints/q1/w4-g128-c4-s0/audit.json", {"effective_bits": 2.0}),
        ("checkpoints/q1/w4-g128-c4-s0/audit.json", {"sha256": {}}),
        ("models/q1/manifest.json", {"sha256": {}}),
        ("studies/demo/laws.json", {"notes": []}),
    ],
)
def test_an_edited_record_is_named(finished, file, edit):
    def edited(content: bytes) -> bytes:
        return (json.dumps(json.loads(content) | edit, indent=1) + "\n").encode()

    assert any(file in problem for problem in damaged(finished, file, edited))


def test_a_source_that_changed_after_it_was_copied_is_named_whatever_its_time(finished, tmp_path):
    study, results = finished
    source = Path(shutil.copytree(study.models[0].source, tmp_path / "source"))
    content = yaml.safe_load(study.model_dump_json())
    content["models"][0]["source"] = str(source)
    moved = Study(**content)
    assert problems((moved, results)) == []
    weights = source / "model.safetensors"
    times = weights.stat()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    os.utime(weights, (times.st_atime, times.st_mtime))
    assert any(f"{weights}: is not what" in problem for problem in problems((moved, results)))
