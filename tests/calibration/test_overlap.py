"""Texts that share words with benchmark items are found, whatever their case and punctuation."""

import json

import pandas as pd

from stratalaw.calibration.overlap import Overlap, item_texts
from stratalaw.jobs.stages import draw_calibration
from stratalaw.models.folder import copy_model
from stratalaw.seals import Seal, write_table

ITEM = "Question: Which planet is the largest of the solar system?\nAnswer: Jupiter"


def test_a_shared_run_of_words_is_found_whatever_its_case_and_punctuation():
    overlap = Overlap([ITEM], words=5)
    assert not overlap.is_free("They asked which planet is -- THE LARGEST, of all.")
    assert overlap.overlapping == 1


def test_fewer_words_or_words_apart_are_free():
    overlap = Overlap([ITEM], words=5)
    assert overlap.is_free("which planet is the smallest of the solar systems")
    assert overlap.is_free("which planet is the")
    assert overlap.is_free("")
    assert overlap.overlapping == 0


def test_question_and_answer_are_one_text():
    texts = item_texts([json.dumps(["the capital of France is", " Paris"]), json.dumps(["2 + 2 =", {"until": ["."]}])])
    assert texts == {"the capital of France is Paris", "2 + 2 ="}
    assert not Overlap(texts, 4).is_free("of France is Paris")


def test_a_draw_passes_over_what_is_asked_and_counts_it(small_model_folder, tmp_path):
    text = (small_model_folder.parents[1] / "calibration.jsonl").read_text().splitlines()[:40]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(text))
    words = json.loads(text[3])["text"]
    asked = pd.DataFrame({"arguments": [json.dumps(["What follows?", words[200:500]])]})
    write_table(asked, tmp_path / "reasoning.parquet", Seal("requests", {"stratum": "reasoning"}, {}))
    copy_model(small_model_folder, tmp_path / "model")
    draws = {}
    for name, overlap_words in {"all": None, "clean": 13}.items():
        drawn = tmp_path / name / "s0.parquet"
        draw_calibration(
            model=str(tmp_path / "model"), corpora={"corpus": str(corpus)}, samples=39, tokens=256,
            requests=[str(tmp_path / "reasoning.parquet")], overlap_words=overlap_words, drawn=str(drawn),
        )  # fmt: skip
        draws[name] = pd.read_parquet(drawn)
    assert 3 in set(draws["all"].text) and draws["all"].attrs == {}
    assert 3 not in set(draws["clean"].text) and draws["clean"].attrs == {"overlapping_texts": 1}
