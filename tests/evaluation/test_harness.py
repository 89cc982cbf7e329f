"""Recorded and replayed, lm-eval says what it says of its own model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from stratalaw.evaluation.answers import answer, batch_requests
from stratalaw.evaluation.blocks import SHARES, is_asked
from stratalaw.evaluation.harness import GENERATION, ROLLING, record_requests
from stratalaw.evaluation.scoring import Scorer
from stratalaw.study import Evaluation, StudyError, read_study

ITEMS, MAX_LENGTH = 40, 256
LENGTHS = {"tokens": 1, "is_cut_off": False}  # of made-up generations
LADDER = read_study(Path("config/ladder.yaml")).evaluation
# The ladder's reasoning: the benchmarks answered by a choice, and those answered by writing.
CHOSEN, WRITTEN = (
    [benchmark for benchmark in LADDER.strata["reasoning"] if benchmark.metric == metric]
    for metric in ("acc", "exact_match")
)
EVALUATION = LADDER.model_copy(update={"items": ITEMS, "strata": {"reasoning": CHOSEN}})
WRITING = LADDER.model_copy(update={"items": 8, "strata": {"writing": WRITTEN}})


@pytest.fixture(scope="module")
def tokenizer(small_model_folder):
    return AutoTokenizer.from_pretrained(small_model_folder)


@pytest.fixture(scope="module")
def requests(tokenizer) -> pd.DataFrame:
    return record_requests(tokenizer, MAX_LENGTH, EVALUATION, "reasoning")


def answers_of(requests: pd.DataFrame, folder: Path, dtype: str) -> pd.DataFrame:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return answer(
        model,
        AutoTokenizer.from_pretrained(folder),
        requests,
        batch_requests(requests, 256, 8192),
        tokens_per_batch=8192,
    )


def run_lm_eval(folder: Path, dtype: str, batch_size: int) -> tuple[np.ndarray, dict[str, float]]:
    """Log-likelihoods (in the order of the requests) and accuracies by lm-eval's own model."""
    results = simple_evaluate(
        model=HFLM(pretrained=str(folder), device="cpu", dtype=dtype, softmax_dtype="float32", batch_size=batch_size),
        tasks=[benchmark.task for benchmark in EVALUATION.strata["reasoning"]],
        task_manager=TaskManager(include_path=EVALUATION.tasks_folder, include_defaults=False),
        limit=ITEMS,
        bootstrap_iters=0,
    )
    log_likelihoods = [
        log_likelihood
        for samples in results["samples"].values()
        for sample in samples
        for log_likelihood, _ in sample["filtered_resps"]
    ]
    return np.array(log_likelihoods), {task: scores["acc,none"] for task, scores in results["results"].items()}


def accuracies(requests: pd.DataFrame, answers: pd.DataFrame) -> dict[str, float]:
    return Scorer(requests, EVALUATION, "reasoning").scores(answers).groupby("task").score.mean().to_dict()


def test_float32_scores_equal_those_of_lm_evals_own_model(small_model_folder, requests):
    answers = answers_of(requests, small_model_folder, "float32")
    log_likelihoods, expected = run_lm_eval(small_model_folder, "float32", batch_size=1)
    np.testing.assert_allclose(answers.log_likelihood, log_likelihoods, atol=1e-4)
    assert accuracies(requests, answers) == expected


def test_bfloat16_scores_differ_from_lm_evals_own_model_by_rounding_only(small_model_folder, requests):
    """Logits from 8 to 16 are multiples of 1/16 in bf16, and sums in another order move them by such steps."""
    answers = answers_of(requests, small_model_folder, "bfloat16")
    log_likelihoods, expected = run_lm_eval(small_model_folder, "bfloat16", batch_size=1)
    assert np.median(np.abs(answers.log_likelihood - log_likelihoods)) < 1e-2
    exact = answers_of(requests, small_model_folder, "float32").log_likelihood
    own_error, lm_evals_error = (np.abs(found - exact).mean() for found in (answers.log_likelihood, log_likelihoods))
    assert own_error < 1.1 * lm_evals_error
    for task, accuracy in accuracies(requests, answers).items():
        assert accuracy == pytest.approx(expected[task], abs=1 / ITEMS)


