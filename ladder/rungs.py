"""The rungs: two families of eight models, evenly spaced in the logarithm of their sizes over a factor of twenty."""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT_LENGTH = 256
HEAD_WIDTH = 32


@dataclass(frozen=True)
class Rung:
    """Shape of a model; widths and intermediate sizes are multiples of 128, so that groups up to 128 divide them."""

    family: str
    width: int
    layers: int
    intermediate_size: int

    @property
    def heads(self) -> int:
        return self.width // HEAD_WIDTH

    @property
    def key_value_heads(self) -> int:
        """Two heads share keys and values."""
        return self.heads // 2

    @property
    def non_embedding_parameters(self) -> int:
        attention = 2 * self.width * HEAD_WIDTH * (self.heads + self.key_value_heads)
        feed_forward = 3 * self.width * self.intermediate_size
        norms = 2 * self.width + (2 * HEAD_WIDTH if self.family == "qwen3" else 0)
        return self.layers * (attention + feed_forward + norms) + self.width

    def model(self, vocabulary_size: int, end_token: int, padding_token: int):
        """The model with random weights, float32."""
        from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

        configuration, model = {
            "qwen3": (Qwen3Config, Qwen3ForCausalLM),
            "llama": (LlamaConfig, LlamaForCausalLM),
        }[self.family]
        return model(
            configuration(
                vocab_size=vocabulary_size,
                hidden_size=self.width,
                intermediate_size=self.intermediate_size,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.key_value_heads,
                head_dim=HEAD_WIDTH,
                max_position_embeddings=CONTEXT_LENGTH,
                tie_word_embeddings=True,
                bos_token_id=end_token,
                eos_token_id=end_token,
                pad_token_id=padding_token,
                dtype="bfloat16",
            )
        ).float()


LEARNING_RATE = 4e-3
# Width, layers, intermediate size: the same in both families. A wider model of this size learned fewer facts.
SHAPES = (
    *((128, 1, 128), (128, 1, 256), (128, 2, 128), (128, 2, 256)),
    *((128, 3, 256), (128, 5, 256), (128, 5, 512), (128, 6, 768)),
)
RUNGS = {
    f"{family[0]}{number}": Rung(family, *shape)
    for family in ("qwen3", "llama")
    for number, shape in enumerate(SHAPES, start=1)
}
