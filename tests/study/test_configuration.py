"""A run's configuration is a study and the workflow's options, and nothing else."""

from pathlib import Path

import pytest
import yaml

from stratalaw.study import StudyError
from stratalaw.study.configuration import Options, merged, read_configuration

DEMO = yaml.safe_load(Path("config/demo.yaml").read_text())


def read(config: dict, overrides: dict | None = None):
    overrides = overrides or {}
    return read_configuration(merged(config, overrides), overrides, "demo.yaml", [Path()])


def test_options_are_told_apart_from_the_keys_of_the_study():
    study, options = read(DEMO | {"allow_missing": True, "jobs_per_gpu": 2})
    assert study.name == "demo"
    assert options == Options(allow_missing=True, jobs_per_gpu=2)


@pytest.mark.parametrize(
    ("text", "meant"), [("true", True), ("false", False), ("True", True), ("no", False), ("yes", True), ("off", False)]
)
def test_a_boolean_on_the_command_line_means_what_it_says(text, meant):
    assert read(DEMO, {"allow_missing": text})[1].allow_missing is meant


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"allow_missing": "perhaps"}, "demo.yaml: allow_missing: 'perhaps' is neither true nor false"),
        ({"warm_worker": "1"}, "demo.yaml: warm_worker: 1 is neither true nor false"),
        ({"gptq": {"symmetric": "nope"}}, "demo.yaml: gptq.symmetric: 'nope' is neither true nor false"),
        ({"gpus": "0"}, "demo.yaml: gpus: 0: input should be greater than or equal to 1"),
        ({"study": "config/ladder.yaml"}, "demo.yaml: study: neither a key of a study"),
        ({"allow_mising": "true"}, "demo.yaml: allow_mising: neither a key of a study"),
        ({"evaluation": {"item": "100"}}, "demo.yaml: evaluation.item: unknown key; allowed here: strata,"),
    ],
)
def test_what_is_not_used_is_refused_in_one_line(overrides, message):
    with pytest.raises(StudyError) as refused:
        read(DEMO, overrides)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_keys_of_the_study_are_overridden_one_by_one():
    overrides = {
        "evaluation": {"items": "100"},
        "grids": [{"bits": ["4"], "group_size": ["16"], "calibration_size": ["8"]}],
    }
    study, _ = read(DEMO, overrides)
    assert study.evaluation.items == 100
    assert study.evaluation.strata.keys() == DEMO["evaluation"]["strata"].keys()
    assert set(study.variants().variant) == {"bf16", "w4-g16-c8-s0"}


def test_paths_are_found_in_the_first_folder_that_has_them(tmp_path):
    study, _ = read_configuration(DEMO, {}, "demo.yaml", [tmp_path, Path.cwd()])
    assert study.models[0].source == str(Path.cwd() / "ladder" / "models" / "q3")
    (tmp_path / "ladder").mkdir()
    (tmp_path / "ladder" / "calibration.jsonl").touch()
    study, _ = read_configuration(DEMO, {}, "demo.yaml", [tmp_path, Path.cwd()])
    assert study.calibration.corpus == str(tmp_path / "ladder" / "calibration.jsonl")


@pytest.mark.parametrize(
    ("options", "run_here", "gpu_jobs", "meant"),
    [
        (Options(), True, None, (True, None)),
        (Options(), False, 500, (False, None)),
        (Options(jobs_per_gpu=3), False, 500, (False, None)),
        (Options(), True, 4, (True, 4)),
        (Options(jobs_per_gpu=3), True, 12, (True, 4)),
        (Options(gpus=2, warm_worker=False), True, 12, (False, 2)),
    ],
)
def test_jobs_on_this_machine_share_a_worker_and_its_gpus(options, run_here, gpu_jobs, meant):
    obeyed = options.for_jobs(run_here, gpu_jobs)
    assert (obeyed["warm_worker"], obeyed["gpus"]) == meant
    assert obeyed["jobs_per_gpu"] == (options.jobs_per_gpu if run_here else 1)
