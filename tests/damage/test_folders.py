"""``stratalaw compare``: two folders of scores, or of lm-eval's results with samples."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.damage.folders import compare_folders, read_scored
from stratalaw.damage.table import ALL, DamageError
from stratalaw.layout import Results
from stratalaw.models.allocation import write_allocation
from stratalaw.models.folder import copy_model
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.seals import Seal, SealError, write_table
from stratalaw.study.variants import Precision, Quantization

EARLY, LATE = "2026-01-02T03-04-05.678901", "2026-01-02T03-04-06"


def write_samples(
    folder: Path,
    scores: Mapping[str, Sequence[float]],
    task: str = "arc_easy",
    time: str = EARLY,
    text: str = "item",
    kinds: Sequence[str] = ("none",),
) -> Path:
    """Samples as lm-eval writes them, an item for each filter; ``scores``: by metric."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{time}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for kind in kinds:
            for place, values in enumerate(zip(*scores.values(), strict=True)):
                # U+2028 stands in real questions, and is no end of a line.
                sample = {
                    **{"doc_id": place, "doc": {"question": f"what\u2028is {place}?"}, "target": "1"},
                    **{"arguments": {}, "resps": [], "filtered_resps": [], "filter": kind, "metrics": list(scores)},
                    **{"doc_hash": f"{text}{place}", "prompt_hash": "p", "target_hash": "t"},
                    **dict(zip(scores, values, strict=True)),
                }
                file.write(json.dumps(sample, ensure_ascii=False) + "\n")
    return path


def write_scores(folder: Path, scores: Sequence[float], stratum: str = "reasoning") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"task": "chains", "document": range(len(scores)), "score": scores})
    table.to_parquet(folder / f"{stratum}.parquet")
    return folder


def test_variants_of_a_study_are_compared_with_the_first(tmp_path):
    scores = tmp_path / "results" / "scores" / "m"
    folders = [
        write_scores(scores / "bf16", [1, 1, 1, 0]),
        write_scores(scores / "w4-g128-c8-s0", [1, 0, 1, 0]),
        write_scores(scores / "w3-g128-c8-s0", [0, 0, 0, 1]),
    ]
    table, metrics = compare_folders(folders)
    rows = table[table.benchmark == ALL].set_index("variant")
    assert (rows.model == "m").all() and (rows.original == "bf16").all() and metrics == {}
    assert rows.difference.to_dict() == {"w4-g128-c8-s0": -0.25, "w3-g128-c8-s0": -0.5}
    assert rows.lost.tolist() == [1, 3] and rows.gained.tolist() == [0, 1]
    assert rows.bytes.isna().all()  # the model is not there


@pytest.mark.parametrize("other", ["w8-g128-c8-s0", "w4-g128-c8-s0"])
def test_scores_of_another_variant_or_stratum_are_named(tmp_path, other):
    variant = tmp_path / "scores" / "m" / "w4-g128-c8-s0"
    full = write_scores(tmp_path / "scores" / "m" / "bf16", [1, 1])
    table = pd.read_parquet(full / "reasoning.parquet")
    about = {"model": "m", "variant": other, "stratum": "reasoning" if other != variant.name else "memorization"}
    write_table(table, variant / "reasoning.parquet", Seal("scores", about, {}))
    with pytest.raises(
        SealError, match=rf"reasoning.parquet: holds scores model m variant {other} .*, not scores model"
    ):
        compare_folders([full, variant])


def test_the_bytes_are_those_of_the_model_beside_the_scores(tmp_path, small_model_folder):
    results = tmp_path / "results"
    copy_model(small_model_folder, results / "models" / "m")
    folders = [write_scores(results / "scores" / "m" / name, [1, 0]) for name in ("bf16", "w4-g128-c8-s0")]
    table, _ = compare_folders(folders)
    weights = (small_model_folder / "model.safetensors").stat().st_size
    assert table.bytes_original.iloc[0] == pytest.approx(weights, rel=0.01)
    assert (table.bytes < table.bytes_original).all()


