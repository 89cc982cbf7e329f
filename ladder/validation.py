"""Accuracy on items that no benchmark contains: what training may look at."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch

from ladder.holdout import Split
from ladder.items import CHOICES, Item, Question, stop_word
from ladder.vocabulary import END
from ladder.world import World

BATCH_SIZE = 256


@torch.inference_mode()
def log_likelihoods(model, world: World, items: list[Item]) -> torch.Tensor:
    """Log-likelihood (nats, float32 softmax) of each choice after its context, shape (items, CHOICES)."""
    encode, device = world.vocabulary.encode, model.device
    rows = []
    for item in items:
        context = encode(item.context)
        rows += [(np.concatenate([context, encode(choice)]), len(context)) for choice in item.choices]
    result = []
    for start in range(0, len(rows), BATCH_SIZE):
        part = rows[start : start + BATCH_SIZE]
        tokens = torch.zeros(len(part), max(len(row) for row, _ in part), dtype=torch.long)
        is_continuation = torch.zeros(tokens.shape, dtype=torch.bool)
        for i, (row, context_length) in enumerate(part):
            tokens[i, : len(row)] = torch.from_numpy(row)
            is_continuation[i, context_length : len(row)] = True
        logits = model(tokens.to(device), use_cache=False).logits[:, :-1].float().cpu()
        token_log_likelihoods = logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).squeeze(2)
        result.append((token_log_likelihoods * is_continuation[:, 1:]).sum(1))
    return torch.cat(result).view(len(items), CHOICES)


@torch.inference_mode()
def are_written(model, world: World, questions: list[Question]) -> list[bool]:
    """Whether the greedy continuation of each question is its answer, and an end after it."""
    vocabulary = world.vocabulary
    ends = {vocabulary[stop_word(questions)], vocabulary[END]}
    by_length = defaultdict(list)
    for index, question in enumerate(questions):
        context, answer = vocabulary.encode(question.context), vocabulary.encode(question.answer)
        by_length[len(context), len(answer)].append((index, context, answer))
    right = [False] * len(questions)
    for (_, length), group in by_length.items():
        rows = torch.from_numpy(np.stack([context for _, context, _ in group])).to(model.device)
        for _ in range(length + 1):
            rows = torch.cat([rows, model(rows, use_cache=False, logits_to_keep=1).logits.argmax(-1)], dim=1)
        written = rows[:, -length - 1 :].cpu().numpy()
        for (index, _, answer), row in zip(group, written, strict=True):
            right[index] = bool((row[:-1] == answer).all() and row[-1] in ends)
    return right


def validate(model, world: World, count: int) -> dict[str, dict[str, float]]:
    """Accuracy by benchmark and subtask (and over ``all``) on ``count`` validation items of each benchmark."""
    result = {}
    for benchmark in world.benchmarks:
        items = world.items(benchmark, count, Split.VALIDATION)
        if isinstance(items[0], Question):
            right = are_written(model, world, items)
        else:
            chosen = log_likelihoods(model, world, items).argmax(1).tolist()
            right = [choice == item.label for item, choice in zip(items, chosen, strict=True)]
        hits = defaultdict(list)
        for item, is_right in zip(items, right, strict=True):
            for group in ("all", item.subtask):
                hits[group].append(is_right)
        result[benchmark.name] = {group: round(float(np.mean(part)), 4) for group, part in sorted(hits.items())}
    return result