def test_every_item_has_a_score(requests):
    answers = pd.DataFrame({"log_likelihood": np.arange(len(requests), dtype=float), "is_greedy": False})
    items = Scorer(requests, EVALUATION, "reasoning").scores(answers)
    assert items.groupby("task").document.apply(sorted).tolist() == [list(range(ITEMS))] * 2
    assert items.tokens.isna().all() and items.is_cut_off.isna().all()  # nothing was generated
    # The last choice always has the highest log-likelihood here.
    labels = [json.loads(line)["label"] for line in Path("ladder/benchmarks/paths.jsonl").read_text().splitlines()]
    paths = items[items.task == "ladder_paths"].sort_values("document")
    assert paths.score.tolist() == [float(label == 4) for label in labels[:ITEMS]]


def test_the_likeliest_continuation_has_the_score_of_the_item(requests, small_model_folder):
    answers, scorer = answers_of(requests, small_model_folder, "float32"), Scorer(requests, EVALUATION, "reasoning")
    scores = scorer.scores_of_choices()
    by_item = [requests.task, requests.document]
    assert (scores.groupby(by_item).sum() == 1).all()  # one of them is right
    likeliest = answers.log_likelihood.groupby(by_item).idxmax()
    scored = scorer.scores(answers).set_index(["task", "document"]).score
    assert scores[likeliest].tolist() == scored.loc[likeliest.index].tolist()
    assert scorer.scores_of_written(answers).empty


def test_an_answer_that_is_missing_or_no_number_refuses_the_stratum(requests):
    answers = pd.DataFrame({"log_likelihood": np.zeros(len(requests)), "is_greedy": False})
    with pytest.raises(ValueError, match="reasoning: 399 answers to 400 requests"):
        Scorer(requests, EVALUATION, "reasoning").scores(answers[:-1])
    answers.loc[5, "log_likelihood"] = np.nan
    with pytest.raises(ValueError, match="ladder_arithmetic: document 1: the log-likelihood is not a number"):
        Scorer(requests, EVALUATION, "reasoning").scores(answers)


def test_tasks_that_changed_since_recording_are_noticed(requests):
    renamed = requests.assign(arguments=requests.arguments.str.replace("start", "begin"))
    answers = pd.DataFrame({"log_likelihood": np.zeros(len(requests)), "is_greedy": False})
    with pytest.raises(StudyError, match="ladder_arithmetic: document 0, request 0 has no answer"):
        Scorer(renamed, EVALUATION, "reasoning").scores(answers)


def test_an_unknown_task_is_named(tokenizer):
    evaluation = Evaluation(
        strata={"reasoning": [{"task": "ladder_riddles", "chance": 0.25}]}, tasks_folder="ladder/benchmarks"
    )
    with pytest.raises(StudyError, match="the folder ladder/benchmarks has no task ladder_riddles"):
        record_requests(tokenizer, MAX_LENGTH, evaluation, "reasoning")


