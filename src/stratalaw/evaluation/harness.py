"""The first half of lm-eval: its requests, recorded once. The other, its metrics, is ``evaluation.scoring``.

A recording model takes down every request (text and token ids) that lm-eval makes for a stratum, and any engine may
compute the answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import datasets
import numpy as np
import pandas as pd
from lm_eval import evaluator, simple_evaluate
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, TemplateLM
from lm_eval.api.task import Task as LoadedTask
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerBase

from stratalaw.errors import StratalawError
from stratalaw.evaluation.admission import check_labels, check_scores
from stratalaw.evaluation.late_import import changed_when_imported
from stratalaw.evaluation.tasks import check_is_not_here, is_on_the_hub, task_manager, why_no_metric
from stratalaw.models.hub import Repository, name_with_owner, refusals_named
from stratalaw.study import StudyError, Task, Tasks
from stratalaw.text import one_line

LOGLIKELIHOOD, ROLLING, GENERATION = "loglikelihood", "loglikelihood_rolling", "generate_until"
DEFAULT_MAX_NEW_TOKENS = 256  # as lm-eval's hf model
# Arguments of a generation that do not change what is chosen greedily, and the values of others that do not.
WITHOUT_EFFECT = ("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "use_cache")
NEUTRAL = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1, "length_penalty": 1}


class RecordingModel(TemplateLM):
    """Answers nothing and takes down every request, tokenized as lm-eval's ``hf`` model does.

    Raises:
        StudyError: a request cannot be answered (nothing is to be scored, it is too long, it wants sampling); the task
            and the document are named.
    """

    chat_template_args: Mapping[str, Any] = {}

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.rows: list[dict[str, Any]] = []

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        beginning = self.tokenizer.bos_token_id
        return self.eot_token_id if beginning is None else int(beginning)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: object) -> list[int]:
        if add_special_tokens is None:
            starts_with_prefix = has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id))
            special = {"add_special_tokens": False} if starts_with_prefix else {}
        else:
            special = {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **special))

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        from lm_eval.models.huggingface import HFLM

        written: str = HFLM.apply_chat_template(self, chat_history, add_generation_prompt)
        return written

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        for instance in requests:
            if not instance.args[1]:
                raise StudyError(f"{about_instance(instance)}: the continuation is empty, so there is nothing to score")
        self._instances = requests
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, list[int], list[int]]], **options: object
    ) -> list[tuple[float, bool]]:
        for instance, (_, context, continuation) in zip(self._instances, requests, strict=True):
            if not continuation:
                raise StudyError(
                    f"{about_instance(instance)}: no token of the continuation {instance.args[1]!r} is its own: the "
                    "tokenizer makes one token of its text and the end of the context"
                )
            if len(continuation) > self.max_length:
                raise StudyError(
                    f"{about_instance(instance)}: the continuation has {len(continuation)} tokens, and the model takes "
                    f"{self.max_length}"
                )
            self._record(LOGLIKELIHOOD, instance, context, continuation)
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        for instance in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(instance.args[0]), self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            for context, continuation in map(make_disjoint_window, windows):
                self._record(ROLLING, instance, context, continuation)
        return [0.0] * len(requests)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        for instance in requests:
            context, options = instance.args
            self._record(GENERATION, instance, self.tok_encode(context), [], self._greedy_options(instance, options))
        return [""] * len(requests)

    def _greedy_options(self, instance: Instance, options: dict[str, Any]) -> dict[str, Any]:
        """``stop`` and ``max_new_tokens``, by lm-eval's rules."""
        normalized: dict[str, Any] = dict(normalize_gen_kwargs(options, DEFAULT_MAX_NEW_TOKENS))
        if normalized["do_sample"]:
            raise StudyError(f"{instance.task_name}: it asks for sampling; only greedy generation can be repeated")
        for name in sorted(normalized.keys() - {"until", "max_gen_toks", *WITHOUT_EFFECT}):
            if normalized[name] != NEUTRAL.get(name):
                raise StudyError(
                    f"{instance.task_name}: it asks for {name}={normalized[name]!r}; generation is plainly greedy"
                )
        if normalized["max_gen_toks"] >= self.max_length:
            raise StudyError(
                f"{about_instance(instance)}: {normalized['max_gen_toks']} new tokens leave no room for a context; the "
                f"model takes {self.max_length}"
            )
        end = self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False)
        return {
            "stop": handle_stop_sequences(normalized["until"], eos=end),
            "max_new_tokens": normalized["max_gen_toks"],
        }

    def _record(
        self,
        kind: str,
        instance: Instance,
        context: list[int],
        continuation: list[int],
        options: Mapping[str, Any] = {},
    ) -> None:
        self.rows.append(
            {
                "task": instance.task_name,
                "document": instance.doc_id,
                "choice": instance.idx,
                "kind": kind,
                "arguments": arguments_key(instance),
                "context": np.array(context, dtype=np.int32),
                "continuation": np.array(continuation, dtype=np.int32),
                "generation": json.dumps(options, sort_keys=True),
            }
        )


def about_instance(instance: Instance) -> str:
    """Which item of which task a request is about."""
    return f"{instance.task_name}: document {instance.doc_id}"


def arguments_key(instance: Instance) -> str:
    """What a request asks, as text."""
    return json.dumps(instance.args, sort_keys=True, default=str)


Samples = dict[str, list[dict[str, Any]]]


def run_task(
    model: LM, loaded: LoadedTask | Group, manager: TaskManager, benchmark: Task, items: int | None
) -> Samples:
    """Have lm-eval run a benchmark, or its first ``items``, on a model; its samples, by the names of its tasks."""
    with without_environment(), without_metrics_of_the_hub(benchmark.task):
        results = simple_evaluate(
            model=model,
            tasks=[loaded],
            task_manager=manager,
            limit=items,
            bootstrap_iters=0,
            log_samples=True,
            **prompting(benchmark),
        )
    samples: Samples = results["samples"]
    return samples


