"""A video MLLM of transformers, of any family, through the Auto classes alone."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from pipeline.devices import move_all, pick_device, pick_dtype
from pipeline.errors import RecordError, SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.adapter import CONFIG_FILE, PROCESSOR_FILE, apply_adapter, is_adapter, read_facts
from pipeline.models.hf.bundled import find_model
from pipeline.models.hf.inputs import ClipProcessor
from pipeline.models.hf.loading import (
    LOAD_FAULTS,
    ModelSource,
    check_folder,
    check_weights,
    explain_load_fault,
    first_line,
)
from pipeline.models.hf.prefix_memory import PrefixMemory, cut_prompts, is_known, roomy_cache, share_prefixes
from pipeline.models.hf.sampling import LIKELIEST, Generation, SeededSampling, seed_of
from pipeline.models.hf.vision_memory import keep_vision
from pipeline.prompts import Message
from pipeline.records import Reason, digest

logger = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

MAP = "map"
"""The device of a model whose layers are spread over all of them."""

_SAMPLED_BYTES = 1 << 20
_STATIC_TOKENS = 128
"""Prompts are padded to multiples of this where shapes are to be few."""
_MEMORY_FAULTS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def find_source(
    model: str, base: str | None = None, *, setting: str = "caption.model", revision: str | None = None, **how: Any
) -> ModelSource:
    """Return where a model is loaded from, by the name that a user gives.

    That is an id, a folder, the name of a bundled model, or the folder of an adapter, which goes onto `base`, or else
    onto the one that it was trained on; `revision` is that of the base, and `how` are further attributes of the source.

    Raises:
        SetupError: a base is given although `model` is no adapter, or the adapter's description is damaged.
    """
    if not is_adapter(model):
        if base is not None:
            raise SetupError(f"{setting}={model}: no adapter there ({CONFIG_FILE} is missing), which a base could take")
        return ModelSource(name=find_model(model), revision=revision, setting=setting, **how)
    facts = read_facts(Path(model))
    base = base or facts.base
    check_folder(find_model(base), f"{setting}={model}: its base")
    return ModelSource(
        name=find_model(base),
        revision=revision or (facts.revision if base == facts.base else None),
        adapter=model,
        processor=model if (Path(model) / PROCESSOR_FILE).is_file() else None,
        setting=setting,
        **how,
    )


class VideoModel:
    """Answers its prompt, or the one that comes with a clip; the same clip gets the same answer.

    Attributes:
        new_tokens: tokens generated so far.
    """

    def __init__(
        self,
        source: ModelSource,
        device: str,
        prompt: Sequence[Message],
        generation: Generation,
        processor: ClipProcessor | None = None,
        *,
        keeps_clip: bool = False,
    ) -> None:
        """Load the weights, and the processor where none is given.

        With `keeps_clip` the vision tower sees a clip once, however many questions follow one another about it, and
        what their prompts begin with goes once through the language model.

        Raises:
            SetupError: no such model or device, or a package is missing that the model needs.
        """
        check_folder(source.name, source.setting)
        self._processor = processor or ClipProcessor(source, prompt)
        import torch

        self._torch = torch
        self._name = source.name
        self._title = source.title
        self._generation = generation
        self._most_tokens: int | None = None
        self._has_answered = False
        self.new_tokens = 0
        self._model, self.device, self._dtype = load_weights(source, device)
        self._memory = PrefixMemory(self._model) if keeps_clip else None
        if keeps_clip:
            keep_vision(self._model)
        logger.info("%s on %s in %s", source.name, self.device, self._dtype)

    def answer(self, clips: Sequence[ClipFrames], opening: str = "") -> list[str | RecordError]:
        """Return one text per clip: what the model adds to the prompt and an opening, cleaned; it may be empty.

        A batch that does not fit into memory is halved until it does, and none as large is tried again. A clip that
        does not fit alone, or that the processor cannot take, is an error of its own.

        Raises:
            SetupError: the model cannot take such input at all.
        """
        outcomes: list[str | RecordError] = []
        parts = deque([list(clips)])
        while parts:
            part = parts.popleft()
            is_too_large = len(part) > 1 and self._most_tokens is not None and self._tokens(part) > self._most_tokens
            answers = None if is_too_large else self._try(part, lambda clips: self._generate(clips, opening))
            if answers is None:
                middle = len(part) // 2
                parts.extendleft([part[middle:], part[:middle]])
            else:
                outcomes += answers
        if not self._has_answered:
            fault = next((outcome for outcome in outcomes if isinstance(outcome, RecordError)), None)
            raise SetupError(f"{self._title}: cannot describe clips: {fault and fault.detail}")
        return outcomes

    def odds(self, clip: ClipFrames) -> tuple[float, float]:
        """Return the probabilities that an answer about a clip says Yes, and No, at the first token that tells.

        Raises:
            RecordError: OUT_OF_MEMORY or UNFIT_INPUT where the model cannot take the clip.
            SetupError: the model cannot take such input at all.
        """
        [outcome] = self._try([clip], lambda clips: [self._odds(clips)]) or []
        if isinstance(outcome, RecordError):
            raise outcome
        return outcome

    def _odds(self, clips: Sequence[ClipFrames]) -> tuple[float, float]:
        before, yes, no = self._processor.yes_or_no(clips[0])
        # The first token alone: every family knows by itself where its visual tokens go.
        out, _ = self._call(clips, before, 1, output_logits=True)
        shares = out.logits[0][0].float().softmax(dim=-1)
        return float(shares[sorted(yes)].sum()), float(shares[sorted(no)].sum())

    def _try(
        self, clips: list[ClipFrames], call: Callable[[list[ClipFrames]], list[Outcome]]
    ) -> list[Outcome | RecordError] | None:
        """Return what a call makes of a batch, or None where the batch has to be halved."""
        try:
            answers = call(clips)
        except (RuntimeError, ValueError, TypeError, LookupError, MemoryError) as fault:
            message = first_line(fault)
            is_memory = isinstance(fault, MemoryError | self._torch.OutOfMemoryError) or any(
                sign in str(fault) for sign in _MEMORY_FAULTS
            )
            if isinstance(fault, RuntimeError) and not is_memory:
                # A device that failed once answers nothing any more.
                raise SetupError(f"{self._title}: cannot describe clips: {message}") from fault
        else:
            self._has_answered = True
            return list(answers)
        # The exception held the frames of the failed call, and they its tensors: they are gone from here on.
        shape = clips[0].frames.shape
        if is_memory:
            if self._torch.cuda.is_available():
                self._torch.cuda.empty_cache()
            if len(clips) == 1:
                detail = f"{self._name}: one clip of shape {shape} does not fit on {self.device}"
                return [RecordError(Reason.OUT_OF_MEMORY, detail)]
            self._most_tokens = self._tokens(clips) // 2
            logger.warning("%s: out of memory at a batch of %d: halved", self._name, len(clips))
            return None
        if len(clips) == 1:
            return [RecordError(Reason.UNFIT_INPUT, f"{self._name}: frames of shape {shape}: {message}")]
        return None

    def _tokens(self, clips: Sequence[ClipFrames]) -> int:
        """Return the tokens of a batch, padding included."""
        return len(clips) * max(self._processor.footprint(clip).tokens for clip in clips)

    def _generate(self, clips: Sequence[ClipFrames], opening: str) -> list[str]:
        settings = self._generation
        opened = self._processor.opening(clips[0], opening) if opening else []
        asked_clips = clips
        how: dict[str, str] = {}
        if settings.is_static:
            # Shapes of which there are few: a row more is told apart from its fellows by nothing that is kept.
            clips = [*clips, *[clips[-1]] * ((1 << (len(clips) - 1).bit_length()) - len(clips))]
            how = {"cache_implementation": "static"}
        sampling = []
        if settings.temperature > 0:
            seeds = [seed_of(clip, settings.seed) for clip in clips]
            sampling = [SeededSampling(seeds, settings.temperature, settings.top_p)]
        _, tokens = self._call(clips, opened, settings.max_new_tokens, logits_processor=sampling, **how)
        rows = tokens[: len(asked_clips)].tolist()
        return [self._read(row, clip, opened) for row, clip in zip(rows, asked_clips, strict=True)]

    def _call(
        self, clips: Sequence[ClipFrames], opening: Sequence[int], max_new_tokens: int, **how: Any
    ) -> tuple[Any, Any]:
        """Return what `generate` makes of a batch, and the tokens that it adds to prompts and opening."""
        is_static = "cache_implementation" in how
        inputs = self._inputs(clips, opening, _STATIC_TOKENS if is_static else None)
        memory = None if is_static or len(clips) > 1 else self._memory
        if self._memory is not None and memory is None:
            self._memory.forget()
        with self._torch.inference_mode(), self._current_device():

            def prefill(rows: list[int], lengths: list[int]) -> Any:
                firsts = self._inputs([clips[row] for row in rows], opening)
                cut_prompts(firsts, lengths)
                return self._generate_from(firsts, 1).past_key_values

            given = inputs
            if memory is not None:
                given = memory.shorten(clips[0], inputs, max_new_tokens)
            elif not is_static:
                given = share_prefixes(self._model, clips, inputs, max_new_tokens, prefill)
            out = self._generate_from(given, max_new_tokens, **how)
            if memory is not None:
                memory.keep(clips[0], inputs, out.past_key_values)
        # Models with code of their own may return tokens only, and may return what they added alone.
        asked, tokens = given["input_ids"], getattr(out, "sequences", out)
        if tokens.shape[1] >= asked.shape[1] and bool((tokens[:, : asked.shape[1]] == asked).all()):
            tokens = tokens[:, asked.shape[1] :]
        return out, tokens

    def _inputs(self, clips: Sequence[ClipFrames], opening: Sequence[int], pads_to: int | None = None) -> Any:
        return move_all(self._processor.inputs(clips, self.device, opening, pads_to), self.device, self._dtype)

    def _generate_from(self, inputs: Any, max_new_tokens: int, **how: Any) -> Any:
        given = dict(inputs)
        if "past_key_values" not in given and "cache_implementation" not in how and is_known(self._model):
            given["past_key_values"] = roomy_cache(self._model, max_new_tokens)
        return self._model.generate(
            **given,
            max_new_tokens=max_new_tokens,
            **LIKELIEST,
            pad_token_id=self._processor.pad_token_id,
            return_dict_in_generate=True,
            **how,
        )

    def _current_device(self) -> AbstractContextManager[Any]:
        """Make the model's GPU the current one: kernels written in Triton are launched there, whatever their inputs."""
        return self._torch.cuda.device(self.device) if self.device.startswith("cuda") else nullcontext()

    def _read(self, row: list[int], clip: ClipFrames, opened: list[int]) -> str:
        ends = self._model.generation_config.eos_token_id
        ends = {self._processor.pad_token_id, *(ends if isinstance(ends, list) else [ends])}
        length = next((place for place, token in enumerate(row) if token in ends), len(row))
        self.new_tokens += min(length + 1, len(row))
        return self._processor.text(
            [*opened, *row[:length]], clip, is_cut_off=length == self._generation.max_new_tokens
        )


