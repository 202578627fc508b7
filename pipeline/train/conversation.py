"""From clips with questions and answers to the inputs of a video MLLM in training, for every family alike.

The loss is on the answer and on the token that ends it. Where these are is found by rendering each conversation twice,
with its answer and as a prompt for it: what the first adds to the second is the answer, whatever the template is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf_inputs import video_metadata
from pipeline.models.hf_loading import LOAD_FAULTS, explain_load_fault
from pipeline.models.torchvision_mend import mend_torchvision

IGNORED = -100
"""Label of a token that does not count."""

_MOST_JOINED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A clip with a question and its answer; where `counts` is False nothing of it is learned."""

    clip: ClipFrames
    question: str
    answer: str
    counts: bool = True


class TrainingProcessor:
    """The processor of a model, set up for training: padding on the right, labels on the answers.

    Attributes:
        processor: of transformers; it is what is saved beside an adapter.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        setting: str = "lora.base",
        trust_remote_code: bool = False,
    ) -> None:
        """Load the processor.

        Raises:
            SetupError: there is none, it takes no videos, or a package is missing that it needs.
        """
        mend_torchvision()
        from transformers import AutoProcessor

        try:
            self.processor: Any = AutoProcessor.from_pretrained(
                model, revision=revision, trust_remote_code=trust_remote_code
            )
        except LOAD_FAULTS as fault:
            raise explain_load_fault(fault, model, setting) from None
        if getattr(self.processor, "video_processor", None) is None:
            raise SetupError(f"{setting}={model}: takes no videos ({type(self.processor).__name__})")
        self._title = f"{setting}={model}"
        self._tokenizer = self.processor.tokenizer
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def inputs(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """Return the inputs of a batch and its labels.

        `input_ids`, `attention_mask` and `labels` are int64 tensors of shape (lessons, tokens), padded on the right;
        labels are `IGNORED` except on the answers and what ends them. Pixels are as the family wants them.

        Raises:
            SetupError: the chat template does not render an answer as a continuation of its prompt.
        """
        prompts = self._render(lessons, with_answers=False)
        inputs: dict[str, Any] = dict(self._render(lessons, with_answers=True))
        totals = inputs["attention_mask"].sum(dim=1).tolist()
        conversations = [inputs["input_ids"][row, :total].tolist() for row, total in enumerate(totals)]
        starts = [self._answer_start(ids, prompts, row) for row, ids in enumerate(conversations)]
        ends = [self._answer_end(ids, start) for ids, start in zip(conversations, starts, strict=True)]
        if None in ends:
            inputs = self._ended(inputs, [total for total, end in zip(totals, ends, strict=True)], ends)
        ids = inputs["input_ids"]
        labels = ids.new_full(ids.shape, IGNORED)
        for row, lesson in enumerate(lessons):
            if lesson.counts:
                answer = slice(starts[row], totals[row] + 1 if ends[row] is None else ends[row])
                labels[row, answer] = ids[row, answer]
        inputs["labels"] = labels
        return inputs

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        text: str = self._tokenizer.decode(tokens)
        return text

    def _answer_start(self, ids: Sequence[int], prompts: Any, row: int) -> int:
        """Return where the answer begins: where the conversation leaves its prompt.

        A tokenizer may join the prompt's last piece with the answer's first, e.g. a space with a word.
        """
        prompt = prompts["input_ids"][row, : int(prompts["attention_mask"][row].sum())].tolist()
        shared = next((place for place, (a, b) in enumerate(zip(ids, prompt, strict=False)) if a != b), len(prompt))
        if len(prompt) - shared > _MOST_JOINED or shared >= len(ids):
            raise SetupError(
                f"{self._title}: its chat template does not continue a prompt by the answer, so that no loss can be "
                "put on answers alone"
            )
        return shared

    def _answer_end(self, ids: Sequence[int], start: int) -> int | None:
        """Return the place after the token that ends the answer, None where the template adds none."""
        end = self._tokenizer.eos_token_id
        return next((place + 1 for place in range(start, len(ids)) if ids[place] == end), None)

    def _ended(self, inputs: dict[str, Any], totals: Sequence[int], ends: Sequence[int | None]) -> dict[str, Any]:
        """Put the token that ends a text after the answers that lack it: without one a model never learns to stop."""
        shape = inputs["input_ids"].shape
        fills = {"input_ids": self._tokenizer.pad_token_id}
        longer = {}
        for name, value in inputs.items():
            if tuple(value.shape) == tuple(shape):
                column = value.new_full((shape[0], 1), fills.get(name, 0))
                longer[name] = _joined(value, column)
            else:
                longer[name] = value
        for row, (total, end) in enumerate(zip(totals, ends, strict=True)):
            if end is None:
                longer["input_ids"][row, total] = self._tokenizer.eos_token_id
                longer["attention_mask"][row, total] = 1
        return longer

    def _render(self, lessons: Sequence[Lesson], *, with_answers: bool) -> Any:
        return self.processor.apply_chat_template(
            [_turns(lesson, with_answer=with_answers) for lesson in lessons],
            tokenize=True,
            add_generation_prompt=not with_answers,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={
                "do_sample_frames": False,
                "video_metadata": [video_metadata(lesson.clip) for lesson in lessons],
                "padding": True,
                # some processors pad on the left unless told otherwise
                "padding_side": "right",
            },
        )


def _joined(value: Any, column: Any) -> Any:
    import torch

    return torch.cat([value, column], dim=1)


def _turns(lesson: Lesson, *, with_answer: bool) -> list[dict[str, Any]]:
    question = [{"type": "video", "video": lesson.clip.frames}, {"type": "text", "text": lesson.question}]
    turns: list[dict[str, Any]] = [{"role": "user", "content": question}]
    if with_answer:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": lesson.answer}]})
    return turns
