"""first draft"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np

SMALL = {
    "vocab_size": 257,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
    "tie_word_embeddings": False,
}
HEADS = {"head_dim": 16}
ROPE = {"rope_parameters": None}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
WINDOW = {"sliding_window": 32}
LATENT = {
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "head_dim": 32,
    "num_key_value_heads": 4,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "llama": {},
    "mistral": WINDOW,
    "qwen2": {},
    "qwen3": HEADS,
    "gemma": HEADS | {"tie_word_embeddings": True},
    "gemma2": HEADS | WINDOW | {"tie_word_embeddings": True},
    "gemma3_text": HEADS | WINDOW | {"tie_word_embeddings": True},
    "gemma3": {
        "text_config": SMALL | HEADS | WINDOW,
        "vision_config": VISION,
        "mm_tokens_per_image": 4,
        "tie_word_embeddings": True,
        "image_token_index": 255,
        "boi_token_index": 254,
        "eoi_token_index": 253,
    },
    "qwen3_moe": HEADS | EXPERTS,
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 64},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": EXPERTS,
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo": {},
    "olmo2": {},
    "phi": {},
    "phi3": {},
    "phi3_longrope": {"rope_parameters": LONG, "original_max_position_embeddings": 64},
    "gpt2": {},
    "gpt_neox": {"rotary_pct": 0.25},
    "gptj": {"rotary_dim": 8},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64, "tie_word_embeddings": True},
    "bloom": {"tie_word_embeddings": True},
    "falcon": {"tie_word_embeddings": True},
    "stablelm": {},
    "starcoder2": {},
    "cohere": {"tie_word_embeddings": True},
    "cohere2": HEADS | WINDOW | {"tie_word_embeddings": True},
    "granite": {},
    "smollm3": {},
    "glm": HEADS,
    "glm4": HEADS,
    "deepseek_v2": LATENT
    | {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "deepseek_v3": LATENT
    | {
        "q_lora_rank": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "nemotron": {},
    "exaone4": HEADS | WINDOW,
    "olmo3": WINDOW,
    "seed_oss": HEADS,
    "ernie4_5": HEADS,
    "mamba": {},
    "t5": {},
}
VARIANTS = ("w4-g32-c8-s0", "w3-g32-c8-s0")


def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=t, eos_token="<|endoftext|>", bos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def build(name, folder):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    import transformers

    kind = name.replace("_longrope", "")
    options = CONFIGS[name]
    config = AutoConfig.for_model(kind, **((SMALL if "text_config" not in options else {}) | options))
    torch.manual_seed(0)
    if kind == "t5":
        model = transformers.T5ForConditionalGeneration(config)
    else:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape)
            p.copy_(p + 0.1 * noise if p.ndim < 2 else noise * p.shape[-1] ** -0.5)
    model.bfloat16().save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def requests():
    rng = np.random.default_rng(0)
    contexts, continuations = [], []
    for length in (20, 60, 90, 30, 140):
        shared = rng.integers(250, size=length)
        for _ in range(3):
            contexts.append(np.append(shared, rng.integers(250, size=2)))
            continuations.append(rng.integers(250, size=rng.integers(1, 8)))
    return contexts, continuations


def calibration():
    return np.random.default_rng(1).integers(250, size=(8, 64)).tolist()


def theirs(folder, dtype):
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=str(folder), dtype=dtype, softmax_dtype="float32", batch_size=1, device="cpu", max_length=512)
    contexts, continuations = requests()
    asked = [(("", ""), c.tolist(), k.tolist()) for c, k in zip(contexts, continuations)]
    return np.array([ll for ll, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)]), lm.model


def ours(folder, dtype):
    import torch
    from stratalaw.engine import log_likelihoods
    from stratalaw.engine.shared import OBSTACLES
    from stratalaw.evaluation.answers import load_dense

    model = load_dense(folder, "cpu").to(getattr(torch, dtype))
    contexts, continuations = requests()
    return (
        log_likelihoods(model, contexts, continuations, tokens_per_batch=1024, max_length=512).total,
        model,
        OBSTACLES[model],
    )


def phase_build(root, names):
    from stratalaw.models.folder import copy_model
    from stratalaw.preparation.checks import check_source
    from stratalaw.study import Model

    out = {}
    for name in names:
        try:
            build(name, root / name / "source")
        except Exception as e:
            out[name] = {"build": repr(e)[:300]}
            traceback.print_exc()
            continue
        try:
            check_source(Model(name=name, source=str(root / name / "source"), family="x"), "models.0", "study.yaml")
            from stratalaw.models.empty import check_weights

            check_weights(root / name / "source")
            copy_model(root / name / "source", root / name / "model")
            out[name] = {}
        except Exception as e:
            out[name] = {"refused": repr(e)[:300]}
    return out


def phase_quantize(root, names):
    from stratalaw.quantization.gptq import quantize
    from stratalaw.study import Gptq
    from stratalaw.study.variants import Quantization

    out = {}
    for name in names:
        started = time.process_time()
        for variant in VARIANTS:
            try:
                quantize(
                    root / name / "model", root / name / variant, Quantization.from_name(variant), calibration(), Gptq()
                )
            except Exception as e:
                traceback.print_exc()
                out.setdefault(name, {})[variant] = f"quantize: {e!r}"[:300]
        print("QUANTIZED", name, time.process_time() - started, out.get(name), flush=True)
    return out


def phase_answer(root, names):
    from safetensors.torch import save_file
    import shutil

    out = {}
    for name in names:
        started = time.process_time()
        for variant in ("model", *VARIANTS):
            folder = root / name / variant
            if not folder.exists():
                continue
            res = out.setdefault(name, {})
            try:
                dense = folder
                if variant != "model":
                    from stratalaw.evaluation.answers import load_dense

                    dense = root / name / f"dense-{variant}"
                    loaded = load_dense(folder, "cpu")
                    original = load_dense(root / name / "model", "cpu").state_dict()
                    worst = max(
                        (float((w - original[k]).float().norm() / original[k].float().norm().clamp_min(1e-9)), k)
                        for k, w in loaded.state_dict().items()
                    )
                    res[f"{variant} error"] = f"{worst[0]:.2f} {worst[1]}"
                    loaded.bfloat16().save_pretrained(dense)
                    tokenizer().save_pretrained(dense)
                for dtype in ("float32",):
                    a, model, why = ours(folder, dtype)
                    b, reference = theirs(dense, dtype)
                    res[f"{variant} {dtype}"] = f"{np.abs(a - b).max():.2g}"
                    res["why"] = why
            except Exception as e:
                traceback.print_exc()
                res[f"{variant}"] = f"answer: {e!r}"[:300]
        print("ANSWERED", name, time.process_time() - started, flush=True)
    assert "gptqmodel" not in sys.modules
    return out


if __name__ == "__main__":
    root, phase, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:] or list(CONFIGS)
    out = globals()[f"phase_{phase}"](root, names)
    (root / f"{phase}.json").write_text(json.dumps(out, indent=1))
    for k, v in out.items():
        print(k, v)
