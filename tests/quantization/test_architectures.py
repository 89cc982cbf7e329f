"""Every architecture of the documentation's table through the whole chain, in processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTED = ROOT / "docs" / "reference" / "architectures.md"
BITS = 3  # the hardest to pack
ROUNDING = 0.5  # relative; a weight in another's place is off by the square root of 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("architectures")


@pytest.fixture(scope="module")
def found(folder) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks" / "architectures.py"), str(folder), str(BITS)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    (folder / "table.md").write_text(ran.stdout)
    return json.loads((folder / "architectures.json").read_text())


def test_the_documented_table_is_what_happens(folder, found):
    documented, seen = (
        [line for line in path.read_text().splitlines() if line.startswith("|")]
        for path in (DOCUMENTED, folder / "table.md")
    )
    assert documented == seen


def test_most_architectures_are_quantized_and_scored(found):
    accepted = [name for name, row in found.items() if "refused" not in row]
    assert len(accepted) >= 24
    assert {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe"} <= set(accepted)


def test_answers_are_those_of_lm_eval(found):
    for name, row in found.items():
        if "refused" not in row:
            assert row["float32"] < 1e-4, name
            # In bf16 a rounding error may send a token to another expert.
            assert row["bfloat16"] < 0.05 or row["has_experts"], name


def test_every_weight_is_in_its_place(found):
    for name, row in found.items():
        for error in row.get("errors", {}).values():
            assert 0 < error < ROUNDING, name
