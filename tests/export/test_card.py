from stratalaw.export.card import calibration_text
from stratalaw.study import Calibration


def test_the_calibration_text_is_said_with_its_commit_or_its_shares():
    corpora = {"facts": "f.jsonl", "chains": "c.jsonl"}
    mixtures = {"most_facts": {"facts": 3, "chains": 1}}
    calibration = Calibration(corpus="text.jsonl", corpora=corpora, mixtures=mixtures, tokens=256)
    assert calibration_text(calibration, "") == "text.jsonl"
    assert calibration_text(calibration, "most_facts") == "75% f.jsonl, 25% c.jsonl"
    of_hub = calibration.model_copy(update={"dataset": "a/b", "revision": "c" * 40})
    assert calibration_text(of_hub, "") == f"text.jsonl of a/b at `{'c' * 40}`"
