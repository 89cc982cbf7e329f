"""Make the checkpoints beside this file with the tools whose formats they have: ``python make.py TOOL …``

A random model of one layer, and of it one checkpoint per format. ``expected.json`` has the SHA-256 of each matrix, in
bf16 and (output features, input features), as the tool's own code dequantizes it. Made with gptqmodel 7.6.0,
llmcompressor 0.14.0.1 and compressed-tensors 0.20.0, auto-round 0.16.1, AutoAWQ 0.2.9, and gguf 0.19.0.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

HERE = Path(__file__).parent
MODEL = HERE / "model"
TOKENS = [torch.randint(3, 128, (64,), generator=torch.Generator().manual_seed(seed)).tolist() for seed in range(16)]


def make_model() -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        dtype="bfloat16",
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = Qwen3ForCausalLM(config).bfloat16()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(5)
    model.save_pretrained(MODEL)
    vocabulary = {f"w{number}": number for number in range(128)}
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w2", pad_token="w0", eos_token="w1").save_pretrained(
        MODEL
    )


def record(folder: Path, dense: Mapping[str, torch.Tensor]) -> None:
    digests = {
        name: hashlib.sha256(weight.bfloat16().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, weight in sorted(dense.items())
    }
    (folder / "expected.json").write_text(json.dumps(digests, indent=1) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "quant_log.csv", "recipe.yaml"):
        (folder / name).unlink(missing_ok=True)


def gptqmodel(name: str, **options: object) -> None:
    from gptqmodel import GPTQModel, QuantizeConfig
    from gptqmodel.utils.model_dequant import dequantize_model
    from safetensors.torch import load_file

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = GPTQModel.load(str(MODEL), QuantizeConfig(offload_to_disk=False, **options), device="cpu")
    samples = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in TOKENS]
    model.quantize(samples, batch_size=4, calibration_data_min_length=1)
    model.save(str(folder))
    dequantize_model(folder, folder / "dense")
    dense = load_file(folder / "dense" / "model.safetensors")
    record(folder, {key: weight for key, weight in dense.items() if "_proj" in key})
    shutil.rmtree(folder / "dense")


def autoawq(name: str) -> None:
    """Quantized and packed by AutoAWQ's own layer; its search for scales needs an older transformers."""
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.quantize.quantizer import AwqQuantizer
    from awq.utils.packing_utils import dequantize_gemm
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float16)
    quantizer = AwqQuantizer.__new__(AwqQuantizer)
    quantizer.w_bit, quantizer.group_size, quantizer.zero_point = 4, 32, True
    tensors = {key: weight.clone() for key, weight in model.state_dict().items() if key != "lm_head.weight"}
    dense = {}
    for key, module in model.named_modules():
        if key.endswith("_proj"):
            module.weight.data, scales, zeros = quantizer.pseudo_quantize_tensor(module.weight.data)
            packed = WQLinear_GEMM.from_linear(module, 4, 32, False, scales.t().contiguous(), zeros.t().contiguous())
            del tensors[f"{key}.weight"]
            tensors |= {f"{key}.{part}": value for part, value in packed.state_dict().items()}
            dense[f"{key}.weight"] = dequantize_gemm(packed.qweight, packed.qzeros, packed.scales.float(), 4, 32).t()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((MODEL / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 32,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": None,
    }  # as AutoAWQ writes it
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    record(folder, dense)


def compressed_tensors(name: str, scheme: str) -> None:
    import llmcompressor
    from datasets import Dataset
    from llmcompressor.modifiers.quantization import GPTQModifier
    from transformers import AutoModelForCausalLM

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    modifier = GPTQModifier(
        config_groups={
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 8 if "w8" in scheme else 4,
                    "type": "int",
                    "symmetric": "asym" not in scheme,
                    "strategy": "group",
                    "group_size": 32,
                },
            }
        },
        ignore=["lm_head"],
    )
    rows = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in TOKENS]
    llmcompressor.oneshot(
        model=model,
        dataset=Dataset.from_list(rows),
        recipe=modifier,
        num_calibration_samples=16,
        max_seq_length=64,
        tokenizer=str(MODEL),
    )
    model.save_pretrained(folder, save_compressed=True)
    from transformers.utils.quantization_config import CompressedTensorsConfig

    again = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=CompressedTensorsConfig(run_compressed=False), dtype=torch.bfloat16
    )
    record(folder, {key: weight for key, weight in again.state_dict().items() if key.endswith("_proj.weight")})


