"""Models of architectures that no test covers are rehearsed before the first job, once for each structure."""

import json
import math
import sys
from pathlib import Path

import pytest

from stratalaw.layout import Results
from stratalaw.preparation.preflight import preflight
from stratalaw.preparation.rehearsals import rehearsals, variants_to_rehearse
from stratalaw.study import Model, Study, read_study
from stratalaw.study.variants import Precision, Quantization
from stratalaw.terminal.preparation import show_preflight

DEMO = Path("config/demo.yaml")
PASSED = '{"difference": 1e-6, "parameters": 1000}'
MINICPM3 = {"model_type": "minicpm3", "hidden_size": 2560, "num_hidden_layers": 62, "rope_parameters": None}
MODEL = {"name": "new", "family": "new"}


@pytest.fixture
def study() -> Study:
    study = read_study(DEMO)
    grid = study.grids[0].model_copy(
        update={"bits": [4], "group_size": [32], "calibration_size": [8], "models": ["small", "large"]}
    )
    models = [
        Model(name=name, source=f"someone/{name}", family="new", revision="a" * 40) for name in ("small", "large")
    ]
    return study.model_copy(update={"models": models, "grids": [grid]})


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """Replaces the process that rehearses by a shell script; ``count()``: how often it ran."""

    def replace(script: str):
        path, counted = tmp_path / "chain", tmp_path / "counted"
        path.write_text(f"#!/bin/sh\necho once >> {counted}\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))
        return lambda: counted.read_text().count("once") if counted.exists() else 0

    return replace


def test_what_passed_is_kept_for_all_models_of_a_structure(study, chain, tmp_path):
    count, results = chain(f"echo '{PASSED}'"), Results(tmp_path / "results")
    configurations = {"small": MINICPM3, "large": MINICPM3 | {"hidden_size": 4096}}
    for _ in range(2):
        found = rehearsals(study, configurations, results)
        assert [one.problem for one in found] == [None, None]
        assert found[0].line == (
            "small: minicpm3 is none of the tested architectures; rehearsed with a tiny random model (w4-g32-c4-s0)"
        )
    assert count() == 1
    (kept,) = results.rehearsal("x").parent.iterdir()
    assert json.loads(kept.read_text())["parameters"] == 1000


@pytest.mark.parametrize("other", [{"tie_word_embeddings": True}, {"attention_bias": True}])
def test_another_structure_is_rehearsed_by_itself(study, chain, tmp_path, other):
    count = chain(f"echo '{PASSED}'")
    rehearsals(study, {"small": MINICPM3, "large": MINICPM3 | other}, Results(tmp_path))
    assert count() == 2


def test_other_bits_are_rehearsed_by_themselves(study, chain, tmp_path):
    count = chain(f"echo '{PASSED}'")
    for bits in ([4], [4, 3]):
        changed = study.model_copy(update={"grids": [study.grids[0].model_copy(update={"bits": bits})]})
        found = rehearsals(changed, {"small": MINICPM3}, Results(tmp_path))
    assert count() == 2
    assert found[0].variants == ("w3-g32-c4-s0", "w4-g32-c4-s0")


def test_tested_architectures_and_originals_alone_are_not_rehearsed(study, chain, tmp_path):
    count = chain(f"echo '{PASSED}'")
    assert rehearsals(study, {"small": {"model_type": "qwen3"}}, Results(tmp_path)) == []
    assert rehearsals(study.model_copy(update={"grids": []}), {"small": MINICPM3}, Results(tmp_path)) == []
    assert count() == 0


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ('echo \'{"failed": "quantizing: no such module"}\'',
         "a rehearsal with a tiny random model failed while quantizing: no such module"),
        ('echo \'{"impossible": "no small model of its configuration runs: 3 is not 4"}\'',
         "it cannot be rehearsed: no small model of its configuration runs: 3 is not 4"),
        ("echo MemoryError >&2; exit 1", "it cannot be rehearsed: its process ended without a result (MemoryError)"),
        ("sleep 60", "it cannot be rehearsed: it took more than 1 s"),
    ],
)  # fmt: skip
def test_what_fails_is_one_line_and_is_not_kept(study, chain, tmp_path, monkeypatch, script, problem):
    chain(script)
    monkeypatch.setattr("stratalaw.preparation.rehearsals.MAX_SECONDS", 1)
    (found,) = rehearsals(study, {"small": MINICPM3}, Results(tmp_path / "results"))
    assert found.problem == f"models: small: minicpm3 is none of the tested architectures, and {problem}"
    assert not (tmp_path / "results").exists()


def test_a_chain_that_works_passes(study, tmp_path):
    (found,) = rehearsals(study, {"small": MINICPM3}, Results(tmp_path))
    assert found.problem is None
    (kept,) = tmp_path.glob("rehearsals/*.json")
    assert 0 < json.loads(kept.read_text())["difference"] < 1e-4


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (PASSED, "Note: new: minicpm3 is none of the tested architectures; rehearsed with a tiny random model"),
        ('{"failed": "scoring: 3 nats"}',
         "Problem: models: new: minicpm3 is none of the tested architectures, and a rehearsal with a tiny random model "
         "failed while scoring: 3 nats."),
    ],
)  # fmt: skip
def test_preflight_rehearses(chain, tmp_path, printed, line, capsys):
    folder, path = tmp_path / "model", tmp_path / "study.yaml"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MINICPM3))
    study = read_study(DEMO).model_dump(mode="json")
    grid = study["grids"][0] | {"models": ["new"]}
    path.write_text(json.dumps(study | {"grids": [grid], "models": [MODEL | {"source": str(folder)}]}))
    chain(f"echo '{printed}'")
    show_preflight(preflight(read_study(path), str(path), math.inf, Results(tmp_path / "results")))
    assert line in " ".join(capsys.readouterr().out.split())


def test_bits_that_only_some_matrices_have_are_rehearsed_too():
    mixed = Quantization(3, 128, 8, 0, (("down", Precision(4, 64)), ("up", Precision(4, 32))))
    assert variants_to_rehearse([mixed]) == ("w3-g128-c4-s0", "w4-g32-c4-s0")
