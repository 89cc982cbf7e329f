"""A finished study of one variant, made by the stages that exporting needs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stratalaw.damage.table import damage_of_study
from stratalaw.layout import Results
from stratalaw.models.folder import copy_model, manifest_seal
from stratalaw.quantization.gptq import quantize
from stratalaw.seals import Seal, write_table
from stratalaw.study import Study
from stratalaw.study.variants import Quantization

VARIANT = Quantization(4, 32, 8, 0)
TASKS = {"memorization": "ladder_biographies", "reasoning": "ladder_paths"}


@pytest.fixture(scope="session")
def study(small_model_folder) -> Study:
    return Study.model_validate(
        {
            "name": "one",
            "models": [{"name": "q3", "source": str(small_model_folder), "family": "ladder"}],
            "grids": [{"bits": [4], "group_size": [32], "calibration_size": [8]}],
            "calibration": {"corpus": "ladder/calibration.jsonl", "tokens": 256},
            "evaluation": {
                "tasks_folder": "ladder/benchmarks",
                "strata": {name: [{"task": task, "chance": 0.25}] for name, task in TASKS.items()},
            },
        }
    )


@pytest.fixture(scope="session")
def results(study, small_model_folder, calibration, tmp_path_factory) -> Results:
    found = Results(tmp_path_factory.mktemp("export") / "results")
    copy_model(small_model_folder, found.model("q3"))
    made_from = {"model": manifest_seal(found.model("q3")).digest}
    quantize(
        found.model("q3"),
        found.checkpoint("q3", VARIANT.name),
        VARIANT,
        calibration,
        study.gptq,
        made_from=made_from,
    )
    random = np.random.default_rng(0)
    items = [
        {
            "model": "q3",
            "variant": variant,
            "stratum": stratum,
            "task": task,
            "document": document,
            "score": float(score),
        }
        for stratum, task in TASKS.items()
        for variant, share in (("bf16", 0.7), (VARIANT.name, 0.6))
        for document, score in enumerate(random.random(200) < share)
    ]
    seal = Seal("damage", {"study": study.name}, {})
    write_table(damage_of_study(pd.DataFrame(items), {}), found.of_study(study.name, "damage.parquet"), seal)
    return found


@pytest.fixture(scope="session")
def exported(study, results) -> Path:
    from stratalaw.export.folder import export

    folder = results.root.parent / "out"
    export(study, f"q3/{VARIANT.name}", folder, results)
    return folder
