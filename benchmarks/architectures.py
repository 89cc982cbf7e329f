"""Every architecture through the whole chain: a tiny random model of it, quantized and scored, or refused and why.

``python benchmarks/architectures.py FOLDER [BITS ...]`` makes the models in FOLDER and prints the table of
``docs/reference/architectures.md``; the numbers go to ``FOLDER/architectures.json``. Each model is stored as the Hub
has it, checked as before a study, quantized in another process, and answers requests of mixed lengths here, where
gptqmodel, which changes transformers, is never loaded. Beside it answers lm-eval's ``hf`` model, one request at a time,
from a folder with the dense weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other take more time than such a model

import numpy as np

BITS = (2, 3, 4, 8)
MAX_LENGTH = 256
END = 256  # the last token, after one for each byte
SMALL: dict[str, Any] = {
    **{"vocab_size": 257, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": MAX_LENGTH},
    **{"bos_token_id": END, "eos_token_id": END, "pad_token_id": END, "tie_word_embeddings": False},
}
TIED = {"tie_word_embeddings": True}
HEADS = {"head_dim": 16}
WINDOW = {"sliding_window": 32}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    **{"kv_lora_rank": 32, "q_lora_rank": 32, "qk_rope_head_dim": 32, "qk_nope_head_dim": 16, "v_head_dim": 16},
    **{"head_dim": 32, "num_key_value_heads": 4, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1},
    **{"topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1},
}
ORIGINAL = "original_max_position_embeddings"
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, ORIGINAL: 64}
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGES = {
    "text_config": SMALL | HEADS | WINDOW,
    "vision_config": VISION | {"image_size": 28, "patch_size": 14},
    "mm_tokens_per_image": 4,
    **{"image_token_index": 255, "boi_token_index": 254, "eoi_token_index": 253},
}
# By the type of model, and what tells two models of a type apart.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bloom": TIED,
    "cohere": TIED,
    "cohere2": TIED | HEADS | WINDOW,
    "deepseek_v2": LATENT | {"q_lora_rank": None},
    "deepseek_v3": LATENT,
    "ernie4_5": HEADS,
    "ernie4_5_moe": EXPERTS | {"moe_num_experts": 4, "moe_k": 2},
    "exaone4": HEADS | WINDOW,
    "falcon": TIED,
    "gemma": TIED | HEADS,
    "gemma2": TIED | HEADS | WINDOW,
    "gemma3": TIED | IMAGES,
    "gemma3_text": TIED | HEADS | WINDOW,
    "glm": HEADS,
    "glm4": HEADS,
    "glm4_moe": HEADS | EXPERTS | {"n_routed_experts": 4, "first_k_dense_replace": 1},
    "gpt2": TIED,
    "gpt_neox": {},
    "gptj": {"rotary_dim": 8},
    "granite": {},
    "granitemoe": LOCAL_EXPERTS,
    "llama": {},
    "llama, odd widths": {"intermediate_size": 88},
    "mamba": {},
    "mistral": WINDOW,
    "mixtral": LOCAL_EXPERTS,
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": WINDOW,
    "olmoe": EXPERTS,
    "opt": TIED | {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "phi": {},
    "phi3": {},
    "phi3, LongRoPE": {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4} | FACTORS, ORIGINAL: 64},
    "qwen2": {},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 64},
    "qwen3": HEADS,
    "qwen3_moe": HEADS | EXPERTS,
    "seed_oss": HEADS,
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "t5": {},
}


def main(root: Path, bits: list[int]) -> None:
    found = {name: make_and_check(name, root / name) for name in ARCHITECTURES}
    accepted = [name for name, row in found.items() if "refused" not in row]
    variants = [(name, f"w{b}-g32-c4-s0") for name in accepted for b in bits if b in found[name]["bits"]]
    command = [sys.executable, __file__, "--quantize", *(str(root / name / variant) for name, variant in variants)]
    with (root / "quantize.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    for name in accepted:
        found[name] |= answer_as_lm_eval(root / name, [variant for owner, variant in variants if owner == name])
    if "gptqmodel" in sys.modules:
        raise RuntimeError("gptqmodel was loaded where models answer")
    (root / "architectures.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(table(found)))


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """The lines of the documentation's table."""
    lines = ["| architecture | quantized and scored | shared beginnings run once |", "| --- | --- | --- |"]
    for name, row in found.items():
        refused = row.get("refused")
        lines.append(
            f"| {name} | no: {refused} | |"
            if refused
            else f"| {name} | {', '.join(map(str, row['bits']))} bits | "
            f"{'no: ' + row['obstacle'] if row['obstacle'] else 'yes'} |"
        )
    return lines