@pytest.fixture
def other_kinds(tmp_path) -> Evaluation:
    """A task that generates text (stratum ``sums``) and one that asks whether whole texts are likely (``text``)."""
    rows = [{"question": f"{a} + {b} =", "answer": " ".join(str(a + b))} for a, b in ((1, 2), (7, 8), (3, 3))]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/sums.jsonl}}}}\ntest_split: test\n"
    (tmp_path / "sums.yaml").write_text(
        f"task: sums\n{common}output_type: generate_until\ndoc_to_text: question\ndoc_to_target: answer\n"
        "generation_kwargs: {until: [','], max_gen_toks: 4}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    (tmp_path / "text.yaml").write_text(
        f"task: text\n{common}output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: question\n"
        "process_results: !function likely.score\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    (tmp_path / "likely.py").write_text("def score(document, results):\n    return {'acc': float(results[0] > -9)}\n")
    return Evaluation(
        tasks_folder=str(tmp_path),
        strata={
            "sums": [{"task": "sums", "metric": "exact_match", "chance": 0}],
            "text": [{"task": "text", "chance": 0}],
        },
    )


def test_generations_and_rolling_requests_are_recorded_and_replayed(tokenizer, other_kinds):
    generations = record_requests(tokenizer, MAX_LENGTH, other_kinds, "sums")
    assert set(generations.kind) == {GENERATION}
    assert [tokenizer.decode(context) for context in generations.context] == ["1 + 2 =", "7 + 8 =", "3 + 3 ="]
    assert json.loads(generations.generation[0]) == {"stop": [",", "<end>"], "max_new_tokens": 4}
    answers = pd.DataFrame({"log_likelihood": np.nan, "is_greedy": False, "text": ["3", "1 5", "7"]})
    answers = answers.assign(tokens=[1, 2, 4], is_cut_off=[False, False, True])
    scorer = Scorer(generations, other_kinds, "sums")
    items = scorer.scores(answers)
    assert items.score.tolist() == [1, 1, 0]
    assert items.tokens.tolist() == [1, 2, 4] and items.is_cut_off.tolist() == [False, False, True]
    assert scorer.scores(answers.assign(text=["4", "1 5", "6"])).score.tolist() == [0, 1, 1]
    assert scorer.scores_of_written(answers).to_dict() == {0: 1, 1: 1, 2: 0} and scorer.scores_of_choices().empty

    rolling = record_requests(tokenizer, 2, other_kinds, "text")
    assert set(rolling.kind) == {ROLLING}
    windows = rolling[rolling.document == 0].continuation.tolist()
    assert tokenizer.decode(np.concatenate(windows)) == "1 + 2 ="


def test_windows_of_a_rolling_request_are_summed(tokenizer, other_kinds):
    requests = record_requests(tokenizer, 2, other_kinds, "text")
    windows = requests.groupby("document").size()
    assert windows.min() > 1
    scorer = Scorer(requests, other_kinds, "text")
    for each, expected in ((-8.9, [1, 1, 1]), (-9.1, [0, 0, 0])):
        answers = pd.DataFrame({"log_likelihood": each / requests.document.map(windows), "is_greedy": False})
        assert scorer.scores(answers).score.tolist() == expected


@pytest.mark.parametrize("stratum", ["sums", "writing"])  # of three made-up items, and the ladder's
def test_generations_equal_those_of_lm_evals_own_model(small_model_folder, tokenizer, other_kinds, stratum):
    evaluation = WRITING if stratum == "writing" else other_kinds
    requests = record_requests(tokenizer, MAX_LENGTH, evaluation, stratum)
    answers = answers_of(requests, small_model_folder, "float32")
    results = simple_evaluate(
        model=HFLM(pretrained=str(small_model_folder), device="cpu", dtype="float32", batch_size=1),
        tasks=[benchmark.task for benchmark in evaluation.strata[stratum]],
        task_manager=TaskManager(include_path=evaluation.tasks_folder, include_defaults=False),
        limit=evaluation.items,
        bootstrap_iters=0,
    )
    samples = [sample for samples in results["samples"].values() for sample in samples]
    assert answers.text.tolist() == [sample["resps"][0][0] for sample in samples]
    expected = [sample["exact_match"] for sample in samples]
    assert Scorer(requests, evaluation, stratum).scores(answers).score.tolist() == expected


@pytest.mark.parametrize("of_the_model", [True, False], ids=["the model's end", "the tokenizer's end"])
def test_a_generation_ends_where_lm_evals_does(small_model_folder, other_kinds, tmp_path, of_the_model):
    """The token that ends a text may be one for the tokenizer, and another for the model."""
    folder = tmp_path / "model"
    shutil.copytree(small_model_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    task = Path(other_kinds.tasks_folder) / "sums.yaml"
    task.write_text(task.read_text().replace("until: [','], max_gen_toks: 4", "until: ['no such'], max_gen_toks: 24"))
    items = Path(other_kinds.tasks_folder) / "sums.jsonl"
    items.write_text(items.read_text().replace("1 + 2 =", "sort 3 4 , 4 7 , 7 9 , 3 7 , 1 0 , 3 2 ="))  # a long answer
    requests = record_requests(tokenizer, MAX_LENGTH, other_kinds, "sums")
    unbounded = answers_of(requests, folder, "float32").text
    written = tokenizer.encode(unbounded[0], add_special_tokens=False)
    end = tokenizer.convert_ids_to_tokens(written[2])
    if of_the_model:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": written[2]}))
    else:
        tokenizer.eos_token = end
        tokenizer.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    requests = record_requests(tokenizer, MAX_LENGTH, other_kinds, "sums")
    texts = answers_of(requests, folder, "float32").text
    assert len(texts[0]) < len(unbounded[0])
    results = simple_evaluate(
        model=HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1),
        tasks=["sums"],
        task_manager=TaskManager(include_path=other_kinds.tasks_folder, include_defaults=False),
        bootstrap_iters=0,
    )
    assert texts.tolist() == [sample["resps"][0][0] for sample in results["samples"]["sums"]]


def test_a_task_that_samples_is_refused(tokenizer, other_kinds):
    task = Path(other_kinds.tasks_folder) / "sums.yaml"
    task.write_text(task.read_text().replace("max_gen_toks: 4", "max_gen_toks: 4, do_sample: true, temperature: 0.7"))
    with pytest.raises(StudyError, match="sums: it asks for sampling"):
        record_requests(tokenizer, MAX_LENGTH, other_kinds, "sums")


@pytest.mark.parametrize("argument", ["num_beams: 4", "repetition_penalty: 1.2", "no_repeat_ngram_size: 3"])
def test_a_generation_that_is_not_plainly_greedy_is_refused_by_name(tokenizer, other_kinds, argument):
    task = Path(other_kinds.tasks_folder) / "sums.yaml"
    definition = task.read_text()
    task.write_text(definition.replace("max_gen_toks: 4", f"max_gen_toks: 4, {argument}"))
    with pytest.raises(
        StudyError, match=f"sums: it asks for {argument.replace(': ', '=')}; generation is plainly greedy"
    ):
        record_requests(tokenizer, MAX_LENGTH, other_kinds, "sums")
    task.write_text(
        definition.replace("max_gen_toks: 4", "max_gen_toks: 4, num_beams: 1, top_p: 0.9, do_sample: false")
    )
    assert len(record_requests(tokenizer, MAX_LENGTH, other_kinds, "sums")) == 3


def test_a_generation_without_room_for_a_context_is_refused(tokenizer, other_kinds):
    with pytest.raises(StudyError, match=r"sums: document 0: 4 new tokens leave no room .* the model takes 4"):
        record_requests(tokenizer, 4, other_kinds, "sums")


@pytest.mark.parametrize(("chosen", "scores"), [("strict-match", [1, 0, 0]), ("flexible-extract", [1, 1, 0])])
def test_of_a_task_with_two_filters_the_one_that_the_study_names_counts(tokenizer, tmp_path, chosen, scores):
    """As gsm8k has them: lm-eval lists each item once for each filter."""
    rows = [{"question": f"{a} + {b} =", "answer": str(a + b)} for a, b in ((1, 2), (2, 3), (3, 3))]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    patterns = {"strict-match": "#### ([0-9]+)", "flexible-extract": "([0-9]+)"}
    filters = [
        {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]}
        for name, pattern in patterns.items()
    ]
    (tmp_path / "sums.yaml").write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/sums.jsonl}}}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: question\ndoc_to_target: answer\n"
        "generation_kwargs: {until: [','], max_gen_toks: 4}\n"
        f"metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]\nfilter_list: {filters}\n"
    )
    benchmark = {"task": "sums", "metric": "exact_match", "filter": chosen, "chance": 0}
    evaluation = Evaluation(tasks_folder=str(tmp_path), strata={"sums": [benchmark]})
    requests = record_requests(tokenizer, MAX_LENGTH, evaluation, "sums")
    texts = ["so it is\n#### 3", "the answer is 5", "I do not know"]
    answers = pd.DataFrame({"log_likelihood": np.nan, "is_greedy": False, "text": texts, **LENGTHS})
    items = Scorer(requests, evaluation, "sums").scores(answers)
    assert items.document.tolist() == [0, 1, 2]
    assert items.score.tolist() == scores


