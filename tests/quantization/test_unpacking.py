"""Dense weights are what the packed ones stand for, bit for bit."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from stratalaw.evaluation.answers import load_dense
from stratalaw.quantization.gptq import quantize
from stratalaw.quantization.unpacking import dense_weights, unpack
from stratalaw.study import Gptq
from stratalaw.study.variants import Quantization


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), columns=st.integers(1, 5), periods=st.integers(1, 3))
def test_codes_come_back_from_packed_words(bits, seed, columns, periods):
    codes = np.random.default_rng(seed).integers(2**bits, size=(periods * 32, columns))
    # The definition: the codes of a column, lowest bit first, written one after the other.
    stream = np.stack([(codes >> bit) & 1 for bit in range(bits)], axis=1).reshape(-1, columns)
    words = np.ascontiguousarray(np.packbits(stream.T, axis=1, bitorder="little")).view("<i4").T.copy()
    assert unpack(torch.from_numpy(words), bits).tolist() == codes.tolist()


@pytest.mark.parametrize("variant", [(2, 64), (3, 64), (4, 32), (8, 128), (3, 256), (4, -1)], ids=str)
def test_a_checkpoint_is_dequantized_as_gptqmodel_does(small_model_folder, calibration, tmp_path, variant):
    from gptqmodel.utils.model_dequant import dequantize_model

    checkpoint = tmp_path / "packed"
    quantize(small_model_folder, checkpoint, Quantization(*variant, 8, 0), calibration, Gptq())
    dequantize_model(checkpoint, tmp_path / "dense")
    theirs, ours = load_file(tmp_path / "dense" / "model.safetensors"), dense_weights(checkpoint, "cpu")
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert weight.dtype == torch.bfloat16 and torch.equal(weight, theirs[name]), name


def test_a_loaded_checkpoint_is_an_ordinary_dense_model(small_model_folder, calibration, tmp_path):
    quantize(small_model_folder, tmp_path / "packed", Quantization(8, 128, 8, 0), calibration, Gptq())
    model, original = load_dense(tmp_path / "packed", "cpu"), AutoModelForCausalLM.from_pretrained(small_model_folder)
    assert not model.training and not hasattr(model.config, "quantization_config")
    assert all(torch.equal(weight, weight.bfloat16().to(weight.dtype)) for weight in model.parameters())
    assert model.state_dict().keys() == original.state_dict().keys()
    tokens = torch.arange(20)[None]
    exact, rounded = original(tokens).logits, model(tokens).logits
    assert (exact - rounded).abs().max() < 0.1 * exact.abs().max()


def test_another_packing_is_refused(small_model_folder, calibration, tmp_path):
    quantize(small_model_folder, tmp_path / "packed", Quantization(4, 128, 8, 0), calibration, Gptq())
    settings_file = tmp_path / "packed" / "quantize_config.json"
    settings_file.write_text(json.dumps(json.loads(settings_file.read_text()) | {"checkpoint_format": "gptq_v2"}))
    with pytest.raises(ValueError, match="packed as gptq_v2, not as gptq; quantize anew"):
        dense_weights(tmp_path / "packed", "cpu")
