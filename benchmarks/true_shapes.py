"""Qwen3 models of the true shapes with random weights, and benchmarks of the usual shapes, to measure speed on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCABULARY = 151_936
# Hidden size, intermediate size, layers, query heads, key-value heads, tied embeddings.
SHAPES = {
    "warm-up": (1024, 3072, 1, 16, 8, True),
    "0.6B": (1024, 3072, 28, 16, 8, True),
    "1.7B": (2048, 6144, 28, 16, 8, True),
    "4B": (2560, 9728, 36, 32, 8, True),
    "8B": (4096, 12288, 36, 32, 8, False),
    "14B": (5120, 17408, 40, 40, 8, False),
    "32B": (5120, 25600, 64, 64, 8, False),
}
ITEMS = 1000


def random_model(
    size: str, dtype: torch.dtype = torch.bfloat16, device: str = "cuda", n_layers: int | None = None
) -> Qwen3ForCausalLM:
    """A model of a shape, with all of its layers if ``n_layers`` is not given."""
    hidden, intermediate, layers, heads, key_value_heads, tied = SHAPES[size]
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=n_layers or layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_dim=128,
        tie_word_embeddings=tied,
        max_position_embeddings=40_960,
        rope_parameters={"rope_theta": 1_000_000.0, "rope_type": "default"},
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device(device):
        former = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        model = Qwen3ForCausalLM(config).eval()
        torch.set_default_dtype(former)
    return model


def word_tokenizer(vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A tokenizer with one word ``w<n>`` for each token id n."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{i}": i for i in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0", pad_token="w0", unk_token="w0")


def write_tasks(folder: Path) -> dict[str, str]:
    """Two tasks of lm-eval and what they are like.

    ``letters``, as MMLU with five shots: ten prompts of about 450 tokens, questions of about 90, four letters.
    ``endings``, as HellaSwag: contexts of about 80 tokens, four endings of about 25.
    """
    rng = np.random.default_rng(0)

    def words(mean: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(1, VOCABULARY, rng.integers(mean * 3 // 4, mean * 5 // 4 + 1)))

    prompts = [words(450) for _ in range(10)]
    items = {
        "letters": [(f"{prompts[i * 10 // ITEMS]} {words(90)}", ["w11", "w12", "w13", "w14"]) for i in range(ITEMS)],
        "endings": [(words(80), [words(25) for _ in range(4)]) for _ in range(ITEMS)],
    }
    for name, rows in items.items():
        lines = [{"context": context, "choices": choices, "answer": i % 4} for i, (context, choices) in enumerate(rows)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{context}}",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc"}],
        }
        (folder / f"{name}.yaml").write_text(json.dumps(task))
    return {"letters": "5-shot, letters", "endings": "0-shot, four endings"}
