"""The cost of a study: of the paper's, of one that was partly run, and as a user asks for it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from transformers import Qwen3Config
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.cost.estimate import cost_of
from stratalaw.cost.rates import CPU, rates_of
from stratalaw.layout import Results
from stratalaw.preparation.preflight import preflight
from stratalaw.seals import Seal, write_record
from stratalaw.study import read_study
from stratalaw.study.variants import BASELINE_NAME
from tests.hub_server import HubRepository

SIZES = {"small": (1024, 3072, 8), "large": (2048, 6144, 16)}  # hidden size, intermediate size, layers
NETWORK = 1e8


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    """A study of two models of which there is only a configuration: 24 variants and 2 baselines."""
    folder = tmp_path_factory.mktemp("study")
    for name, (hidden, intermediate, layers) in SIZES.items():
        Qwen3Config(
            vocab_size=1000, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
            num_attention_heads=16, num_key_value_heads=8, head_dim=64,
        ).save_pretrained(folder / name)  # fmt: skip
    study = {
        "name": "two",
        "models": [{"name": name, "source": str(folder / name), "family": "qwen3"} for name in SIZES],
        "grids": [{"bits": [2, 3, 4], "group_size": [32, 128], "calibration_size": [8, 128]}],
        "calibration": {"corpus": "c.jsonl", "tokens": 2048},
        "evaluation": {
            "items": 1000,
            "strata": {
                "memorization": [{"task": "triviaqa", "shots": 5, "chance": 0}],
                "reasoning": [{"task": "arc_easy", "chance": 0.25}],
            },
        },
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def estimate(study_file: Path, folder: Path, **options):
    return cost_of(read_study(study_file), str(study_file), NETWORK, results=Results(folder), **options)


def pretend_to_have_run(folder: Path, seconds: pd.DataFrame, device: str, strata=("memorization", "reasoning")) -> None:
    """Leave behind what jobs leave behind: audits and benchmark files."""
    results = Results(folder)
    for row in seconds.itertuples():
        if row.variant != BASELINE_NAME:
            checkpoint = results.checkpoint(row.model, row.variant)
            checkpoint.mkdir(parents=True)
            audit = {"seconds": row.checkpoints, "device": device}
            write_record(audit, checkpoint / "audit.json", Seal("checkpoint", {"variant": row.variant}, {}))
        for stage, took in (("answers", row.answers), ("scores", row.scores)):
            write(results.timing(stage, f"{row.model}/{row.variant}"), f"s\th:m:s\n{took}\t0:00:00\n")
        for stratum in strata:
            for file in (results.answers, results.scores, results.accuracies):
                write(file(row.model, row.variant, stratum), "")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_gpu_hours_are_the_sum_of_the_jobs_and_bound_the_wall_time(study_file, tmp_path):
    found = estimate(study_file, tmp_path)
    assert len(found.variants) == 26
    assert found.device == rates_of().device and found.runs == 0 and found.is_estimated
    assert (found.variants[found.variants.variant == BASELINE_NAME].checkpoints == 0).all()
    for schedule in found.schedules:
        assert schedule.busy_seconds == pytest.approx(found.gpu_seconds)
        assert schedule.makespan >= max(found.gpu_seconds / schedule.workers, found.shortest)
    assert [schedule.workers for schedule in found.schedules] == [1, 2, 4, 8, 16, 32, 64]
    assert found.schedules[-1].makespan < found.schedules[0].makespan


def test_the_papers_study_needs_neither_a_network_nor_a_pin(hub):
    result = CliRunner().invoke(app, ["cost", "config/config.yaml"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    (together,) = (line.split() for line in result.output.splitlines() if line.startswith(" all "))
    assert together[1] == "293"
    assert "Note: the shapes of qwen3-0.6b, " in result.output and "shipped with stratalaw" in result.output
    assert hub.requests == []


def test_models_that_are_not_pinned_are_downloaded_too(hub, tmp_path):
    study = read_study(Path("config/smollm2.yaml"))
    pinned = study.model_copy(update={"models": [m.model_copy(update={"revision": "a" * 40}) for m in study.models]})
    made = [cost_of(each, "", NETWORK, results=Results(tmp_path)) for each in (study, pinned)]
    assert made[0].schedules == made[1].schedules
    assert made[0].shipped == ["smollm2-135m", "smollm2-360m", "smollm2-1.7b"]


def test_more_of_anything_takes_longer(study_file, tmp_path):
    table = estimate(study_file, tmp_path).variants.set_index(["model", "variant"])
    assert table.checkpoints["large", "w4-g128-c8-s0"] > table.checkpoints["small", "w4-g128-c8-s0"]
    assert table.checkpoints["small", "w4-g128-c128-s0"] > table.checkpoints["small", "w4-g128-c8-s0"]
    assert table.answers["large", "bf16"] > table.answers["small", "bf16"]


def test_preflight_and_cost_say_the_same_of_a_variant(study_file, tmp_path, monkeypatch):
    table = estimate(study_file, tmp_path).variants.set_index(["model", "variant"])
    for checkpoint in preflight(read_study(study_file), "s.yaml", 80e9).checkpoints:
        row = table.loc[(checkpoint.model, checkpoint.quantization.name)]
        assert checkpoint.gpu_seconds == pytest.approx(row.checkpoints + row.answers)


def test_the_reference_toolchain_takes_longer(study_file, tmp_path):
    table = estimate(study_file, tmp_path).variants
    quantized = table[table.variant != BASELINE_NAME]
    assert (
        quantized.reference_checkpoints + quantized.reference_answers > quantized.checkpoints + quantized.answers
    ).all()


def test_what_was_run_is_counted_as_it_was_and_the_rest_follows(study_file, tmp_path):
    """A GPU half as fast as the measured one, of which a third of the jobs were run: the rest is predicted."""
    rng = np.random.default_rng(0)
    before = estimate(study_file, tmp_path / "empty").variants
    start = rates_of().seconds("start")
    true = before.assign(
        checkpoints=[2 * (row.checkpoints - start) * rng.lognormal(0, 0.1) for row in before.itertuples()],
        answers=2 * before.answers * rng.lognormal(0, 0.1, len(before)),
        scores=2 * before.scores,
    )
    run = true.iloc[::3]
    pretend_to_have_run(tmp_path, run, "NVIDIA GeForce of tomorrow")
    found = estimate(study_file, tmp_path)
    assert found.device == "NVIDIA GeForce of tomorrow"
    assert found.runs == 2 * len(run) + (run.variant != BASELINE_NAME).sum()
    rest = found.variants.iloc[[i for i in range(len(before)) if i % 3]]
    quantized = rest[rest.variant != BASELINE_NAME]
    assert (quantized.checkpoints - start).sum() == pytest.approx(true.loc[quantized.index].checkpoints.sum(), rel=0.1)
    assert rest.answers.sum() == pytest.approx(true.loc[rest.index].answers.sum(), rel=0.1)
    assert found.variants.answers.iloc[::3].tolist() == pytest.approx(run.answers.tolist())
    left = rest.answers.sum() + quantized.checkpoints.sum()
    assert found.schedules[0].busy_seconds == pytest.approx(left)


def test_runs_on_another_device_than_the_wanted_one_say_nothing(study_file, tmp_path):
    before = estimate(study_file, tmp_path).variants
    pretend_to_have_run(tmp_path, before.assign(answers=1e6), CPU)
    assert estimate(study_file, tmp_path).device == CPU
    wanted = estimate(study_file, tmp_path, device=rates_of().device)
    pd.testing.assert_frame_equal(wanted.variants, before)
    assert wanted.runs == 0


def test_models_are_downloaded_one_after_the_other_before_their_jobs(hub, study_file, tmp_path):
    study = read_study(study_file)
    pinned = [model.model_copy(update={"revision": "a" * 40}) for model in study.models]
    names = []
    for i, model in enumerate(pinned):
        name = f"someone/{model.name}"
        names.append(model.model_copy(update={"source": name}))
        configuration = (Path(study.models[i].source) / "config.json").read_bytes()
        hub.repositories[f"models/{name}"] = HubRepository("a" * 40, {"config.json": configuration})
    remote = study.model_copy(update={"models": names})
    slow = cost_of(remote, "s.yaml", 1e6, results=Results(tmp_path), workers=[64])
    bytes_of_all = sum(slow.model_bytes.values())
    assert slow.schedules[0].makespan > bytes_of_all / 1e6
    fast = cost_of(remote, "s.yaml", 1e12, results=Results(tmp_path), workers=[64])
    assert slow.schedules[0].makespan - fast.schedules[0].makespan > 0.5 * bytes_of_all / 1e6
    assert dict(hub.fetched()) == {"config.json": 4}


def run(*arguments):
    return CliRunner().invoke(app, ["cost", *map(str, arguments)], env={"COLUMNS": "100"})


def test_a_user_sees_hours_disk_and_wall_time(study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(study_file, "--gpus", 6)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 100
    for shown in (
        "small",
        "large",
        "GPU-hours on",
        "GB of disk",
        "Reference toolchain",
        "utilization",
        "longest chain",
    ):
        assert shown in result.output, shown
    assert any(line.split()[:1] == ["6"] for line in lines)
    assert any(line.split()[:2] == ["all", "24"] for line in lines)


def test_without_a_gpu_cores_are_counted(study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(study_file, "--device", "cpu")
    assert "core-hours on cpu" in result.output and "Reference toolchain" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--device", "abacus"], "no rates were measured on abacus"), (["absent.yaml"], "there is no such file")],
)
def test_mistakes_are_one_line(study_file, arguments, message):
    result = run(*([study_file, *arguments] if arguments[0].startswith("--") else arguments))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr


@pytest.mark.parametrize("seed", range(3))
def test_the_ladder_study_is_predicted_from_a_tenth_of_it(tmp_path, seed):
    """Within 30 %: seconds of a real run, twenty jobs at a time on two GPUs and 32 cores, with libraries loaded."""
    study_file = Path("config/ladder.yaml")
    real = pd.read_csv("docs/studies/ladder/seconds.csv")
    real = real[real.answers.lt(8) & real.scores.lt(8)]
    run = real.sample(frac=0.1, random_state=seed)
    rates = rates_of("h100")
    pretend_to_have_run(tmp_path, run, rates.device)
    found = estimate(study_file, tmp_path).variants
    rest = real[~real.index.isin(run.index)].merge(found, on=["model", "variant"], suffixes=("", "_predicted"))
    assert len(rest) == len(real) - len(run) > 600
    stages = ["checkpoints", "answers", "scores"]
    predicted = rest[[f"{stage}_predicted" for stage in stages]].to_numpy().sum()
    starts = len(rest) * rates.seconds("start")  # which audits do not count
    assert predicted == pytest.approx(rest[stages].to_numpy().sum() + starts, rel=0.3)
