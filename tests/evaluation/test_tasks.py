"""Every task and metric that the studies of real models name is in the installed lm-eval; no data set is loaded."""

from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from stratalaw.evaluation.tasks import check_task, installed_tasks, metrics_of, task_configs
from stratalaw.preparation.checks import check_inputs
from stratalaw.study import StudyError, read_study

STUDIES = ("config", "llama3", "smollm2")


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    return installed_tasks()


def benchmarks(study: str) -> list:
    strata = read_study(Path(f"config/{study}.yaml")).evaluation.strata
    return [benchmark for benchmarks in strata.values() for benchmark in benchmarks]


def metrics(manager: TaskManager, name: str, config: dict) -> set[str]:
    if "class" not in config:
        return set(metrics_of(config))
    # Tasks written in Python name their metrics where they aggregate them.
    task = load_yaml(manager.task_index[name].yaml_path, resolve_func=True)["class"]
    return set(task.aggregation(object.__new__(task)))


@pytest.mark.parametrize("study", STUDIES)
def test_tasks_and_metrics_are_those_of_lm_eval(manager, study):
    named = benchmarks(study)
    assert len(named) >= 14
    for benchmark in named:
        configs = list(task_configs(manager, benchmark.task))
        assert configs, benchmark.task
        for config in configs:
            assert benchmark.metric in metrics(manager, benchmark.task, config), benchmark.task
            check_task(benchmark, config, benchmark.task)
            assert benchmark.shots is not None


@pytest.mark.parametrize("study", STUDIES)
def test_chance_is_what_the_form_of_the_answers_gives(manager, study):
    for benchmark in benchmarks(study):
        for config in task_configs(manager, benchmark.task):
            choices = config.get("doc_to_choice")
            exact = benchmark.metric == "exact_match" or "class" in config
            if config.get("output_type") == "generate_until" or exact:
                assert benchmark.chance == 0, benchmark.task
            elif isinstance(choices, list):
                assert benchmark.chance == 1 / len(choices), benchmark.task
            else:
                assert benchmark.chance > 0, benchmark.task


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_not_pinned_is_refused_with_the_command_that_pins_it(study):
    path = f"config/{study}.yaml"
    with pytest.raises(StudyError, match=rf"^{path}: models\.0: .* revision is missing; run: stratalaw pin {path}$"):
        check_inputs(read_study(Path(path)), path)


def test_mmlu_is_its_57_subjects(manager):
    assert len(list(task_configs(manager, "mmlu"))) == 57


@pytest.mark.parametrize("study", STUDIES)
def test_tasks_that_are_found_by_their_names_are_those_among_all(manager, study):
    names = frozenset(benchmark.task for benchmark in benchmarks(study))
    some = installed_tasks(names)
    assert len(some.all_tasks) < len(manager.all_tasks) / 10
    for name in names:
        assert list(task_configs(some, name)) == list(task_configs(manager, name))


@pytest.mark.parametrize("name", ["absent", "ai2_arc", "openllm"])
def test_of_names_that_are_not_defined_once_all_tasks_are_looked_at(manager, name):
    """There is no such task; a tag of several tasks; a group whose members are elsewhere."""
    assert installed_tasks(frozenset({name})).all_tasks == manager.all_tasks
