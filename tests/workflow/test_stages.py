"""The list of stages is the workflow: names, files, logs, order, and which of them use a GPU."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stratalaw.layout import Results
from stratalaw.pipeline import STAGES, Job, jobs_of
from stratalaw.study import Study, read_study
from tests.workflow.conftest import ROOT, snakemake, write_study
from tests.workflow.warm_snakemake import run_snakemake

NODE = re.compile(r'^\s*(\d+)\[label = "([^"]*)"', re.MULTILINE)
EDGE = re.compile(r"^\s*(\d+) -> (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory) -> Path:
    """A folder with a study of two draws, of which nothing has been made."""
    folder = tmp_path_factory.mktemp("stages")
    write_study(folder)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["grids"][0] |= {"calibration_seed": [0, 1], "bits": [4]}
    study["calibration"]["overlap_words"] = 13
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


@pytest.fixture(scope="module")
def study(study_folder) -> Study:
    return read_study(study_folder / "study.yaml")


def snakemake_says(folder: Path, *arguments: str) -> str:
    result = snakemake(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_outputs_and_logs_are_those_of_the_rules(study_folder, study):
    jobs = jobs_of(study, Results())
    header, *rows = snakemake_says(study_folder, "--summary").splitlines()
    columns = header.split("\t")
    files = [dict(zip(columns, line.split("\t"), strict=True)) for line in rows]
    assert {(row["rule"], row["output_file"]) for row in files} == {
        (job.stage.name, str(output)) for job in jobs for output in job.outputs
    }
    logs = re.findall(r"^ +log: (\S+)", snakemake_says(study_folder, "-n"), re.MULTILINE)
    assert set(logs) == {str(job.log) for job in jobs}


def named(job: Job) -> str:
    """A job as the graph of snakemake names it: the rule, then the wildcards that its input does not have."""
    return f"{job.stage.name} {job.name}"


def edges_of(graph: str, study: Study) -> Iterator[tuple[str, str]]:
    """Pairs of jobs of snakemake's graph, the first of which must end before the second."""
    labels = dict(NODE.findall(graph))
    before: dict[str, list[str]] = {}
    for first, second in EDGE.findall(graph):
        before.setdefault(second, []).append(first)

    def wildcards(node: str) -> dict[str, str]:
        """The wildcards of a job; those that a job shares with its input are shown at the input only."""
        rule, *shown = labels[node].split("\\n")
        known = dict(entry.split(": ") for entry in shown)
        if rule in {stage.name for stage in STAGES if stage.of != "study"}:
            for earlier in before.get(node, ()):
                known = wildcards(earlier) | known
        return known

    def job(node: str) -> str:
        rule, known = labels[node].split("\\n")[0], wildcards(node)
        stage = next(stage for stage in STAGES if stage.name == rule)
        part = {"variant": known.get("variant"), "draw": known.get("draw")}.get(stage.of)
        model = study.name if stage.of == "study" else known["model"]
        return f"{rule} {model}" + (f"/{part}" if part else "")

    for first, second in EDGE.findall(graph):
        if labels[second] != "all":
            yield job(first), job(second)


def test_every_job_waits_for_what_its_rule_needs(study_folder, study):
    jobs = jobs_of(study, Results())
    ours = {(named(jobs[place]), named(job)) for job in jobs for place in job.after}
    assert ours == set(edges_of(snakemake_says(study_folder, "--dag"), study))


def test_each_stage_has_a_file_of_its_name_and_is_on_the_contents_page():
    contents = (ROOT / "Snakefile").read_text()
    included = re.findall(r'include: "workflow/rules/(\w+)\.smk"', contents)
    # The corpus is one of calibration's files.
    assert included == ["study", *(stage.name for stage in STAGES if stage.name != "corpus")]


def test_profiles_give_a_gpu_to_the_stages_that_use_one():
    on_gpu = {stage.name for stage in STAGES if stage.on_gpu}
    for name in ("slurm", "workstation"):
        profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
        assert {stage for stage, wants in profile["set-resources"].items() if wants["gpu"] == 1} == on_gpu


def test_profiles_name_their_study():
    profiles = {path.parent.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("profiles/*/config.yaml")}
    assert {name: profile["configfile"] for name, profile in profiles.items()} == {
        "demo": "config/demo.yaml",
        "slurm": "config/config.yaml",
        "workstation": "config/config.yaml",
    }


@pytest.fixture
def other_workflow(tmp_path) -> Path:
    """A workflow elsewhere that takes the rules of this one."""
    (tmp_path / "Snakefile").write_text(
        f'configfile: "{ROOT}/config/demo.yaml"\n\n\nmodule knowledge:\n    snakefile:\n        "{ROOT}/Snakefile"\n'
        "    config:\n        config\n\n\nuse rule * from knowledge\n"
    )
    return tmp_path


def test_the_workflow_is_a_module_of_another(other_workflow):
    result = run_snakemake(["--cores", "2", "-n", "--quiet", "rules"], other_workflow)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^checkpoints\s+26$", result.stdout, re.MULTILINE)


def test_without_a_study_it_is_the_papers_that_must_be_pinned(tmp_path):
    result = run_snakemake(["--snakefile", str(ROOT / "Snakefile"), "-n", "--cores", "1"], tmp_path)
    assert result.returncode == 1
    assert re.search(
        r"config/config.yaml: models\.0: .* run: stratalaw pin \S*config/config.yaml$", result.stderr.strip()
    )
