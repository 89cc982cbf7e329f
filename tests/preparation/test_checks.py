"""What a study needs is checked before anything runs."""

from pathlib import Path

import pytest

from stratalaw.preparation.checks import check_inputs
from stratalaw.study import Checkpoint, StudyError, read_study

DEMO = read_study(Path("config/demo.yaml"))


def changed(section: str, **values):
    return DEMO.model_copy(update={section: getattr(DEMO, section).model_copy(update=values)})


def test_the_demo_has_all_it_needs():
    check_inputs(DEMO, "config/demo.yaml")


def test_a_missing_model_is_named():
    model = DEMO.models[0].model_copy(update={"source": "ladder/models/r9"})
    with pytest.raises(StudyError, match=r"^s\.yaml: models\.0\.source: there is no folder ladder/models/r9$"):
        check_inputs(DEMO.model_copy(update={"models": [model]}), "s.yaml")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/at/all", r"models\.0\.checkpoints\.0\.source: there is no folder or file nowhere/at/all$"),
        (
            "some/one",
            r"there is no folder or file some/one; if it is a repository of the Hub, run: stratalaw pin s\.yaml",
        ),
        ("ladder/models/q1", r"ladder/models/q1: its config\.json has no quantization_config: it is not quantized"),
    ],
)
def test_a_checkpoint_that_cannot_be_scored_is_named(source, message):
    checkpoint = Checkpoint(name="mine", source=source)
    model = DEMO.models[0].model_copy(update={"checkpoints": [checkpoint]})
    with pytest.raises(StudyError, match=message):
        check_inputs(DEMO.model_copy(update={"models": [model]}), "s.yaml")


def test_a_model_without_a_tokenizer_is_named(tmp_path, small_model_folder):
    for path in small_model_folder.iterdir():
        if not path.name.startswith("tokenizer"):
            (tmp_path / path.name).symlink_to(path)
    model = DEMO.models[0].model_copy(update={"source": str(tmp_path)})
    with pytest.raises(StudyError, match=rf"^s\.yaml: {tmp_path}: no tokenizer"):
        check_inputs(DEMO.model_copy(update={"models": [model]}), "s.yaml")


def test_a_model_that_gptqmodel_cannot_quantize_is_named(tmp_path, small_model_folder):
    for path in small_model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"model_type": "qwen3"', '"model_type": "never-heard-of"'))
    model = DEMO.models[0].model_copy(update={"source": str(tmp_path)})
    with pytest.raises(
        StudyError, match=rf"^s\.yaml: {config}: gptqmodel cannot quantize models of the type never-heard"
    ):
        check_inputs(DEMO.model_copy(update={"models": [model]}), "s.yaml")


def test_a_repository_without_a_commit_is_refused_with_the_command_that_pins_it():
    models = [DEMO.models[0].model_copy(update={"source": "someone/small"})]
    expected = (
        r"^s\.yaml: models\.0: there is no folder someone/small, .* revision is missing; run: stratalaw pin s\.yaml$"
    )
    with pytest.raises(StudyError, match=expected):
        check_inputs(DEMO.model_copy(update={"models": models}), "s.yaml")
    pinned = models[0].model_copy(update={"revision": "a" * 40})
    check_inputs(DEMO.model_copy(update={"models": [pinned]}), "s.yaml")


def test_a_data_set_without_a_commit_is_refused_with_the_command_that_pins_it():
    expected = r"^s\.yaml: calibration: the revision of someone/texts is missing; run: stratalaw pin s\.yaml$"
    with pytest.raises(StudyError, match=expected):
        check_inputs(changed("calibration", dataset="someone/texts"), "s.yaml")
    check_inputs(changed("calibration", dataset="someone/texts", revision="a" * 40), "s.yaml")


def test_a_benchmark_without_a_commit_of_its_data_set_is_refused_with_the_command_that_pins_it():
    benchmark = DEMO.evaluation.strata["reasoning"][0].model_copy(update={"task": "arc_easy"})
    expected = (
        r"^s.yaml: evaluation.strata.reasoning: arc_easy: the revision of its data set allenai/ai2_arc is missing; "
        r"run: stratalaw pin s.yaml$"
    )
    with pytest.raises(StudyError, match=expected):
        check_inputs(changed("evaluation", strata={"reasoning": [benchmark]}, tasks_folder=None), "s.yaml")


def test_a_missing_corpus_is_named():
    with pytest.raises(StudyError, match=r"^s\.yaml: calibration\.corpus: there is no file c4\.jsonl$"):
        check_inputs(changed("calibration", corpus="c4.jsonl"), "s.yaml")
    with pytest.raises(StudyError, match=r"^s\.yaml: calibration\.corpora\.facts: there is no file f\.jsonl$"):
        check_inputs(changed("calibration", corpora={"facts": "f.jsonl"}), "s.yaml")


def test_an_unknown_task_is_named_with_those_that_exist():
    strata = {"reasoning": [DEMO.evaluation.strata["reasoning"][0].model_copy(update={"task": "ladder_riddles"})]}
    key = r"s\.yaml: evaluation\.strata\.reasoning: "
    expected = key + "the folder ladder/benchmarks has no task ladder_riddles; alike: .*ladder_chains"
    with pytest.raises(StudyError, match=expected):
        check_inputs(changed("evaluation", strata=strata), "s.yaml")


def test_tasks_of_lm_evals_own_registry_are_known():
    benchmark = DEMO.evaluation.strata["reasoning"][0]
    known = {"reasoning": [benchmark.model_copy(update={"task": "arc_challenge", "revision": "a" * 40})]}
    check_inputs(changed("evaluation", strata=known, tasks_folder=None), "s.yaml")


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ({"task": "arc_chalenge"}, "lm-eval has no task arc_chalenge; alike: arc_challenge"),
        ({"task": "mmlu", "metric": "exact_match"}, "the task mmlu_[a-z_]+ has no metric exact_match; allowed: acc$"),
        ({"task": "gsm8k", "metric": "exact_match"},
         "the task gsm8k needs a filter; allowed: strict-match, flexible-extract$"),
        ({"task": "gsm8k", "metric": "exact_match", "filter": "strict"},
         "the task gsm8k has no filter strict; allowed: strict-match, flexible-extract$"),
        ({"task": "arc_easy", "filter": "strict"}, "the task arc_easy has no filter strict; allowed: none$"),
    ],
)  # fmt: skip
def test_what_lm_eval_does_not_have_is_named(benchmark, message):
    benchmark = DEMO.evaluation.strata["reasoning"][0].model_copy(update=benchmark)
    evaluation = changed("evaluation", strata={"reasoning": [benchmark]}, tasks_folder=None)
    with pytest.raises(StudyError, match=rf"^s\.yaml: evaluation\.strata\.reasoning: {message}"):
        check_inputs(evaluation, "s.yaml")
