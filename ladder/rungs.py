"""The rungs: six Qwen3 models, each about twice the size of the one below."""

from __future__ import annotations

from dataclasses import dataclass

HEADS = 4
CONTEXT_LENGTH = 256


@dataclass(frozen=True)
class Rung:
    """Shape of a model; widths and intermediate sizes are multiples of 128, so that groups up to 128 divide them."""

    width: int
    layers: int
    intermediate_size: int
    learning_rate: float

    @property
    def non_embedding_parameters(self) -> int:
        attention, feed_forward = 4 * self.width**2, 3 * self.width * self.intermediate_size
        norms = 2 * self.width + 2 * self.width // HEADS
        return self.layers * (attention + feed_forward + norms) + self.width

    def config(self, vocabulary_size: int, end_token: int, padding_token: int):
        """The transformers configuration of the model."""
        from transformers import Qwen3Config

        return Qwen3Config(
            vocab_size=vocabulary_size,
            hidden_size=self.width,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            head_dim=self.width // HEADS,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=end_token,
            eos_token_id=end_token,
            pad_token_id=padding_token,
            dtype="bfloat16",
        )


RUNGS = {
    "r1": Rung(128, 1, 128, 2e-3),
    "r2": Rung(128, 2, 128, 2e-3),
    "r3": Rung(128, 2, 384, 2e-3),
    "r4": Rung(128, 3, 512, 2e-3),
    "r5": Rung(256, 3, 384, 1.2e-3),
    "r6": Rung(256, 4, 512, 1.2e-3),
}
