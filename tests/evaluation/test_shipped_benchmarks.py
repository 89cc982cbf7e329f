"""Every benchmark of the studies of real models, recorded and scored on items of ours in the shape of its data set.

Right answers must count as right and wrong ones as wrong: that needs the metric, the filter, and each item's label.
"""

from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer

from stratalaw.evaluation.harness import GENERATION, record_requests
from stratalaw.evaluation.scoring import Scorer
from stratalaw.study import Benchmark, Evaluation, read_study

ITEMS, MAX_LENGTH = 3, 4096
LETTERS = ["A", "B", "C", "D", "E"]


def lettered(question: dict, choices: int) -> dict:
    texts = ["blue", "teal", "grey", "pink", "gold"][:choices]
    return question | {"choices": {"label": LETTERS[:choices], "text": texts}, "answerKey": "A"}


# One row of each data set, by its name on the Hub. The first choice is right; of generations the answer is "blue".
ROWS = {
    "mandarjoshi/trivia_qa": {"question": "What colour is it?", "answer": {"aliases": ["blue"], "value": "blue"}},
    "google-research-datasets/nq_open": {"question": "what colour is it", "answer": ["blue", "azure"]},
    "hazyresearch/based-squad": {"text": "The colour of the sky is", "value": "blue"},
    "stanfordnlp/web_questions": {"question": "what colour is it?", "answers": ["blue", "azure"]},
    "openlifescienceai/medmcqa": {
        **{"question": "What colour is it?", "opa": "blue", "opb": "teal", "opc": "grey", "opd": "pink"},
        **{"cop": 0, "choice_type": "single", "exp": "", "subject_name": "", "topic_name": ""},
    },
    "cais/mmlu": {
        **{"question": "What colour is it?", "subject": "colours"},
        **{"choices": ["blue", "teal", "grey", "pink"], "answer": 0},
    },
    "Rowan/hellaswag": {
        **{"ctx_a": "The sky", "ctx_b": "it", "activity_label": "Looking", "label": "0"},
        **{"endings": ["is blue", "is teal", "is grey", "is pink"]},
    },
    "allenai/ai2_arc": lettered({"question": "What colour is it?"}, 4),
    "allenai/openbookqa": lettered({"question_stem": "The colour is"}, 4),
    "tau/commonsense_qa": lettered({"question": "What colour is it?"}, 5),
    "baber/piqa": {"goal": "To see it", "sol1": "look up", "sol2": "look in", "label": 0},
    "openai/gsm8k": {"question": "How many are three and two?", "answer": "Three and two are five.\n#### 5"},
    "hails/bigbench": {
        **{"inputs": "Is it blue?", "targets": ["Yes"]},
        **{"multiple_choice_targets": ["Yes", "No"], "multiple_choice_scores": [1, 0]},
    },
    "allenai/winogrande": {
        **{"sentence": "The sky and the sea met and the _ won.", "option1": "sky", "option2": "sea", "answer": "1"}
    },
    "regisss/math_qa": {
        **{"Problem": "three and two are", "options": "a ) 5 , b ) 6 , c ) 7 , d ) 8 , e ) 9", "correct": "a"}
    },
    "allenai/sciq": {
        **{"question": "What colour is it?", "support": "The sky is blue.", "correct_answer": "blue"},
        **{"distractor1": "teal", "distractor2": "grey", "distractor3": "pink"},
    },
    "lighteval/siqa": {
        **{"context": "She looked up.", "question": "What did she see?", "label": "1"},
        **{"answerA": "blue", "answerB": "teal", "answerC": "grey"},
    },
}
# Where lm-eval puts the right choice elsewhere than first, or wants another text.
RIGHT_CHOICE = {"sciq": 3}
RIGHT_TEXT = {"gsm8k": "They are five.\n#### 5"}


def shipped() -> dict[str, Benchmark]:
    """The benchmarks of all studies of real models, by task and shots."""
    studies = (read_study(Path(f"config/{name}.yaml")) for name in ("config", "llama3", "smollm2"))
    found = [b for study in studies for benchmarks in study.evaluation.strata.values() for b in benchmarks]
    return {f"{benchmark.task}-{benchmark.shots}": benchmark for benchmark in found}


@pytest.fixture(scope="module")
def tokenizer(small_model_folder):
    return AutoTokenizer.from_pretrained(small_model_folder)


@pytest.fixture
def made_up_data(monkeypatch) -> None:
    def load_dataset(path, name=None, **options):
        # Few-shot examples are drawn from other items than the one that is asked.
        row = ROWS[path]
        question = next(key for key, value in row.items() if isinstance(value, str))
        rows = Dataset.from_list([row | {question: f"{row[question]} {i}"} for i in range(ITEMS + 6)])
        return DatasetDict(dict.fromkeys(("train", "validation", "test", "dev", "default"), rows))

    monkeypatch.setattr("datasets.load_dataset", load_dataset)


@pytest.mark.parametrize("benchmark", shipped().values(), ids=shipped())
def test_right_answers_are_right_and_wrong_ones_wrong(tokenizer, made_up_data, benchmark):
    evaluation = Evaluation(items=ITEMS, strata={"stratum": [benchmark.model_copy(update={"revision": None})]})
    requests = record_requests(tokenizer, MAX_LENGTH, evaluation, "stratum")
    scorer = Scorer(requests, evaluation, "stratum")
    is_right = requests.choice == RIGHT_CHOICE.get(benchmark.task, 0)
    if (requests.kind == GENERATION).all():
        is_right[:] = True
    for truth in (True, False):
        chosen = is_right if truth else ~is_right
        text = RIGHT_TEXT.get(benchmark.task, " blue") if truth else " red"
        likelihoods = chosen.map({True: -1.0, False: -9.0})
        answers = pd.DataFrame({"log_likelihood": likelihoods, "is_greedy": chosen & truth, "text": text})
        answers = answers.assign(tokens=1, is_cut_off=False)
        items = scorer.scores(answers)
        assert items.document.is_unique and len(items) % ITEMS == 0
        assert set(items.score) == {float(truth)}
        pd.testing.assert_frame_equal(scorer.scores(answers), items)  # by lm-eval itself, and by the tasks it built