def prompting(benchmark: Task) -> dict[str, Any]:
    """How prompts are written, as arguments of ``simple_evaluate``; what is not given keeps lm-eval's default."""
    options = {
        "apply_chat_template": benchmark.chat_template or None,
        "fewshot_as_multiturn": benchmark.fewshot_as_multiturn,
        "system_instruction": benchmark.system_instruction,
    }
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def without_environment() -> Iterator[None]:
    """Keep lm-eval from describing the machine after each evaluation: listing packages takes longer than scoring, and
    git complains on the terminal where there is no repository."""
    describe, evaluator.add_env_info = evaluator.add_env_info, lambda results: None
    ask_git, evaluator.get_git_commit_hash = evaluator.get_git_commit_hash, lambda: None
    try:
        yield
    finally:
        evaluator.add_env_info, evaluator.get_git_commit_hash = describe, ask_git


@contextmanager
def without_metrics_of_the_hub(task: str) -> Iterator[None]:
    """Refuse what the code of a task asks of the library ``evaluate``: it would fetch code from the Hub, and run it.

    Requests are recorded by having lm-eval score empty answers, so this is known before any answer is computed.

    Raises:
        StudyError: names the task and the metric.
    """
    name = "evaluation_module_factory"

    def find_here(find: Callable[..., Any], path: str, *arguments: Any, **options: Any) -> Any:
        if not Path(path).exists():
            raise StudyError(why_no_metric(task, path))
        return find(path, *arguments, **options)

    with ExitStack() as changed:

        def refuse(loading: ModuleType) -> None:
            changed.enter_context(patch.object(loading, name, partial(find_here, getattr(loading, name))))

        # Importing it takes longer than scoring a variant, and few tasks do.
        with changed_when_imported("evaluate.loading", refuse):
            yield


@contextmanager
def data_sets_at(commit: str | None) -> Iterator[None]:
    """Have lm-eval load data sets of the Hub at a commit, which few of its tasks let one choose.

    Each commit has a cache of its own: where the Hub does not answer, ``datasets`` takes the newest commit of a cache
    in place of the one that it is asked for.

    Raises:
        DownloadError: the Hub refuses or cannot be reached, and the commit is not in its cache.
        StudyError: a file or folder here has the name of the data set, and would be read in its place.
    """
    load = datasets.load_dataset

    def load_at_commit(path: str, *arguments: Any, **options: Any) -> Any:
        if commit is not None:
            check_is_not_here(path)
        if commit is None or not is_on_the_hub(path):
            return load(path, *arguments, **options)
        cache = Path(datasets.config.HF_DATASETS_CACHE) / "commits" / commit
        repository = Repository(path, "dataset", commit)
        name = path if "/" in path else _owned_name(repository, cache)
        with refusals_named(repository):
            return load(name, *arguments, **(options | {"revision": commit, "cache_dir": str(cache)}))

    datasets.load_dataset = load_at_commit
    try:
        yield
    finally:
        datasets.load_dataset = load


def _owned_name(repository: Repository, cache: Path) -> str:
    """The name with its owner of a data set that lm-eval knows without, which the Hub redirects and ``datasets``
    refuses; ``cache``: of its commit."""
    cached = next(cache.glob(f"*___{repository.name}"), None)
    return name_with_owner(repository) if cached is None else cached.name.replace("___", "/")


def load_task(manager: TaskManager, benchmark: Task) -> LoadedTask | Group:
    """A task or a group of tasks, with as many examples in the prompt as the study says."""
    with data_sets_at(benchmark.revision), without_metrics_of_the_hub(benchmark.task):
        loaded = manager.load([benchmark.task])
    if benchmark.shots is not None:
        # lm-eval takes {"task": name, "num_fewshot": n} for a new task without a data set.
        for task in loaded["tasks"].values():
            task.set_config(key="num_fewshot", value=benchmark.shots)
    return loaded.get("groups", {}).get(benchmark.task) or loaded["tasks"][benchmark.task]


def record_requests(
    tokenizer: PreTrainedTokenizerBase, max_length: int, evaluation: Tasks, stratum: str
) -> pd.DataFrame:
    """Every request that lm-eval makes for a stratum, one per row.

    Columns: task, document, choice, kind, arguments (what replaying looks answers up by), context and continuation
    (token ids) and generation (``stop`` and ``max_new_tokens`` of generations, JSON). A rolling request takes one row
    for each window.

    Raises:
        StudyError: a task is unknown to lm-eval, asks what cannot be answered, or its scores are no accuracy; or the
            tokenizer lacks the chat template that a task wants.
    """
    manager = task_manager(evaluation)
    model = RecordingModel(tokenizer, max_length)
    for benchmark in evaluation.strata[stratum]:
        if benchmark.chat_template and not tokenizer.chat_template:
            raise StudyError(f"{stratum}: {benchmark.task}: chat_template: the tokenizer has none")
        try:
            loaded = load_task(manager, benchmark)  # lm-eval makes its first item at once
            check_labels(loaded, evaluation.items)
            samples = run_task(model, loaded, manager, benchmark, evaluation.items)
        except (StratalawError, OSError):
            raise
        except Exception as error:  # a task may hold code, which fails in any way
            said = one_line(f"{type(error).__name__}: {error}")
            raise StudyError(f"{stratum}: {benchmark.task}: lm-eval cannot run it: {said}") from error
        check_scores(benchmark, loaded, samples)
    return pd.DataFrame(model.rows)