def load_weights(source: ModelSource, device: str) -> tuple[Any, str, Any]:
    """Return the model, the device that takes its inputs, and its dtype.

    Raises:
        SetupError: as `read_weights`; or no such device, or the adapter is damaged or of another base.
    """
    is_spread = device == MAP
    device = pick_device("auto" if is_spread else device, source.device_setting)
    dtype = pick_dtype(source.dtype, device)
    settings: dict[str, Any] = {"device_map": "auto"} if is_spread else {}
    model = read_weights(source, dtype, **settings)
    if not is_spread:
        model.to(device)
    if source.adapter is not None:
        model = apply_adapter(model, Path(source.adapter), allow_pickle=source.allow_pickle, merges=source.merges)
    return model.eval(), str(model.device), dtype


def read_weights(source: ModelSource, dtype: Any, **settings: Any) -> Any:
    """Return the model of a source without its adapter; `settings` are further ones of `from_pretrained`.

    Raises:
        SetupError: no such model, a package is missing that it needs, or its weights or code are not to be trusted
            unasked.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bar()
    check_weights(source.name, source.setting, allow_pickle=source.allow_pickle)
    if source.attention != "auto":
        settings["attn_implementation"] = source.attention
    try:
        return AutoModelForImageTextToText.from_pretrained(
            source.name,
            revision=source.revision,
            dtype=dtype,
            trust_remote_code=source.trust_remote_code,
            use_safetensors=None if source.allow_pickle else True,
            **settings,
        )
    except LOAD_FAULTS as fault:
        raise explain_load_fault(fault, source.name, source.setting) from None


def source_identity(source: ModelSource) -> object:
    """Return what tells a source's weights from others, those of its adapter included."""
    base = model_identity(source.name)
    return base if source.adapter is None else [base, model_identity(source.adapter)]


def model_identity(model: str) -> str:
    """Return what tells a model's weights from others: the id, or for a folder a digest of its files."""
    folder = Path(model)
    return folder_identity(folder) if folder.is_dir() else model


def folder_identity(folder: Path) -> str:
    """Return a digest of the names, sizes and both ends of a folder's files: training changes it, moving does not."""
    return digest([_sampled(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()])


def _sampled(path: Path, folder: Path) -> tuple[str, int, str]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_SAMPLED_BYTES)
        file.seek(max(0, size - _SAMPLED_BYTES))
        tail = file.read()
    return path.relative_to(folder).as_posix(), size, digest(head.hex(), tail.hex())
