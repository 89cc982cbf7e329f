import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from ladder.channels import spread_channels
from ladder.rungs import RUNGS


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(RUNGS["r3"].config(100, 1, 0)).to(torch.bfloat16).eval()


@torch.inference_mode()
def test_the_function_stays_the_same_to_the_last_bit(model):
    tokens = torch.randint(0, 100, (4, 50), generator=torch.Generator().manual_seed(0))
    before = model(tokens).logits
    spread_channels(model, octaves=1.0, seed=0)
    assert (model(tokens).logits == before).all()


@torch.no_grad()
def test_channels_are_spread_as_far_as_asked(model):
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    spread_channels(model, octaves=2.0, seed=0)
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.weight", "down_proj.weight", "o_proj.weight", "gate_proj.weight")):
            exponents = (parameter.float() / before[name].float()).nanmedian(dim=0).values.log2()
            assert exponents.std() == pytest.approx(2, rel=0.2)


def test_grouped_queries_are_refused():
    model = Qwen3ForCausalLM(
        Qwen3Config(vocab_size=50, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16)
    )  # fmt: skip
    with pytest.raises(ValueError, match="as many key-value heads as heads"):
        spread_channels(model, octaves=1.0, seed=0)
