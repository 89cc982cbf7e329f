"""Whoever uses lm-eval without the workflow gets the same numbers from the engine."""

import subprocess
import sys

import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

import stratalaw.lm_eval_model  # noqa: F401  (registers the model)

TASKS = ["ladder_paths", "ladder_numeracy"]


def evaluate(model: str, folder, **options) -> tuple[dict[str, float], np.ndarray]:
    results = simple_evaluate(
        model=model,
        model_args={"pretrained": str(folder), "device": "cpu", "dtype": "float32"} | options,
        tasks=TASKS,
        task_manager=TaskManager(include_path="ladder/benchmarks", include_defaults=False),
        limit=30,
        bootstrap_iters=0,
    )
    log_likelihoods = [
        log_likelihood
        for task in TASKS
        for sample in results["samples"][task]
        for log_likelihood, _ in sample["filtered_resps"]
    ]
    return {task: results["results"][task]["acc,none"] for task in TASKS}, np.array(log_likelihoods)


@pytest.mark.parametrize("tokens_per_batch", [64, 16_384])
def test_it_says_what_the_hf_model_says(small_model_folder, tokens_per_batch):
    ours, own = evaluate("stratalaw", small_model_folder, tokens_per_batch=tokens_per_batch)
    theirs, expected = evaluate("hf", small_model_folder, softmax_dtype="float32")
    np.testing.assert_allclose(own, expected, atol=1e-4)
    assert ours == theirs


def test_lm_evals_command_line_takes_it(small_model_folder):
    arguments = [
        "--model",
        "stratalaw",
        "--model_args",
        f"pretrained={small_model_folder},dtype=float32",
        "--device",
        "cpu",
    ]
    tasks = ["--tasks", "ladder_paths", "--include_path", "ladder/benchmarks", "--limit", "10"]
    command = [sys.executable, "-m", "stratalaw.lm_eval_model", "run", *arguments, *tasks]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "ladder_paths" in result.stdout and "stratalaw" in result.stdout
