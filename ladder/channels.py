"""Give the channels of a model different magnitudes, as large models have them, without changing its function.

In large language models some channels are far larger than others, which is what makes quantization hard (Dettmers et
al., arXiv 2208.07339). Small models that were trained briefly have no such channels and lose next to nothing at three
bits. The scaling below moves magnitude between neighbouring tensors: SmoothQuant (Xiao et al., arXiv 2211.10438) run
backwards. Factors are powers of two, so in bf16 every output stays the same to the last bit.
"""

from __future__ import annotations

import torch


@torch.no_grad()
def spread_channels(model: torch.nn.Module, octaves: float, seed: int) -> None:
    """Scale the input channels of every matrix of a Qwen3 model by random powers of two, and undo it before them.

    Args:
        model: changed in place.
        octaves: standard deviation of the exponents (normal, rounded to whole numbers).
        seed: of the factors.

    Raises:
        ValueError: several heads share a key-value head, so the outputs of v_proj are not the inputs of o_proj.
    """
    if model.config.num_key_value_heads != model.config.num_attention_heads:
        raise ValueError("spreading channels needs as many key-value heads as heads")
    generator = torch.Generator().manual_seed(seed)

    def factors(matrix: torch.nn.Linear) -> torch.Tensor:
        exponents = (torch.randn(matrix.in_features, generator=generator) * octaves).round()
        return torch.exp2(exponents).to(matrix.weight)

    for layer in model.model.layers:
        attention, feed_forward = layer.self_attn, layer.mlp
        for norm, readers in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (feed_forward.gate_proj, feed_forward.up_proj)),
        ):
            scale = factors(readers[0])
            norm.weight /= scale
            for reader in readers:
                reader.weight *= scale
        for writer, reader in (
            (attention.v_proj, attention.o_proj),
            (feed_forward.up_proj, feed_forward.down_proj),
        ):
            scale = factors(reader)
            writer.weight /= scale[:, None]
            reader.weight *= scale
