"""How much a study asks of a variant: tokens to run and steps to generate, here and by lm-eval's ``hf`` model.

Once requests are recorded, it is counted exactly. Before, ``benchmarks.csv`` estimates it: the items of a task (a
published number), the tokens of a question, of an example in the prompt and of a choice (our rough averages), and
the tokens after which the longest generation of a batch ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stratalaw.errors import StratalawError
from stratalaw.layout import Results
from stratalaw.seals import read_parquet
from stratalaw.study import Benchmark, Evaluation
from stratalaw.text import one_line

OTHER = "other"  # the row of tasks that the table does not have
REFERENCE_BATCH = 32  # rows of a batch of lm-eval's hf model
ROWS_AT_ONCE = 256  # of the engine's generations, where the cache has room for them


@dataclass(frozen=True)
class Workload:
    """What a variant is asked, all benchmarks together.

    Attributes:
        requests: number of requests.
        tokens: tokens that run for log-likelihoods, each shared one once.
        reference_tokens: tokens that lm-eval's ``hf`` model runs for them, padding not counted.
        prompt_tokens: tokens of the prompts of generations, each shared one once.
        reference_prompt_tokens: the same, each as often as it is asked.
        text_tokens: tokens of all requests, which lm-eval writes and tokenizes for each variant where ``requests`` does
            so once.
        steps: steps of generation, summed over rows that generate at once.
        reference_steps: the same in batches of 32.
        is_estimated: whether the requests were not recorded yet.
    """

    requests: float
    tokens: float
    reference_tokens: float
    prompt_tokens: float
    reference_prompt_tokens: float
    text_tokens: float
    steps: float
    reference_steps: float
    is_estimated: bool

    def __add__(self, other: Workload) -> Workload:
        amounts = {name: value + getattr(other, name) for name, value in vars(self).items() if name != "is_estimated"}
        return Workload(**amounts, is_estimated=self.is_estimated or other.is_estimated)


class WorkloadError(StratalawError):
    """Recorded requests that cannot be read; the message is one line."""


NOTHING = Workload(0, 0, 0, 0, 0, 0, 0, 0, False)


def work_of(evaluation: Evaluation, model: str = "", results: Results | None = None) -> Workload:
    """What a variant of a model is asked.

    Args:
        evaluation: of the study.
        model: name of the model.
        results: where its requests and how they are batched are, as far as they are recorded; estimated if not given.

    Raises:
        WorkloadError: recorded requests are damaged.
    """
    total = NOTHING
    for stratum, benchmarks in evaluation.strata.items():
        if results is not None and results.batches(model, stratum).exists():
            files = results.requests(model, stratum), results.batches(model, stratum)
            try:
                total += recorded_work(*files, evaluation.tokens_per_batch)
            except StratalawError:
                raise
            except Exception as error:  # pyarrow and safetensors meet damage in many ways
                why = f"it or its batches are damaged ({one_line(error)}); delete both and run again"
                raise WorkloadError(f"{files[0]}: {why}") from None
        else:
            for benchmark in benchmarks:
                total += estimated_work(benchmark, evaluation)
    return total


def estimated_work(benchmark: Benchmark, evaluation: Evaluation) -> Workload:
    """What a benchmark asks, from the table of benchmarks."""
    table = known_benchmarks()
    about: Any = table.loc[benchmark.task if benchmark.task in table.index else OTHER]
    items = min(about["items"], (evaluation.items or np.inf) * about.subtasks)
    shots = (benchmark.shots or 0) * about.shot_tokens
    prompt = about.prompt_tokens + shots
    if not about.choices:
        steps, reference_steps = (np.ceil(items / rows) * about.new_tokens for rows in (ROWS_AT_ONCE, REFERENCE_BATCH))
        tokens = items * about.prompt_tokens + shots * (about.subtasks if about.same_shots else items)
        text = items * prompt
        return Workload(items, 0, 0, tokens, text, text, steps, reference_steps, is_estimated=True)
    unshared = about.prompt_tokens + about.choices * about.answer_tokens
    # Choices of one token are answered from one row.
    rows = about.choices if about.answer_tokens else 1
    return Workload(
        requests=items * about.choices,
        tokens=items * unshared + shots * (about.subtasks if about.same_shots else items),
        reference_tokens=items * rows * (prompt + about.answer_tokens),
        prompt_tokens=0,
        reference_prompt_tokens=0,
        text_tokens=items * about.choices * (prompt + max(about.answer_tokens, 1)),
        steps=0,
        reference_steps=0,
        is_estimated=True,
    )


def recorded_work(requests_file: Path, batching_file: Path, tokens_per_batch: int) -> Workload:
    """What a stratum asks, from its recorded requests and how they are batched."""
    from safetensors import safe_open

    from stratalaw.engine import make_batching
    from stratalaw.evaluation.answers import NO_GENERATION

    with safe_open(batching_file, "np") as batching:
        tokens = int(batching.metadata()["tokens"])
    requests = read_parquet(requests_file)
    is_generation = requests.generation != NO_GENERATION
    generated, others = requests[is_generation], requests[~is_generation]
    # The last token of a continuation is predicted, not run.
    inputs = {
        np.concatenate(row)[:-1].astype(np.int32).tobytes()
        for row in zip(others.context, others.continuation, strict=True)
    }
    steps = reference_steps = 0
    for (task, options), rows in generated.groupby(["task", "generation"]):
        new = longest_generation(str(task), json.loads(str(options))["max_new_tokens"])
        steps += new * int(np.ceil(len(rows) / ROWS_AT_ONCE))
        reference_steps += new * int(np.ceil(len(rows) / REFERENCE_BATCH))
    contexts = generated.context.tolist()
    longest = max(map(len, contexts), default=0)
    after = [[0]] * len(contexts)  # whatever follows: only the contexts run
    prompts = make_batching(contexts, after, tokens_per_batch=tokens_per_batch, max_length=longest)
    return Workload(
        requests=len(requests),
        tokens=tokens,
        reference_tokens=sum(map(len, inputs)) // np.dtype(np.int32).itemsize,
        prompt_tokens=prompts.tokens,
        reference_prompt_tokens=sum(map(len, contexts)),
        text_tokens=sum(map(len, [*requests.context, *requests.continuation])),
        steps=steps,
        reference_steps=reference_steps,
        is_estimated=False,
    )


def longest_generation(task: str, allowed: int) -> int:
    """Tokens after which the longest generation of a batch is expected to end; all that are allowed if not known."""
    table = known_benchmarks()
    known = table.new_tokens.get(task, 0)
    return min(int(known), allowed) if known else allowed


@cache
def known_benchmarks() -> pd.DataFrame:
    """The table of benchmarks, by the name of the task."""
    with files(__package__).joinpath("benchmarks.csv").open() as file:
        return pd.read_csv(file, index_col="task", true_values=["yes"], false_values=["no"])
