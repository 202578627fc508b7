"""The loss of answers, summed over their tokens."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.train.conversation import IGNORED


def answer_loss(model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """Return the cross entropy summed over the answer tokens of a batch, and how many these are.

    A sum, because a step is the mean over the tokens of all its batches on all devices, whose answers differ in length.
    Logits are computed from the first answer token on: most of a row is video. Among the inputs are `labels`, shape
    (rows, tokens), which are `IGNORED` outside of answers; the model may be wrapped for several devices. Labels are
    best left on the CPU: where they say how much there is, a GPU that holds them has to be waited for.
    """
    labels = inputs["labels"]
    is_answer = labels != IGNORED
    is_answer[:, 0] = False  # nothing stands before it that could predict it
    columns = is_answer.any(dim=0).nonzero()
    first = int(columns[0]) if len(columns) else labels.shape[1] - 1
    kept = labels.shape[1] - first + 1
    given = {name: value for name, value in inputs.items() if name != "labels"}
    if _can_keep_some_logits(model):
        given["logits_to_keep"] = kept  # type: ignore[assignment]
    logits = model(**given, use_cache=False).logits[:, -kept:]
    wanted = is_answer[:, first:]
    targets = labels[:, first:][wanted].to(logits.device, non_blocking=True)
    rows, places = (index.to(logits.device, non_blocking=True) for index in wanted.nonzero(as_tuple=True))
    loss = cross_entropy(logits[:, :-1][rows, places].float(), targets, reduction="sum")
    return loss, len(targets)


def _can_keep_some_logits(model: Any) -> bool:
    inner = getattr(model, "module", model)
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return "logits_to_keep" in inspect.signature(base.forward).parameters