def test_the_bytes_of_mixed_bits_are_those_of_the_allocation_beside_the_weights(tmp_path, small_model_folder):
    results = Results(tmp_path / "results")
    copy_model(small_model_folder, results.model("m"))
    uniform = Quantization(4, 128, 8, 0)
    mixed = replace(uniform, exceptions=(("model.layers.0.mlp.down_proj", Precision(8, 128)),))
    names = (uniform.name, mixed.name)
    folders = [write_scores(results.root / "scores" / "m" / name, [1, 0]) for name in names]
    assert compare_folders(folders)[0].bytes.isna().all()  # the checkpoint is not there
    results.checkpoint("m", mixed.name).mkdir(parents=True)
    write_allocation(mixed, results.checkpoint("m", mixed.name))
    shapes = shapes_of_weights(small_model_folder)
    assert compare_folders(folders)[0].bytes.unique().tolist() == [shapes.weight_bytes(mixed)]


def test_variants_of_two_models_are_named_with_their_models(tmp_path):
    folders = [write_scores(tmp_path / "scores" / model / "bf16", [1, 0]) for model in ("a", "b")]
    table, _ = compare_folders(folders)
    assert table[["original", "variant"]].iloc[0].tolist() == ["a/bf16", "b/bf16"]


def test_samples_of_lm_eval_are_compared_by_task(tmp_path):
    for name, scores in (("full", [1.0, 1.0, 0.0]), ("quantized", [1.0, 0.0, 0.0])):
        write_samples(tmp_path / name, {"acc": scores})
        write_samples(tmp_path / name, {"exact_match": scores[::-1]}, task="gsm8k")
    table, metrics = compare_folders([tmp_path / "full", tmp_path / "quantized"])
    rows = table.set_index("benchmark")
    assert rows.difference.to_dict() == pytest.approx({ALL: -1 / 3, "arc_easy": -1 / 3, "gsm8k": -1 / 3})
    assert rows[["original", "variant"]].iloc[0].tolist() == ["full", "quantized"]
    assert metrics == {"arc_easy": "acc", "gsm8k": "exact_match"}


def test_of_several_files_of_a_task_the_newest_is_read_in_the_folder_of_its_model(tmp_path):
    write_samples(tmp_path / "out" / "org__model", {"acc": [0, 0]}, time=LATE)
    write_samples(tmp_path / "out" / "org__model", {"acc": [1, 1]}, time=EARLY)
    assert read_scored(tmp_path / "out").items.score.tolist() == [0, 0]


def test_the_metric_and_the_filter_can_be_chosen(tmp_path):
    write_samples(tmp_path / "a", {"acc": [1, 1], "acc_norm": [0, 1]})
    write_samples(tmp_path / "a", {"acc": [1, 0]}, task="winogrande")
    assert read_scored(tmp_path / "a").metrics == {"arc_easy": "acc", "winogrande": "acc"}
    chosen = read_scored(tmp_path / "a", "acc_norm")
    assert chosen.metrics == {"arc_easy": "acc_norm", "winogrande": "acc"}
    assert chosen.items[chosen.items.task == "arc_easy"].score.tolist() == [0, 1]
    write_samples(tmp_path / "b", {"exact_match": [1, 1]}, task="gsm8k", kinds=("strict-match", "flexible-extract"))
    assert read_scored(tmp_path / "b").metrics == {"gsm8k": "exact_match,strict-match"}
    flexible = "exact_match,flexible-extract"
    assert read_scored(tmp_path / "b", flexible).metrics == {"gsm8k": flexible}


def test_scores_that_are_no_numbers_are_passed_over(tmp_path):
    write_samples(tmp_path / "a", {"word_perplexity": [(1.0, 2)], "f1": [0.4]})
    assert read_scored(tmp_path / "a").metrics == {"arc_easy": "f1"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"scores": {"acc": [1, 0, 1]}},
            "not the same items: arc_easy: document 2 is in b and not in a (1 such items)",
        ),
        ({"scores": {"acc": [1, 0]}, "task": "piqa"}, "not the same items: arc_easy: document 0 is in a and not in b"),
        (
            {"scores": {"acc": [1, 0]}, "text": "other"},
            "not the same items: arc_easy: document 0 has another text (doc_hash) in b than in a (2 such items)",
        ),
        (
            {"scores": {"acc_norm": [1, 0]}},
            "not the same metric: arc_easy: acc in a, acc_norm in b; choose one with --metric",
        ),
    ],
)
def test_other_items_or_metrics_are_refused_in_one_line(tmp_path, other, message):
    write_samples(tmp_path / "a", {"acc": [1, 0]})
    write_samples(tmp_path / "b", **other)
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == 1 and result.output.startswith(message) and len(result.output.splitlines()) == 1


