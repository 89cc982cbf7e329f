"""Studies of one folder share what they have in common, and are refused where one would overwrite the other."""

from pathlib import Path

import pytest

from stratalaw.layout import Results
from stratalaw.preparation.neighbours import (
    Basis,
    basis_of,
    check_neighbours,
    clashes,
    neighbours_of,
    samples_of,
    write_basis,
)
from stratalaw.study import Study, StudyError, read_study


@pytest.fixture(scope="module")
def demo() -> Study:
    return read_study(Path("config/demo.yaml"))


def changed(study: Study, **sections) -> Study:
    """A study with other values in some of its sections, or another value of a key."""
    content = study.as_plain()
    for key, value in sections.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    return Study(**content)


def basis(study: Study, file: str = "study.yaml", **contents: str) -> Basis:
    return Basis(study, file, {"models.q3": "1", "corpus": "2", "tasks": "3"} | contents)


GRIDS = [{"bits": [4], "group_size": [32], "calibration_size": [128]}]
OTHER_MODEL = {"name": "r9", "source": "ladder/models/q1", "family": "ladder"}


@pytest.mark.parametrize(
    ("sections", "contents", "clash"),
    [
        ({"name": "other"}, {}, None),
        ({"grids": GRIDS}, {}, None),
        ({"evaluation": {"items": 7}}, {}, ("answers", "q3", "evaluation.items")),
        ({"evaluation": {"items": 7}, "models": [OTHER_MODEL], "grids": GRIDS}, {}, None),
        ({"gptq": {"damping": 0.1}}, {}, ("checkpoints", "q3", "gptq.damping")),
        ({"calibration": {"tokens": 64}}, {}, ("calibration samples", "q3", "calibration.tokens")),
        ({}, {"tasks": "4"}, ("answers", "q3", "evaluation.tasks_folder")),
        ({}, {"corpus": "4"}, ("calibration samples", "q3", "calibration.corpus")),
        ({}, {"models.q3": "4"}, ("files", "q3", "models.source")),
    ],
)
def test_what_would_be_overwritten_is_told_from_what_is_shared(demo, sections, contents, clash):
    assert next(clashes(basis(changed(demo, **sections), **contents), basis(demo)), None) == clash


EVEN = {"corpora": {"a": "a.jsonl", "b": "b.jsonl"}, "mixtures": {"even": {"a": 1, "b": 1}}}
OF_EVEN = [{"bits": [4], "group_size": [128], "calibration_size": [64], "calibration_mixture": ["even"]}]


@pytest.mark.parametrize(
    ("calibration", "contents", "clash"),
    [
        ({}, {}, None),
        ({"corpus": "another.jsonl"}, {"corpus": "4"}, None),
        ({"mixtures": {"even": {"a": 1, "b": 2}}}, {}, ("calibration samples", "q3", "calibration.mixtures")),
        ({}, {"corpora.b": "4"}, ("calibration samples", "q3", "calibration.corpora")),
    ],
)
def test_a_mixture_must_be_the_same_wherever_its_name_is(demo, calibration, contents, clash):
    mine = changed(demo, calibration=EVEN | calibration, grids=OF_EVEN)
    other = changed(demo, calibration=EVEN, grids=demo.as_plain()["grids"] + OF_EVEN)
    of_corpora = {"corpora.a": "5", "corpora.b": "6"}
    assert next(clashes(basis(mine, **of_corpora | contents), basis(other, **of_corpora)), None) == clash


def test_a_draw_is_made_of_one_text_also_where_no_variant_is_shared(demo):
    mine = changed(demo, calibration=EVEN | {"mixtures": {"even": {"a": 1, "b": 2}}}, grids=OF_EVEN)
    other = changed(demo, calibration=EVEN, grids=[OF_EVEN[0] | {"bits": [3]}])
    of_corpora = {"corpora.a": "5", "corpora.b": "6"}
    clash = next(clashes(basis(mine, **of_corpora), basis(other, **of_corpora)))
    assert clash == ("calibration samples", "q3", "calibration.mixtures")


def test_mixtures_beside_the_corpus_overwrite_nothing(demo):
    with_mixtures = changed(demo, calibration=EVEN, grids=demo.as_plain()["grids"] + OF_EVEN)
    assert list(clashes(basis(with_mixtures), basis(demo))) == []
    assert samples_of(demo, [basis(with_mixtures)]) == samples_of(with_mixtures, [], "") == 32
    assert samples_of(with_mixtures, [basis(demo)], "even") == 64


def test_other_chances_overwrite_nothing(demo):
    strata = demo.as_plain()["evaluation"]["strata"]
    strata["reasoning"][0]["chance"] = 0.5
    assert list(clashes(basis(changed(demo, evaluation={"strata": strata})), basis(demo))) == []


def test_text_that_must_not_overlap_with_the_benchmarks_depends_on_them(demo):
    without = changed(demo, calibration={"overlap_words": 8})
    few = changed(without, evaluation={"items": 7})
    assert next(clashes(basis(few), basis(without))) == ("calibration samples", "q3", "calibration.evaluation")


def test_a_record_comes_back_and_a_damaged_one_says_nothing(demo, tmp_path):
    results = Results(tmp_path)
    write_basis(basis_of(demo, "config/demo.yaml", results, lambda *files: str(len(files))), results)
    (other,) = neighbours_of(changed(demo, name="mine"), "mine.yaml", results)
    assert other.study == demo and other.file == "config/demo.yaml" and "corpus" in other.contents
    assert neighbours_of(demo, "config/demo.yaml", results) == [], "an edited study is no other one"
    assert len(neighbours_of(demo, "copy.yaml", results)) == 1, "a copy is"
    results.of_study("demo", "study.json").write_text("{")
    assert neighbours_of(demo, "copy.yaml", results) == []


def test_the_line_names_both_studies_the_key_and_what_to_do(demo):
    mine = basis(changed(demo, name="mine", evaluation={"items": 7}), "mine.yaml")
    with pytest.raises(StudyError) as refused:
        check_neighbours(mine, [basis(demo, "config/demo.yaml")], Results())
    assert str(refused.value) == (
        "mine.yaml: its answers of q3 would overwrite those of the study demo (config/demo.yaml), where "
        "evaluation.items differs; run it in a folder of its own (snakemake --directory FOLDER), name its model q3 "
        "otherwise, or, if demo is not needed any more, delete results/studies/demo"
    )


def test_as_many_samples_are_drawn_as_any_study_of_the_same_text_needs(demo):
    larger = basis(changed(demo, grids=[{"bits": [4], "group_size": [128], "calibration_size": [128]}]))
    unlike = basis(changed(larger.study, calibration={"tokens": 64}))
    assert samples_of(demo, []) == samples_of(demo, [unlike]) == 32
    assert samples_of(demo, [larger]) == 128
