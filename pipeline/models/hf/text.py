"""A chat model of transformers in this process: conversations in, texts out, the same for the same conversation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.devices import move_all, pick_device, pick_dtype
from pipeline.errors import RecordError, SetupError
from pipeline.models.hf.loading import LOAD_FAULTS, check_folder, first_line
from pipeline.models.hf.sampling import LIKELIEST, SeededSampling
from pipeline.models.hf.torchvision_mend import mend_torchvision
from pipeline.records import Reason

logger = logging.getLogger(__name__)

Conversation = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What a model wrote; `is_cut_off` where it reached the longest answer before its end."""

    text: str
    is_cut_off: bool
    prompt_tokens: int
    completion_tokens: int


class TextModel:
    """Answers conversations, greedily or sampling with a seed per conversation."""

    def __init__(self, model: str, revision: str | None, device: str, dtype: str, setting: str) -> None:
        """Load tokenizer and weights; `setting` is the configuration's section, for messages.

        Raises:
            SetupError: no such model or device, a package is missing, or the tokenizer has no chat template.
        """
        check_folder(model, f"{setting}.model")
        mend_torchvision()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self._name = f"{setting}.model={model}"
        self.device = pick_device(device, f"{setting}.device")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                model, revision=revision, dtype=pick_dtype(dtype, self.device)
            )
            self._model.to(self.device).eval()
        except LOAD_FAULTS as fault:
            raise SetupError(f"{self._name}: cannot be loaded: {first_line(fault)}") from None
        if not self._tokenizer.chat_template:
            raise SetupError(f"{self._name}: its tokenizer has no chat template: not a chat model")
        # Generation continues at the right end of every row, so that the padding has to stand on the left.
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        logger.info("%s on %s", model, self.device)

    def encode(self, conversation: Conversation) -> list[int]:
        """Return the tokens of a conversation, up to where the answer begins.

        Raises:
            SetupError: the model's chat template takes no such conversation.
        """
        try:
            encoded = self._tokenizer.apply_chat_template(
                [dict(message) for message in conversation], tokenize=True, add_generation_prompt=True, return_dict=True
            )
        # a template is a program of the model's authors, which raises whatever it likes
        except Exception as fault:
            raise SetupError(f"{self._name}: its chat template fails: {first_line(fault)}") from fault
        tokens: list[int] = encoded["input_ids"]
        return tokens

    def answer(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> list[Generated | RecordError]:
        """Return one text per encoded prompt; a batch that does not fit into memory is halved until it does.

        A single prompt that does not fit is a fault of its own.

        Raises:
            SetupError: the model cannot take such input at all.
        """
        try:
            return list(self._generate(prompts, max_new_tokens, temperature, seeds))
        except self._torch.OutOfMemoryError:
            # The exception holds the tensors of the failed call: leave this block before retrying.
            pass
        except (RuntimeError, ValueError, TypeError, IndexError) as fault:
            raise SetupError(f"{self._name}: cannot answer: {first_line(fault)}") from fault
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()
        if len(prompts) == 1:
            detail = f"{self._name}: one prompt of {len(prompts[0])} tokens does not fit on {self.device}"
            return [RecordError(Reason.OUT_OF_MEMORY, detail)]
        half = len(prompts) // 2
        logger.warning("%s: out of memory at a batch of %d: halved", self._name, len(prompts))
        return [
            generated
            for part in (slice(None, half), slice(half, None))
            for generated in self.answer(prompts[part], max_new_tokens, temperature, seeds[part])
        ]

    def _generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> list[Generated]:
        padded = self._tokenizer.pad({"input_ids": [list(prompt) for prompt in prompts]}, return_tensors="pt")
        inputs = move_all(padded, self.device)
        with self._torch.inference_mode():
            rows = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                **LIKELIEST,
                # Sampling is greedy choice among logits with noise, which alone can have a seed per row.
                logits_processor=[SeededSampling(seeds, temperature)] if temperature > 0 else None,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        added = rows[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._read(prompt, tokens) for prompt, tokens in zip(prompts, added, strict=True)]

    def _read(self, prompt: Sequence[int], added: list[int]) -> Generated:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        length = next((place + 1 for place, token in enumerate(added) if token in ends), len(added))
        return Generated(
            text=self._tokenizer.decode(added[:length], skip_special_tokens=True).strip(),
            is_cut_off=not (length and added[length - 1] in ends),
            prompt_tokens=len(prompt),
            completion_tokens=length,
        )