def auto_round(name: str, form: str, **options: object) -> None:
    from auto_round import AutoRound
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    data = [torch.tensor([tokens]) for tokens in TOKENS]
    rounding = AutoRound(
        model,
        tokenizer,
        dataset=[{"input_ids": part, "attention_mask": torch.ones_like(part)} for part in data],
        nsamples=16,
        seqlen=64,
        iters=2,
        batch_size=4,
        device_map="cpu",
        **options,
    )
    rounding.quantize()
    dense = {key: weight.clone() for key, weight in rounding.model.state_dict().items() if key.endswith("_proj.weight")}
    rounding.save_quantized(str(folder), format=form)
    record(folder, dense)


def gguf(name: str, kind: str) -> None:
    import gguf as library
    from safetensors.torch import load_file

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = library.get_tensor_name_map(library.MODEL_ARCH.QWEN3, 1)
    writer = library.GGUFWriter(folder / "model.gguf", "qwen3")
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    dense = {}
    for key, weight in load_file(MODEL / "model.safetensors").items():
        theirs = names.get_name(key, try_suffixes=(".weight",))
        values = weight.float().numpy()
        if key.endswith("_proj.weight"):
            kept = library.GGMLQuantizationType[kind]
            packed = library.quants.quantize(values, kept)
            writer.add_tensor(theirs, packed, raw_dtype=kept)
            dense[key] = torch.from_numpy(library.quants.dequantize(packed, kept))
        else:
            writer.add_tensor(theirs, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    record(folder, dense)


def gguf_blocks() -> None:
    """Random blocks of each kind with what gguf makes of them."""
    import gguf as library
    import numpy as np

    random, arrays = np.random.default_rng(0), {}
    for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"):
        kept = library.GGMLQuantizationType[kind]
        weights, size = library.GGML_QUANT_SIZES[kept]
        blocks = random.integers(0, 256, (4, size), dtype=np.uint8)
        halves = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}
        for place in halves.get(kind, (0, 2) if kind in ("Q4_K", "Q5_K") else (0,)):  # scales that are numbers
            scales = random.normal(0, 0.01, 4).astype(np.float16)
            blocks[:, place : place + 2] = scales.view(np.uint8).reshape(4, 2)
        arrays[kind], arrays[f"{kind} expected"] = blocks, library.quants.dequantize(blocks, kept).reshape(4, weights)
    np.savez_compressed(HERE / "gguf-blocks.npz", **arrays)


TOOLS = {
    "model": make_model,
    "gptq": lambda: gptqmodel("gptq", bits=4, group_size=32, sym=True, desc_act=False),
    "gptq-v2": lambda: gptqmodel("gptq-v2", bits=3, group_size=32, sym=False, desc_act=True, format="gptq_v2"),
    "awq": lambda: autoawq("awq"),
    "compressed-tensors": lambda: compressed_tensors("compressed-tensors", "w4"),
    "compressed-tensors-asym": lambda: compressed_tensors("compressed-tensors-asym", "w4-asym"),
    "compressed-tensors-w8": lambda: compressed_tensors("compressed-tensors-w8", "w8"),
    "auto-round": lambda: auto_round("auto-round", "auto_round:auto_gptq", bits=4, group_size=32, sym=True),
    "auto-round-gptq": lambda: auto_round("auto-round-gptq", "auto_gptq", bits=4, group_size=32, sym=True),
    "gguf-q4_0": lambda: gguf("gguf-q4_0", "Q4_0"),
    "gguf-q8_0": lambda: gguf("gguf-q8_0", "Q8_0"),
    "gguf-blocks": gguf_blocks,
}

if __name__ == "__main__":
    for tool in sys.argv[1:]:
        TOOLS[tool]()