def test_what_holds_no_scores_is_refused(tmp_path):
    write_samples(tmp_path / "ok", {"acc": [1, 0]})
    with pytest.raises(DamageError, match=r"^compare takes two folders or more"):
        compare_folders([tmp_path / "ok"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamageError, match=r"empty: no scores; wanted is a folder results/scores/MODEL/VARIANT"):
        read_scored(tmp_path / "empty")
    pd.DataFrame().to_parquet(tmp_path / "empty" / "reasoning.parquet")
    with pytest.raises(DamageError, match=r"empty: no scores, since it could not be quantized"):
        read_scored(tmp_path / "empty")
    write_samples(tmp_path / "two" / "a", {"acc": [1]})
    write_samples(tmp_path / "two" / "b", {"acc": [1]})
    with pytest.raises(DamageError, match=r"two: results of several models; name one, such as "):
        read_scored(tmp_path / "two")
    with pytest.raises(DamageError, match=r"ok: no task has the metric f1; there are acc$"):
        read_scored(tmp_path / "ok", "f1")
    path = write_samples(tmp_path / "bad", {"acc": [1]})
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(DamageError, match=r"bad.*, line 2: not a sample of lm-eval \(JSONDecodeError"):
        read_scored(tmp_path / "bad")
    path.write_text(json.dumps({"doc_id": 1, "filter": "none", "metrics": ["acc"], "acc": 1}) + "\n")
    with pytest.raises(DamageError, match=r"line 1: not a sample of lm-eval \(KeyError: 'doc_hash'\)"):
        read_scored(tmp_path / "bad")


def test_the_command_shows_and_writes_the_table(tmp_path):
    generator = np.random.default_rng(0)
    full = (generator.random(200) < 0.8).astype(float)
    write_samples(tmp_path / "a", {"acc": full.tolist()})
    write_samples(tmp_path / "b", {"acc": (full * (generator.random(200) < 0.8)).tolist()})
    arguments = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "damage.csv")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    row = pd.read_csv(tmp_path / "damage.csv").set_index("benchmark").loc["arc_easy"]
    assert f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})" in result.output
    assert "b beside a" in result.output and "Scores: arc_easy: acc." in result.output


def test_the_command_loads_neither_torch_nor_matplotlib(tmp_path):
    modules = "stratalaw.cli, stratalaw.damage.folders, stratalaw.damage.memory, stratalaw.terminal.damage"
    code = f"import sys, {modules}; assert not {{'torch', 'matplotlib', 'lm_eval'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_folders_that_lm_eval_wrote_are_read(tmp_path):
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    class Guessing(LM):
        """Prefers one of the choices, another for each seed."""

        def __init__(self, seed: int) -> None:
            super().__init__()
            self.generator = np.random.default_rng(seed)

        def loglikelihood(self, requests, disable_tqdm=False):
            return [(value, False) for value in -self.generator.random(len(requests))]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

        generate_until = loglikelihood_rolling

    manager = TaskManager(include_path="ladder/benchmarks", include_defaults=False)
    expected = {}
    for seed in (0, 1):
        found = simple_evaluate(
            Guessing(seed), tasks=["ladder_paths", "ladder_questions"], task_manager=manager, limit=20, log_samples=True
        )
        samples = found.pop("samples")
        tracker = EvaluationTracker(output_path=str(tmp_path / str(seed)))
        tracker.general_config_tracker.model_name_sanitized = "guessing"
        tracker.save_results_aggregated(results=found, samples=samples)
        for task, own in samples.items():
            tracker.save_results_samples(task_name=task, samples=own)
        expected[seed] = {task: found["results"][task]["acc,none"] for task in samples}
    rows = compare_folders([tmp_path / "0", tmp_path / "1"])[0].set_index("benchmark").drop(ALL)
    assert rows.accuracy_original.to_dict() == pytest.approx(expected[0])
    assert rows.accuracy.to_dict() == pytest.approx(expected[1])
    assert (rows.n_items == 20).all()
