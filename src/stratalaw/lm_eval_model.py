"""The engine as a model of lm-eval: importing this module registers the name ``stratalaw``.

    from lm_eval import simple_evaluate
    import stratalaw.lm_eval_model
    simple_evaluate(model="stratalaw", model_args={"pretrained": "Qwen/Qwen3-0.6B"}, tasks=["arc_easy"])

or ``python -m stratalaw.lm_eval_model`` in place of ``lm_eval``, with the same arguments and ``--model stratalaw``.
Arguments are those of lm-eval's ``hf`` model, and ``tokens_per_batch``. Log-softmax is taken in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from stratalaw.engine import log_likelihoods


@register_model("stratalaw")
class PrefixSharingModel(HFLM):
    """lm-eval's ``hf`` model, but log-likelihoods run each shared token once.

    ``tokens_per_batch``: tokens in one forward pass. ``device``: a GPU if there is one, and else the CPU, if not given.
    """

    def __init__(
        self, *arguments: Any, tokens_per_batch: int = 16_384, device: str | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), **options)
        self.tokens_per_batch = tokens_per_batch

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """``requests``: ((context, continuation) as text or None, context, continuation as token ids)."""
        if not requests:
            return []
        texts, contexts, continuations = zip(*requests, strict=True)
        computed = log_likelihoods(
            self.model.eval(),
            contexts,
            continuations,
            tokens_per_batch=int(self.tokens_per_batch),
            max_length=self.max_length,
        )
        answers = list(zip(computed.total.tolist(), computed.is_greedy.tolist(), strict=True))
        for text, answer in zip(texts, answers, strict=True):
            if text is not None:
                self.cache_hook.add_partial("loglikelihood", text, answer)
        return answers


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
