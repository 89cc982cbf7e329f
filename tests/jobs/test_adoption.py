"""Finished results that were copied are adopted by their seals; what changed, or never finished, is not."""

import shutil
from pathlib import Path

import pytest

from stratalaw.errors import StratalawError
from stratalaw.jobs import adoption
from stratalaw.jobs.adoption import adopt
from stratalaw.jobs.outdated import TIMESTAMP
from stratalaw.jobs.resume import SnakemakeOptions
from stratalaw.layout import Results
from stratalaw.models.folder import copy_model

ROOT = Path(__file__).parents[2]
STUDY = """\
name: demo
models: [{name: q1, source: source, family: ladder}]
grids: [{bits: [4, 8], group_size: [128], calibration_size: [4]}]
calibration: {corpus: corpus.jsonl, tokens: 256}
evaluation: {tasks_folder: tasks, strata: {reasoning: [{task: ladder_paths, chance: 0.2}]}}
"""


@pytest.fixture
def study_file(tmp_path, monkeypatch) -> Path:
    """A study in a folder of its own, of which the model was copied and nothing else was made yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    shutil.copytree(ROOT / "ladder" / "models" / "q1", tmp_path / "source")
    copy_model(tmp_path / "source", tmp_path / "results" / "models" / "q1")
    return tmp_path / "study.yaml"


@pytest.fixture
def options(tmp_path, monkeypatch) -> SnakemakeOptions:
    """What snakemake would say of its arguments."""
    options = SnakemakeOptions(tmp_path, dryrun=False)
    monkeypatch.setattr(adoption, "snakemake_options", lambda arguments: options)
    return options


def test_all_finished_jobs_are_adopted_with_one_time_stamp(study_file, options):
    model = Results().model("q1")
    corpus, timing = Path("corpus.jsonl"), Results().timing("models", "q1")
    timing.parent.mkdir(parents=True)
    timing.touch()
    corpus.touch()
    adopted = adopt(study_file, [])
    assert [job.name for job in adopted.adopted] == ["q1"] and not adopted.has_records
    for file in (model / TIMESTAMP, timing):
        assert file.stat().st_mtime >= corpus.stat().st_mtime


def test_with_a_dry_run_no_time_stamp_changes(study_file, options, monkeypatch):
    dry = SnakemakeOptions(options.directory, dryrun=True)
    monkeypatch.setattr(adoption, "snakemake_options", lambda arguments: dry)
    found = adopt(study_file, ["-n"])
    assert found.only_shown and [job.name for job in found.adopted] == ["q1"]
    assert not (Results().model("q1") / TIMESTAMP).exists()


@pytest.mark.parametrize("changed", ["source/config.json", "results/models/q1/tokenizer.json"])
def test_nothing_is_adopted_where_a_file_has_changed(study_file, options, changed):
    Path(changed).write_text(Path(changed).read_text().replace("{", "{ ", 1))
    refused = adopt(study_file, [])
    assert refused.adopted == []
    (problem,) = (problem for stage in refused.verified for problem in stage.problems)
    assert changed in problem
    assert not (Results().model("q1") / TIMESTAMP).exists()


def test_a_folder_without_results_is_one_line(study_file, options, tmp_path):
    shutil.rmtree(tmp_path / "results")
    with pytest.raises(StratalawError, match=r"no job of demo has finished here$"):
        adopt(study_file, [])


def test_records_of_snakemake_are_seen(study_file, options, tmp_path):
    (tmp_path / ".snakemake" / "metadata").mkdir(parents=True)
    assert not adopt(study_file, []).has_records
    (tmp_path / ".snakemake" / "metadata" / "cmVzdWx0cw==").touch()
    assert adopt(study_file, []).has_records
