"""Accuracy on items that no benchmark contains: what training may look at."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch

from ladder.holdout import Split
from ladder.items import CHOICES, Item
from ladder.world import World


@torch.inference_mode()
def log_likelihoods(model, world: World, items: list[Item], batch_size: int = 256) -> torch.Tensor:
    """Log-likelihood (nats, float32 softmax) of each choice after its context, shape (items, CHOICES)."""
    encode, device = world.vocabulary.encode, model.device
    rows = []
    for item in items:
        context = encode(item.context)
        rows += [(np.concatenate([context, encode(choice)]), len(context)) for choice in item.choices]
    result = []
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        tokens = torch.zeros(len(part), max(len(row) for row, _ in part), dtype=torch.long)
        is_continuation = torch.zeros(tokens.shape, dtype=torch.bool)
        for i, (row, context_length) in enumerate(part):
            tokens[i, : len(row)] = torch.from_numpy(row)
            is_continuation[i, context_length : len(row)] = True
        logits = model(tokens.to(device), use_cache=False).logits[:, :-1].float().cpu()
        token_log_likelihoods = logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).squeeze(2)
        result.append((token_log_likelihoods * is_continuation[:, 1:]).sum(1))
    return torch.cat(result).view(len(items), CHOICES)


def validate(model, world: World, count: int) -> dict[str, dict[str, float]]:
    """Accuracy by benchmark and subtask (and over ``all``) on ``count`` validation items of each benchmark."""
    result = {}
    for benchmark in world.benchmarks:
        items = world.items(benchmark, count, Split.VALIDATION)
        chosen = log_likelihoods(model, world, items).argmax(1).tolist()
        correct = defaultdict(list)
        for item, choice in zip(items, chosen, strict=True):
            for group in ("all", item.subtask):
                correct[group].append(choice == item.label)
        result[benchmark.name] = {group: round(float(np.mean(hits)), 4) for group, hits in sorted(correct.items())}
    return result
