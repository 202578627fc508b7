"""What is measured of a model in training on rows that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.evaluate.explanations import judge_explanation
from pipeline.models.hf.sampling import LIKELIEST
from pipeline.train.batches import TrainingBatch
from pipeline.train.conversation import IGNORED
from pipeline.train.loss import answer_loss


def measure_loss(model: Any, batches: Iterable[TrainingBatch], place: Callable[[Any], Any]) -> Tensor:
    """Return the loss summed over the answer tokens of the batches, and how many these are.

    `place` moves inputs to the model's device.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for batch in batches:
            loss, tokens = answer_loss(model, place(batch.inputs))
            sums += torch.tensor([float(loss), tokens], dtype=torch.float64)
    return sums


def measure_judgements(
    model: Any,
    tokenizer: Any,
    batches: Iterable[TrainingBatch],
    *,
    place: Callable[[Any], Any],
    max_new_tokens: int,
    in_step: bool = False,
) -> Tensor:
    """Return how many answers judge right and of how many, how many explain truly and of how many, shape (4,).

    Whether an explanation is true can be told where the words for the label's class are known. The model is not wrapped
    for several devices; `batches` hold a row each, or none that counts. With `in_step` every process makes as many
    passes as the others, which a model that is spread over them needs.
    """
    sums = torch.zeros(4, dtype=torch.float64)
    with torch.no_grad():
        for batch in (batch for batch in batches if batch.ids or in_step):
            prompt = _without_answer(batch.inputs)
            tokens = model.generate(
                **place(prompt),
                max_new_tokens=max_new_tokens,
                **LIKELIEST,
                pad_token_id=tokenizer.pad_token_id,
                synced_gpus=in_step,
            )
            if not batch.ids:
                continue
            text = tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
            said = judge_explanation(batch.classes[0], read_verdict(text), text)
            counts = (said.is_verdict_right, True, said.is_true is True, said.is_true is not None)
            sums += torch.tensor(counts, dtype=torch.float64)
    return sums


def _without_answer(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs of one row up to where its answer begins."""
    labels = inputs["labels"]
    answer = (labels[0] != IGNORED).nonzero()
    first = int(answer[0]) if len(answer) else labels.shape[1]
    return {
        name: value[:, :first] if value.shape == labels.shape else value
        for name, value in inputs.items()
        if name != "labels"
    }