def test_of_several_accepted_answers_one_must_be_what_the_model_would_write(tokenizer, tmp_path):
    """As webqs has them: every choice is right, and exact_match asks whether one of them is greedy."""
    rows = [{"question": "who ?", "answers": ["b", "c"]}, {"question": "where ?", "answers": ["d"]}]
    (tmp_path / "who.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "who.yaml").write_text(
        f"task: who\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/who.jsonl}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: question\n"
        "doc_to_target: '{{range(answers|length)|list}}'\ndoc_to_choice: '{{answers}}'\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    benchmark = {"task": "who", "metric": "exact_match", "chance": 0}
    evaluation = Evaluation(tasks_folder=str(tmp_path), strata={"who": [benchmark]})
    requests = record_requests(tokenizer, MAX_LENGTH, evaluation, "who")
    assert requests.document.tolist() == [0, 0, 1]
    answers = pd.DataFrame({"log_likelihood": -1.0, "is_greedy": [False, True, False]})
    assert Scorer(requests, evaluation, "who").scores(answers).score.tolist() == [1, 0]


def test_a_task_written_in_python_is_recorded_and_scored(tokenizer, monkeypatch):
    """squad_completion, with sentences of ours instead of its data set."""
    sentences = [{"text": "The sky is", "value": "blue"}, {"text": "Grass is", "value": "green"}]
    found = DatasetDict({"validation": Dataset.from_list(sentences)})
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: found)
    benchmark = {"task": "squad_completion", "metric": "contains", "shots": 0, "chance": 0}
    evaluation = Evaluation(strata={"memorization": [benchmark]})
    requests = record_requests(tokenizer, 2 * MAX_LENGTH, evaluation, "memorization")
    assert set(requests.kind) == {GENERATION} and len(requests) == 2
    answers = pd.DataFrame({"log_likelihood": np.nan, "is_greedy": False, "text": [" Blue, mostly", " red"], **LENGTHS})
    assert Scorer(requests, evaluation, "memorization").scores(answers).score.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["sums", "arithmetic"], ids=["task", "group"])
