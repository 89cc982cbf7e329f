"""What is asked of a variant: counted where requests are recorded, estimated close to that before."""

import json

import numpy as np
import pandas as pd
import pytest

from stratalaw.cost.workload import ROWS_AT_ONCE, WorkloadError, estimated_work, work_of
from stratalaw.engine import make_batching, save_batching
from stratalaw.engine.decoding import MOST_ROWS
from stratalaw.layout import Results
from stratalaw.study import Benchmark, Evaluation


def evaluation(*benchmarks: Benchmark, **options) -> Evaluation:
    return Evaluation(strata={"all": list(benchmarks)}, **options)


def record(root, contexts, continuations, generations, task="t", tokens_per_batch=16_384) -> None:
    """Write requests and their batching as the requests stage does; ``generations``: (context, new tokens)."""
    rows = [
        *({"context": c, "continuation": k, "generation": "{}"} for c, k in zip(contexts, continuations, strict=True)),
        *(
            {"context": c, "continuation": [], "generation": json.dumps({"max_new_tokens": n, "stop": []})}
            for c, n in generations
        ),
    ]
    results = Results(root)
    results.requests("m", "all").parent.mkdir(parents=True)
    pd.DataFrame(rows).assign(task=task).to_parquet(results.requests("m", "all"))
    batching = make_batching(contexts, continuations, tokens_per_batch=tokens_per_batch, max_length=4096)
    save_batching(batching, results.batches("m", "all"))


def test_recorded_requests_are_counted(tmp_path):
    question = list(range(50))
    letters = [(question, [61]), (question, [62])]  # one row for lm-eval, one for the batching
    endings = [(question[:20], [1, 2, 3]), (question[:20], [4, 5, 6])]
    contexts, continuations = zip(*letters, *endings, strict=True)
    record(tmp_path, contexts, continuations, [(question, 10)] * 3)
    work = work_of(evaluation(Benchmark(task="t", chance=0)), "m", Results(tmp_path))
    assert not work.is_estimated
    assert work.requests == 7
    assert work.reference_tokens == 50 + 2 * 22
    assert work.tokens == 50 + 2 + 2  # the question and two tokens of each ending
    assert (work.prompt_tokens, work.reference_prompt_tokens) == (50, 150)  # the same question three times
    assert work.text_tokens == 2 * 51 + 2 * 23 + 3 * 50  # lm-eval writes each request
    assert (work.steps, work.reference_steps) == (10, 10)


def test_generations_that_are_not_all_made_at_once_take_steps_again(tmp_path):
    record(tmp_path, [], [], [(list(range(100)), 28)] * (2 * ROWS_AT_ONCE))
    work = work_of(evaluation(Benchmark(task="t", chance=0)), "m", Results(tmp_path))
    assert (work.steps, work.reference_steps) == (28 * 2, 28 * 16)
    assert ROWS_AT_ONCE == MOST_ROWS


def test_a_known_generation_ends_before_all_tokens_that_are_allowed(tmp_path):
    record(tmp_path, [], [], [([1, 2], 256)], task="triviaqa")
    assert work_of(evaluation(Benchmark(task="triviaqa", chance=0)), "m", Results(tmp_path)).steps == 32


@pytest.mark.parametrize("name", ["letters", "endings"])
def test_estimates_are_those_of_requests_that_are_as_the_table_says(tmp_path, name):
    rng = np.random.default_rng(0)
    letters, endings = Benchmark(task="medmcqa", chance=0.25, shots=1), Benchmark(task="piqa", chance=0.5)
    benchmark = letters if name == "letters" else endings
    contexts, continuations = [], []
    for _ in range(200):
        context = rng.integers(1000, size=75 + 80 if name == "letters" else 16).tolist()
        for choice in range(4 if name == "letters" else 2):
            contexts.append(context)
            continuations.append([2000 + choice] if name == "letters" else rng.integers(1000, size=25).tolist())
    record(tmp_path, contexts, continuations, [])
    asked = evaluation(benchmark, items=200)
    counted, estimated = work_of(asked, "m", Results(tmp_path)), work_of(asked)
    assert estimated.is_estimated
    for amount in ("requests", "tokens", "reference_tokens"):
        assert getattr(estimated, amount) == pytest.approx(getattr(counted, amount), rel=0.05), amount


def test_items_are_limited_for_each_subtask_and_by_what_there_is():
    mmlu, small = Benchmark(task="mmlu", chance=0.25, shots=5), Benchmark(task="openbookqa", chance=0.25)
    asked = {items: evaluation(mmlu, items=items) for items in (10, 100_000)}
    assert estimated_work(mmlu, asked[10]).requests == 4 * 57 * 10
    assert estimated_work(mmlu, asked[100_000]).requests == 4 * 14_042
    assert estimated_work(small, evaluation(small, items=1000)).requests == 4 * 500


def test_examples_that_all_questions_share_run_once():
    def tokens_of_five_shots(task: str) -> float:
        without, with_shots = (Benchmark(task=task, chance=0.25, shots=shots) for shots in (0, 5))
        asked = evaluation(without)
        return estimated_work(with_shots, asked).tokens - estimated_work(without, asked).tokens

    assert tokens_of_five_shots("mmlu") == 57 * 5 * 110
    assert tokens_of_five_shots("medmcqa") == 4183 * 5 * 80


def test_a_task_that_the_table_does_not_have_is_asked_as_others_are():
    unknown = Benchmark(task="never-heard-of", chance=0)
    assert estimated_work(unknown, evaluation(unknown)).tokens > 0


@pytest.mark.parametrize("which", ["requests", "batches"])
def test_recorded_requests_that_are_damaged_are_named(tmp_path, which):
    record(tmp_path, [[1, 2]], [[3]], [])
    getattr(Results(tmp_path), which)("m", "all").write_bytes(b"PAR1")
    with pytest.raises(WorkloadError, match=r"m/all.parquet: it or its batches are damaged \(.*; delete both and run"):
        work_of(evaluation(Benchmark(task="t", chance=0)), "m", Results(tmp_path))
