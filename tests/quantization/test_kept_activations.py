"""Passes that go on from what those before them kept give the same numbers with fewer products."""

from collections import Counter

import pytest
import torch
from gptqmodel.nn_modules.hooked_linear import StopForward, replace_module_with_hooked_legacy
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from stratalaw.quantization.kept_activations import KeptActivations, Pass, free_on_gpu

GROUPS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
QWEN2 = Qwen2Config(**SHAPE)
PLAIN = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2, with biases": QWEN2,
    "qwen3, with norms of heads": Qwen3Config(**SHAPE),
    "gemma, gated by GELU": GemmaConfig(**SHAPE),
}
EXPERTS = Qwen3MoeConfig(**SHAPE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
BATCHES = 3
PLENTY = 2**40
NOTHING = 0


class Passes:
    """The passes by which gptqmodel quantizes a layer; here a matrix is quantized by rounding its weights to tenths.

    ``collected``: the inputs of each matrix in the pass that collects for it. ``products``: how often it multiplied.
    """

    def __init__(self, config, monkeypatch, free_bytes: int, copied: bool = False) -> None:
        torch.manual_seed(0)
        config.num_hidden_layers, config.vocab_size = 1, 64
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().model
        for name, weight in model.named_parameters():
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
        self.layer, self.rotary = model.layers[0], model.rotary_emb
        replace_module_with_hooked_legacy(self.layer)
        if copied:
            self.layer = as_on_another_gpu(self.layer)
        # The last batch is shorter.
        self.batches = [torch.randn(2, 5 - (number == 2), 32).to(torch.bfloat16) for number in range(BATCHES)]
        self.kept = KeptActivations(lambda device: free_bytes)
        self.batch = 0
        self.options = {"use_cache": False}
        self.collected: dict[str, list[torch.Tensor]] = {}
        self.products: Counter[str] = Counter()
        names = {module: name for name, module in self.layer.named_modules()}
        multiply = torch.nn.Linear.forward

        def counted(matrix, inputs):
            if matrix in names:
                self.products[names[matrix]] += 1
            return multiply(matrix, inputs)

        monkeypatch.setattr(torch.nn.Linear, "forward", counted)

    def quantize(self) -> list[torch.Tensor]:
        """The outputs of the layer once all of it was quantized."""
        for group in GROUPS:
            self.collect_and_round({name: self.layer.get_submodule(name) for name in group if self.has(name)})
        return self.perform(for_outputs=True)

    def has(self, name: str) -> bool:
        return name in dict(self.layer.named_modules())

    def collect_and_round(self, group: dict) -> None:
        for name, matrix in group.items():
            seen = self.collected[name] = []
            matrix.forward_hook = lambda _, inputs, output, seen=seen: seen.append(inputs[0].clone())
        if group:
            matrix.forward_hook_last = True
            self.perform(for_outputs=False)
        for matrix in group.values():
            matrix.forward_hook, matrix.forward_hook_last = None, False
            matrix.weight.data = (matrix.weight * 10).round() / 10

    def perform(self, for_outputs: bool) -> list[torch.Tensor]:
        outputs, shapes = [], [inputs.shape for inputs in self.batches]
        with self.kept.during(Pass(self.layer, 0, torch.device("cpu"), shapes, for_outputs, lambda: self.batch)):
            for number, inputs in enumerate(self.batches):
                self.batch = number
                angles = self.rotary(inputs, torch.arange(inputs.shape[1])[None])
                try:
                    with torch.no_grad():
                        outputs.append(self.layer(inputs, position_embeddings=angles, **self.options))
                except StopForward:
                    pass
        return outputs


def as_on_another_gpu(module: torch.nn.Module) -> torch.nn.Module:
    """A copy as torch makes them for several GPUs: weights are plain attributes."""
    copy = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        copy._modules[name] = as_on_another_gpu(child)
    for name, weight in module._parameters.items():
        setattr(copy, name, None if weight is None else weight.detach())
    return copy


def both(config, monkeypatch) -> tuple[Passes, Passes]:
    """Passes with and without kept activations, which were seen to give the same bits."""
    found = []
    for free in (PLENTY, NOTHING):
        passes = Passes(config, monkeypatch, free)
        found.append((passes, passes.quantize()))
    (kept, outputs), (plain, expected) = found
    assert len(expected) == BATCHES
    assert all(map(torch.equal, outputs, expected))
    assert kept.collected.keys() == plain.collected.keys()
    for name, inputs in plain.collected.items():
        assert len(inputs) == BATCHES
        assert all(map(torch.equal, kept.collected[name], inputs)), name
    return kept, plain


@pytest.mark.parametrize("config", PLAIN.values(), ids=PLAIN)
def test_inputs_and_outputs_are_the_same_bits_with_one_product_of_each_quantized_matrix(config, monkeypatch):
    kept, plain = both(config, monkeypatch)
    # On a CPU a pass stops after the product of its last matrix, not before.
    stopped_after = {group[-1] for group in GROUPS}
    for name in (name for group in GROUPS for name in group):
        # The first batch goes the whole way in each pass, and once more from what is kept.
        first = plain.products[name] / BATCHES + (name in ("self_attn.o_proj", "mlp.down_proj"))
        others = 1 + (name in stopped_after)
        assert kept.products[name] == first + others * (BATCHES - 1), name


def test_a_mixture_of_experts_is_passed_as_before(monkeypatch):
    kept, plain = both(EXPERTS, monkeypatch)
    assert kept.collected.keys() == {*GROUPS[0], *GROUPS[1]}
    assert kept.products == plain.products


def test_copies_on_several_gpus_go_on_from_what_they_kept(monkeypatch):
    passes, plain = Passes(QWEN2, monkeypatch, PLENTY, copied=True), Passes(QWEN2, monkeypatch, NOTHING)
    assert all(map(torch.equal, passes.quantize(), plain.quantize()))
    assert passes.products["self_attn.q_proj"] == plain.products["self_attn.q_proj"] / BATCHES + BATCHES - 1


def test_what_does_not_fit_is_not_kept(monkeypatch):
    passes = Passes(PLAIN["llama"], monkeypatch, free_bytes=1)
    passes.quantize()
    assert passes.products["self_attn.k_proj"] == 4 * BATCHES + 1  # the pass that collects for it reads none of them


def test_a_block_that_does_more_than_its_matrices_say_is_computed_anew(monkeypatch):
    passes, plain = (Passes(PLAIN["llama"], monkeypatch, free) for free in (PLENTY, NOTHING))
    for each in (passes, plain):
        attention = each.layer.self_attn
        former = attention.forward
        attention.forward = lambda *args, former=former, **options: (former(*args, **options)[0] * 2, None)
    assert all(map(torch.equal, passes.quantize(), plain.quantize()))
    assert passes.products["self_attn.k_proj"] > 3 * BATCHES
    assert passes.products["mlp.gate_proj"] == BATCHES + 2  # the other block goes on


def test_an_attention_that_may_leave_something_for_other_layers_is_computed_anew(monkeypatch):
    passes, plain = (Passes(PLAIN["llama"], monkeypatch, free) for free in (PLENTY, NOTHING))
    passes.options["states_of_layers"] = {}
    assert all(map(torch.equal, passes.quantize(), plain.quantize()))
    assert passes.products["self_attn.k_proj"] > 3 * BATCHES


def test_inputs_that_depend_on_another_matrix_of_the_group_are_not_cut_short(monkeypatch):
    passes, plain = (Passes(PLAIN["llama"], monkeypatch, free) for free in (PLENTY, NOTHING))
    for each in (passes, plain):
        mlp = each.layer.mlp
        mlp.forward = lambda x, mlp=mlp: mlp.down_proj(mlp.up_proj(x + mlp.gate_proj(x).mean()))
    assert all(map(torch.equal, passes.quantize(), plain.quantize()))
    assert all(map(torch.equal, passes.collected["mlp.up_proj"], plain.collected["mlp.up_proj"]))


def test_nothing_is_kept_where_no_memory_of_a_gpu_is_free():
    assert free_on_gpu(torch.device("cpu")) == 0
