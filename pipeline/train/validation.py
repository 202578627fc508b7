"""What is measured of a model in training on rows that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.records import Task
from pipeline.train.batches import TrainingBatch
from pipeline.train.conversation import IGNORED
from pipeline.train.loss import answer_loss

Total = Callable[[Tensor], Tensor]
"""Sums numbers over all devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Sums over validation rows of one device, or of all.

    Attributes:
        loss: cross entropy summed over answer tokens.
        tokens: answer tokens.
        right: answers generated whose judgement is that of the row.
        judged: answers generated.
    """

    loss: float = 0.0
    tokens: int = 0
    right: int = 0
    judged: int = 0

    def __add__(self, other: Measured) -> Measured:
        return Measured(
            loss=self.loss + other.loss,
            tokens=self.tokens + other.tokens,
            right=self.right + other.right,
            judged=self.judged + other.judged,
        )

    def summed(self, total: Total) -> Measured:
        """Return the sums over all devices."""
        values = total(torch.tensor([self.loss, self.tokens, self.right, self.judged], dtype=torch.float64))
        loss, tokens, right, judged = values.tolist()
        return Measured(loss=loss, tokens=round(tokens), right=round(right), judged=round(judged))

    def metrics(self) -> dict[str, float]:
        """Return the mean loss of a token and the judgement accuracy, where they were measured."""
        metrics = {}
        if self.tokens:
            metrics["validation/loss"] = self.loss / self.tokens
        if self.judged:
            metrics["validation/judgement_accuracy"] = self.right / self.judged
        return metrics


def measure_loss(model: Any, batches: Iterable[TrainingBatch], count: int, place: Callable[[Any], Any]) -> Measured:
    """Return the loss over the first `count` batches; `place` moves inputs to the model's device."""
    loss, tokens = 0.0, 0
    with torch.no_grad():
        for batch in islice(batches, count):
            part, part_tokens = answer_loss(model, place(batch.inputs))
            loss += float(part)
            tokens += part_tokens
    return Measured(loss=loss, tokens=tokens)


def measure_judgements(
    model: Any,
    tokenizer: Any,
    batches: Iterable[TrainingBatch],
    count: int,
    *,
    place: Callable[[Any], Any],
    max_new_tokens: int,
) -> Measured:
    """Return how many of the first `count` rows that ask for a judgement are judged right.

    Args:
        model: not wrapped for several devices.
        tokenizer: of the model.
        batches: of one row each; one that counts for nothing has no tasks.
        count: of rows.
        place: moves inputs to the model's device.
        max_new_tokens: the answer opens with its judgement, the rest need not be generated.
    """
    right = judged = 0
    asking = (batch for batch in batches if batch.tasks == [Task.JUDGE_EXPLAIN])
    with torch.no_grad():
        for batch in islice(asking, count):
            prompt = _without_answer(batch.inputs)
            tokens = model.generate(
                **place(prompt),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
            )
            text = tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
            judged += 1
            right += read_verdict(text) is batch.is_anomaly[0]
    return Measured(right=right, judged=judged)


def _without_answer(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs of one row up to where its answer begins."""
    labels = inputs["labels"]
    first = int((labels[0] != IGNORED).nonzero()[0])
    return {
        name: value[:, :first] if value.shape == labels.shape else value
        for name, value in inputs.items()
        if name != "labels"
    }
