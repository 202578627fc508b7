"""From clips with questions and answers to the inputs of a video MLLM in training, for every family alike.

A row is the prompt, made by the very call that makes it at inference, then the answer and the token that ends it, which
alone carry labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.answer_tokens import AnswerTokens
from pipeline.models.hf.inputs import chat_inputs, read_processor
from pipeline.models.hf.loading import ModelSource
from pipeline.train.frozen_vision import without_pixels

IGNORED = -100
"""Label of a token that does not count."""


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

    def __init__(self, source: ModelSource) -> None:
        """Load the processor. Raises: as `read_processor`."""
        self.processor = read_processor(source)
        self._title = f"{source.setting}={source.name}"
        self._tokenizer = self.processor.tokenizer
        self._tokenizer.padding_side = "right"
        self._answers = AnswerTokens(self.processor, self._title)
        self._blind = without_pixels(self.processor)

    def inputs(self, lessons: Sequence[Lesson], *, has_pixels: bool = True) -> dict[str, Any]:
        """Return the inputs of a batch and its labels; without pixels there are as many, which mean nothing.

        `input_ids`, `attention_mask` and `labels` are int64 tensors of shape (lessons, tokens), padded on the right;
        labels are `IGNORED` except on the answers and what ends them. Pixels are as the family wants them.

        Raises:
            SetupError: the chat template does not render an answer as a continuation of its prompt.
        """
        turns = [_turns(lesson) for lesson in lessons]
        processor = self.processor if has_pixels else self._blind
        prompts = chat_inputs(processor, turns, [lesson.clip for lesson in lessons])
        found = [self._answers.of(turn, lesson.answer) for turn, lesson in zip(turns, lessons, strict=True)]
        answers = [[*tokens, end] for tokens, end in found]
        return _appended(prompts, answers, [lesson.counts for lesson in lessons], self._tokenizer.pad_token_id)

    def unfit_part(self, text: str) -> str | None:
        """Return a piece of a text that the tokenizer would take for a token of its own, as `<video>`, or None."""
        return next((token for token in self._answers.specials if token in text), None)


def _turns(lesson: Lesson) -> list[dict[str, Any]]:
    question = [{"type": "video", "video": lesson.clip.frames}, {"type": "text", "text": lesson.question}]
    return [{"role": "user", "content": question}]


def _appended(
    prompts: Mapping[str, Any], answers: Sequence[Sequence[int]], counts: Sequence[bool], pad_token_id: int
) -> dict[str, Any]:
    """Return the inputs with an answer behind each prompt, and the labels."""
    ids, is_prompt = prompts["input_ids"], prompts["attention_mask"].bool()
    lengths = is_prompt.sum(dim=1).tolist()
    width = max(length + len(answer) for length, answer in zip(lengths, answers, strict=True))
    extended = {}
    for name, value in prompts.items():
        if value.shape == ids.shape and not value.is_floating_point():
            # What else there is for each token marks kinds of input, and text is kind 0.
            longer = value.new_full((len(ids), width), pad_token_id if name == "input_ids" else 0)
            for row, length in enumerate(lengths):
                # Some families pad on the left, whatever their tokenizer is set to.
                longer[row, :length] = value[row, is_prompt[row]]
            extended[name] = longer
        else:
            extended[name] = value
    extended["labels"] = ids.new_full((len(ids), width), IGNORED)
    for row, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        place = slice(length, length + len(answer))
        tokens = ids.new_tensor(answer)
        extended["input_ids"][row, place] = tokens
        extended["attention_mask"][row, place] = 1
        if counts[row]:
            extended["labels"][row, place] = tokens
    return extended