@pytest.mark.parametrize("shots", [0, 2])
def test_the_prompt_has_as_many_examples_as_the_study_says(tokenizer, tmp_path, name, shots):
    rows = [{"question": f"{a} + 1 =", "answer": str(a + 1)} for a in range(1, 7)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.yaml").write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/sums.jsonl}}}}\n"
        "test_split: test\nfewshot_split: test\noutput_type: multiple_choice\ndoc_to_text: question\n"
        "doc_to_target: '{{answer|int - 2}}'\ndoc_to_choice: ['2', '3', '4', '5', '6', '7']\nnum_fewshot: 1\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    (tmp_path / "group.yaml").write_text("group: arithmetic\ntask: [sums]\n")
    benchmark = {"task": name, "shots": shots, "chance": 0.2}
    evaluation = Evaluation(tasks_folder=str(tmp_path), strata={"reasoning": [benchmark]})
    requests = record_requests(tokenizer, MAX_LENGTH, evaluation, "reasoning")
    assert len(requests) == 36 and set(requests.task) == {"sums"}
    contexts = [json.loads(arguments)[0] for arguments in requests.arguments]
    assert {context.count("+") for context in contexts} == {shots + 1}
    answers = pd.DataFrame({"log_likelihood": np.arange(36.0), "is_greedy": False})
    assert len(Scorer(requests, evaluation, "reasoning").scores(answers)) == 6


def test_the_items_of_a_group_are_told_apart(tokenizer, tmp_path):
    """As mmlu has them: every task of a group counts its documents from 0, and groups hold groups."""
    for task, items in (("geography", 3), ("anatomy", 2)):
        rows = [{"question": f"{a} + 1 =", "answer": a % 2} for a in range(items)]
        (tmp_path / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"{task}.yaml").write_text(
            f"task: {task}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/{task}.jsonl}}}}\n"
            "test_split: test\noutput_type: multiple_choice\ndoc_to_text: question\ndoc_to_target: answer\n"
            "doc_to_choice: ['2', '3']\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
        )
    (tmp_path / "inner.yaml").write_text("group: stem\ntask: [anatomy]\n")
    (tmp_path / "outer.yaml").write_text("group: knowledge\ntask: [geography, stem]\n")
    benchmark = {"task": "knowledge", "chance": 0.5}
    evaluation = Evaluation(tasks_folder=str(tmp_path), strata={"memorization": [benchmark]})
    requests = record_requests(tokenizer, MAX_LENGTH, evaluation, "memorization")
    assert len(requests) == 2 * 5
    # The first choice is the likelier one: every even document is right.
    answers = pd.DataFrame({"log_likelihood": -1.0 - requests.choice, "is_greedy": False})
    scorer = Scorer(requests, evaluation, "memorization")
    items = scorer.scores(answers)
    assert items.document.tolist() == [0, 1, 2, 3, 4] and set(items.task) == {"knowledge"}
    assert items.score.tolist() == [1, 0, 1, 0, 1]  # anatomy, then geography
    assert scorer.benchmark_of() == {"anatomy": "knowledge", "geography": "knowledge"}
    named = scorer.named_requests().drop_duplicates(["task", "document"])
    assert set(zip(named.task, named.document, strict=True)) == set(zip(items.task, items.document, strict=True))
    assert named.context.iloc[0] is requests.context[0] and named.document[requests.task == "geography"].min() == 2
    geography = answers[requests.task == "geography"]
    geography.attrs[SHARES] = {"anatomy": 0.0, "geography": 1.0}
    assert scorer.scores(geography)[["document", "score"]].values.tolist() == [[2, 1], [3, 0], [4, 1]]


@pytest.fixture
def loads(monkeypatch) -> list[tuple[str, dict]]:
    """Data sets that lm-eval loads, with the options; one of the Hub is made up."""
    import datasets

    seen, load = [], datasets.load_dataset

    def load_dataset(path, name=None, **options):
        seen.append((path, options))
        if path == "someone/questions":
            return DatasetDict(test=Dataset.from_list([{"question": "1 + 2 =", "answer": "3"}]))
        return load(path, name, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return seen


@pytest.mark.parametrize("path", ["someone/questions", "json"])
def test_data_sets_of_the_hub_are_those_of_the_commit(tokenizer, other_kinds, loads, path):
    task = Path(other_kinds.tasks_folder) / "sums.yaml"
    if path != "json":
        lines = task.read_text().splitlines(keepends=True)
        lines = [line for line in lines if not line.startswith("dataset_kwargs")]
        task.write_text("".join(lines).replace("dataset_path: json", f"dataset_path: {path}"))
    commit = "c" * 40
    pinned = {"task": "sums", "metric": "exact_match", "chance": 0, "revision": commit}
    evaluation = Evaluation(tasks_folder=other_kinds.tasks_folder, strata={"sums": [pinned]})
    requests = record_requests(tokenizer, MAX_LENGTH, evaluation, "sums")
    answers = pd.DataFrame({"log_likelihood": np.nan, "is_greedy": False, "text": ["3"] * len(requests), **LENGTHS})
    Scorer(requests, evaluation, "sums").scores(answers)
    assert len(loads) == 2  # recorded, and replayed
    assert [options.get("revision") for _, options in loads] == [commit if path != "json" else None] * 2


CHAT = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
PROMPTINGS = [
    {"chat_template": True},
    {"chat_template": True, "fewshot_as_multiturn": False},
    {"chat_template": True, "system_instruction": "Be brief."},
    {"system_instruction": "Be brief."},
]


@pytest.fixture
def conversation(tmp_path, small_model_folder) -> tuple[Path, Path]:
    """A model whose tokenizer has a chat template, and a folder with a task of choices and one of generations."""
    model, tasks = tmp_path / "model", tmp_path / "tasks"
    shutil.copytree(small_model_folder, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(model)
    tasks.mkdir()
    rows = [{"question": f"{a} + 1 =", "answer": str(a + 1), "label": a - 1} for a in range(1, 5)]
    (tasks / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = (
        f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {tasks}/sums.jsonl}}}}\ntest_split: test\n"
        "fewshot_split: test\nnum_fewshot: 1\ndoc_to_text: question\n"
    )
    (tasks / "choose.yaml").write_text(
        f"task: choose\n{common}output_type: multiple_choice\ndoc_to_target: label\n"
        "doc_to_choice: ['2', '3', '4', '5']\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    (tasks / "write.yaml").write_text(
        f"task: write\n{common}output_type: generate_until\ndoc_to_target: answer\n"
        "generation_kwargs: {until: ['['], max_gen_toks: 6}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return model, tasks


@pytest.mark.parametrize("prompting", PROMPTINGS, ids=["turns", "one turn", "system", "no template"])
def test_prompts_are_written_by_the_chat_template_as_lm_eval_writes_them(conversation, prompting):
    folder, tasks = conversation
    benchmarks = [
        {"task": "choose", "chance": 0.25, **prompting},
        {"task": "write", "metric": "exact_match", "chance": 0, **prompting},
    ]
    evaluation = Evaluation(tasks_folder=str(tasks), strata={"application": benchmarks})
    requests = record_requests(AutoTokenizer.from_pretrained(folder), MAX_LENGTH, evaluation, "application")
    answers = answers_of(requests, folder, "float32")
    options = {("apply_chat_template" if name == "chat_template" else name): value for name, value in prompting.items()}
    samples = simple_evaluate(
        model=HFLM(pretrained=str(folder), device="cpu", dtype="float32", softmax_dtype="float32", batch_size=1),
        tasks=["choose", "write"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
        **options,
    )["samples"]
    texts = [sample["resps"][0][0] for sample in samples["write"]]
    assert answers.text[requests.task == "write"].tolist() == texts
    likelihoods = [likelihood for sample in samples["choose"] for likelihood, _ in sample["filtered_resps"]]
    np.testing.assert_allclose(answers.log_likelihood[requests.task == "choose"], likelihoods, atol=1e-4)
    items = Scorer(requests, evaluation, "application").scores(answers)
    assert items.score.tolist() == [s["acc"] for s in samples["choose"]] + [s["exact_match"] for s in samples["write"]]


def test_each_benchmark_chooses_its_own_kind_of_prompts(conversation):
    folder, tasks = conversation
    benchmarks = [
        {"task": "choose", "chance": 0.25, "chat_template": True},
        {"task": "write", "metric": "exact_match", "chance": 0},
    ]
    evaluation = Evaluation(tasks_folder=str(tasks), strata={"application": benchmarks})
    requests = record_requests(AutoTokenizer.from_pretrained(folder), MAX_LENGTH, evaluation, "application")
    by_template = requests.arguments.str.contains("[user]", regex=False)
    assert set(requests.task[by_template]) == {"choose"} and set(requests.task[~by_template]) == {"write"}


def test_a_chat_template_that_the_tokenizer_lacks_is_named(tokenizer, conversation):
    benchmark = {"task": "choose", "chance": 0.25, "chat_template": True}
    evaluation = Evaluation(tasks_folder=str(conversation[1]), strata={"application": [benchmark]})
    with pytest.raises(StudyError, match="application: choose: chat_template: the tokenizer has none"):
        record_requests(tokenizer, MAX_LENGTH, evaluation, "application")


def test_items_that_were_not_asked_have_no_score_and_the_others_have_their_own(requests):
    random = np.random.default_rng(0)
    answers = pd.DataFrame({"log_likelihood": random.normal(size=len(requests)), "is_greedy": False})
    scorer = Scorer(requests, EVALUATION, "reasoning")
    whole = scorer.scores(answers, with_gaps=True)
    assert whole.gap.gt(0).all()
    shares = dict.fromkeys(scorer.benchmark_of(), 0.4)
    some = answers[is_asked(requests, shares)]
    some.attrs[SHARES] = shares
    scored = scorer.scores(some, with_gaps=True)
    assert 0 < len(scored) < len(whole)
    pd.testing.assert_frame_equal(scored, whole.merge(scored[["task", "document"]]))
    with pytest.raises(ValueError, match=f"{len(some) - 1} answers to {len(some)} requests"):
        scorer.scores(some.iloc[1:])
    with pytest.raises(ValueError, match="to other requests than those that were asked"):
        scorer.scores(some.set_axis(some.index + 1))