def make_and_check(name: str, folder: Path) -> dict[str, Any]:
    """Store a random model of an architecture; copy it if it is accepted, else say why it is refused."""
    from stratalaw.layout import Results
    from stratalaw.models.folder import ModelError, copy_model
    from stratalaw.models.known_shapes import shapes_of, shapes_of_model
    from stratalaw.preparation.checks import check_source
    from stratalaw.study import Model

    source = folder / "source"
    make_model(name, source)
    try:
        model = Model(name="tiny", source=str(source), family="random")
        check_source(model, "models.0", "study.yaml")
        shapes = shapes_of_model(model, Results(folder))
    except ModelError as error:
        return {"refused": str(error).rpartition(f"{source}")[2].removeprefix("/config.json").removeprefix(": ")}
    if shapes_of(source).n_params != shapes.n_params:
        raise RuntimeError(f"{name}: another number of parameters by its configuration than by its weights")
    copy_model(source, folder / "model")
    has_experts = any("experts" in matrix.name for matrix in shapes.matrices)
    return {
        "has_experts": has_experts,
        "bits": [bits for bits in BITS if all(matrix.can_be_packed(bits) for matrix in shapes.matrices)],
    }


def make_model(name: str, folder: Path) -> None:
    """A random model of an architecture, with weights large enough that a wrong one shows."""
    import torch
    import transformers

    from stratalaw.preparation.rehearsal import byte_tokenizer, scatter_weights

    options = ARCHITECTURES[name]
    settings = options if "text_config" in options else SMALL | options
    config = transformers.AutoConfig.for_model(name.partition(",")[0], **settings)
    kind = transformers.AutoModelForSeq2SeqLM if name == "t5" else transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    model = kind.from_config(config, dtype=torch.float32)
    scatter_weights(model)
    model.bfloat16().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def quantize_all(checkpoints: list[Path]) -> None:
    """Quantize models in a process that answers nothing; a checkpoint's name says how, and it lies beside its model."""
    from stratalaw.quantization.gptq import quantize
    from stratalaw.study import Gptq
    from stratalaw.study.variants import Quantization

    samples = np.random.default_rng(1).integers(250, size=(4, 64)).tolist()
    for checkpoint in checkpoints:
        model, quantization = checkpoint.parent / "model", Quantization.from_name(checkpoint.name)
        quantize(model, checkpoint, quantization, samples, Gptq())


def answer_as_lm_eval(folder: Path, variants: list[str]) -> dict[str, Any]:
    """How far answers are from lm-eval's (nats), and weights from the original's (relative); why beginnings run twice.

    ``float32``: over all variants. ``bfloat16``: of the original, on a CPU that may only emulate it.
    """
    from stratalaw.engine.shared import OBSTACLES
    from stratalaw.evaluation.answers import load_dense
    from stratalaw.preparation.rehearsal import byte_tokenizer, largest_error

    original = load_dense(folder / "model", "cpu").float()
    differences, errors = [], {}
    for variant in ("model", *variants):
        model, dense = original, folder / "model"
        if variant != "model":
            model = load_dense(folder / variant, "cpu").float()
            errors[variant] = largest_error(model, original)
            dense = folder / f"dense-{variant}"
            model.save_pretrained(dense)
            byte_tokenizer().save_pretrained(dense)
        differences.append(difference(model, dense, "float32"))
        obstacle = OBSTACLES[model]
    rounded = difference(original.bfloat16(), folder / "model", "bfloat16")
    return {"float32": max(differences), "bfloat16": rounded, "errors": errors, "obstacle": obstacle}


def difference(model: Any, dense: Path, dtype: str) -> float:
    """The largest difference in nats between the engine's log-likelihoods and those of lm-eval's ``hf`` model."""
    from lm_eval.models.huggingface import HFLM

    from stratalaw.engine import log_likelihoods
    from stratalaw.preparation.rehearsal import requests

    contexts, continuations = requests()
    ours = log_likelihoods(model, contexts, continuations, tokens_per_batch=1024, max_length=MAX_LENGTH).total
    options = {"dtype": dtype, "softmax_dtype": "float32", "batch_size": 1, "device": "cpu", "max_length": MAX_LENGTH}
    asked = [(("", ""), *request) for request in zip(contexts, continuations, strict=True)]
    theirs = HFLM(pretrained=str(dense), **options)._loglikelihood_tokens(asked, disable_tqdm=True)
    return float(np.abs(ours - [log_likelihood for log_likelihood, _ in theirs]).max())


if __name__ == "__main__":
    if sys.argv[1] == "--quantize":
        quantize_all([Path(path) for path in sys.argv[2:]])
    else:
        main(Path(sys.argv[1]), [int(bits) for bits in sys.argv[2:]] or [4, 3])
