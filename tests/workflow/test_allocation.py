"""From two checkpoints of a finished study to an allocation between them that a study reads."""

import pandas as pd
import yaml
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.engine import log_likelihoods
from stratalaw.evaluation.answers import context_length, load_dense
from stratalaw.evaluation.blocks import ITEM
from stratalaw.evaluation.harness import GENERATION, LOGLIKELIHOOD
from stratalaw.jobs.sensitivities import asked_of
from stratalaw.jobs.verification import verify_study
from stratalaw.layout import Results
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.seals import read_table
from stratalaw.study import Study, read_study
from stratalaw.study.variants import Quantization

LOW, HIGH = "w4-g128-c4-s0", "w8-g128-c4-s0"


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_bits_are_allocated_by_measured_sensitivities(whole, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    study, results = folder / "study.yaml", Results(folder / "results")
    wanted = ["allocate", study, "--model", "q1", "--keep", "reasoning", "--out", tmp_path / "keep.yaml", "--memory"]
    unmeasured = run(*wanted, "6bits")
    assert unmeasured.exit_code == 1 and "no sensitivities of q1 were measured" in unmeasured.output
    asked = ["sensitivities", study, "--model", "q1", "--base", LOW, "--other", HIGH, "--items", 20]
    strata = list(read_study(study).evaluation.strata)
    measured = run(*asked, "--stratum", strata[0])
    assert measured.exit_code == 0, measured.output
    alone = ["allocate", study, "--model", "q1", "--keep", strata[0], "--items", 20, "--out", tmp_path / "one.yaml"]
    allocated = run(*alone, "--memory", "6bits")
    assert allocated.exit_code == 0, allocated.output
    assert "Expected shares" in allocated.output
    for memory, message in {
        "16bits": f"is enough for {HIGH}",
        "1kB": f"is less than {LOW} takes",
        "4bits": f"is what {LOW} takes, the smallest that was measured: take that as it is",
    }.items():
        at_end = run(*alone, "--memory", memory)
        assert at_end.exit_code == 1 and message in at_end.output
    senseless = run(*alone, "--memory", "6bits", "--floor", "reasoning=nan")
    assert senseless.exit_code == 1 and "a floor is a share" in senseless.output
    unasked = run(*wanted, "6bits")
    assert unasked.exit_code == 1 and "were measured for reasoning" in unasked.output
    measured = run(*asked)
    assert measured.exit_code == 0, measured.output
    path = results.sensitivities("q1", LOW, HIGH, "reasoning")
    table, seal = read_table(path, "sensitivities")
    assert {"base", "other", "model", "requests"} <= seal.made_from.keys()
    groups = table.group.unique()
    assert len(table) == 2 * len(groups)  # measured and to first order
    (verified,) = (stage for stage in verify_study(read_study(study), results) if stage.stage == "sensitivities")
    assert (verified.whole, verified.problems) == (len(strata), [])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"reasoning", b"reasonin_", 1))
    damaged = run("verify", study)
    path.write_bytes(content)
    assert damaged.exit_code == 1 and "reasoning.parquet: damaged or edited" in damaged.output
    assert "redo" not in damaged.output
    shapes = shapes_of_weights(results.model("q1"))
    low, high = (shapes.weight_bytes(Quantization.from_name(name)) for name in (LOW, HIGH))
    assert table.drop_duplicates("group").bytes.sum() == high - low

    allocated = run(*wanted, "6bits")
    assert allocated.exit_code == 0, allocated.output
    content = yaml.safe_load((tmp_path / "keep.yaml").read_text())
    plain = read_study(study).as_plain()
    plain["models"][0]["mixed"] = [{"allocation": content, "calibration_size": [4]}]
    (variant,) = (name for _, name in Study(**plain).variant_names() if name.startswith("mixed"))
    mixed = Study(**plain).quantization_of("q1", variant)
    assert low < shapes.weight_bytes(mixed) <= (low + high) / 2


def test_of_written_items_those_are_asked_that_the_original_writes_right(whole, folder, monkeypatch):
    monkeypatch.chdir(folder)
    study, results = read_study(folder / "study.yaml"), Results(folder / "results")
    asked = pd.concat([asked_of(study, "q1", stratum, results) for stratum in study.evaluation.strata])
    assert set(asked.kind) == {GENERATION, LOGLIKELIHOOD}
    written = asked[asked.kind == GENERATION]
    tables = [read_table(results.scores("q1", "bf16", stratum), "scores")[0] for stratum in study.evaluation.strata]
    scores = pd.concat(tables)
    right = scores[(scores.score > 0) & scores.task.isin(written.task)]
    assert set(written[ITEM].itertuples(index=False, name=None)) == set(right[ITEM].itertuples(index=False, name=None))
    model = load_dense(results.model("q1"), "cpu")
    limits = {"tokens_per_batch": 4096, "max_length": context_length(results.model("q1"))}
    again = log_likelihoods(model, written.context.tolist(), written.continuation.tolist(), **limits)
    assert again.is_greedy.all()


def test_what_makes_no_sense_is_one_line(whole, folder, monkeypatch):
    monkeypatch.chdir(folder)
    asked = ["sensitivities", "study.yaml", "--model", "q1", "--base"]
    for arguments, said in (
        ([*asked, HIGH, "--other", LOW, "--other", LOW], f"{LOW} and {LOW} have the same bits and group size"),
        ([*asked, HIGH, "--other", LOW, "--stratum", "x"], "x is not one of"),
        ([*asked, "bf16", "--other", LOW], "'bf16' is not the name of a uniform variant"),
        ([*asked, "w2-g128-c4-s0", "--other", LOW], "w2-g128-c4-s0 holds no checkpoint"),
        (["allocate", "study.yaml", "--model", "q1", "--memory", "6bits"], "give --keep"),
        (["allocate", "study.yaml", "--model", "q1", "--memory", "6bits", "--keep", "x"], "x is not one of"),
        (["allocate", "study.yaml", "--model", "q1", "--memory", "much", "--keep", "reasoning"], "--memory much"),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 1 and said in refused.output and refused.output.count("\n") == 1, refused.output
