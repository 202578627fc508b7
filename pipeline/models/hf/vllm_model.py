"""A video MLLM in vLLM's engine, in this process: the same prompts, frames and answers as with transformers.

vLLM batches by itself, at every token anew, and keeps what the vision tower and the prefix of a prompt came to for the
next question about the same clip (arXiv 2309.06180). It serves low-rank updates of the language model alone: those of
towers, and a projector that was trained, it drops without a word. An adapter with such parts is merged first.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import RecordError, SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.adapter import CONFIG_FILE, PROJECTOR_FILE, WEIGHTS_FILE
from pipeline.models.hf.chat import VideoChat
from pipeline.models.hf.inputs import ClipProcessor
from pipeline.models.hf.loading import ModelSource, check_folder, first_line
from pipeline.models.hf.merge import merge_adapter
from pipeline.models.hf.model import source_identity
from pipeline.models.hf.sampling import Generation, seed_of
from pipeline.prompts import Message
from pipeline.records import Reason
from pipeline.storage import write_atomically

logger = logging.getLogger(__name__)

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of updates that vLLM makes room for."""

_LONGEST_PROMPT = 32_768
_LOGPROBS = 256
"""Likeliest tokens among which Yes and No are looked for; what is not among them has no part in an answer."""

_MERGED_FROM = "merged_from.json"


class VllmModel:
    """Answers as `VideoModel` does, by vLLM.

    Attributes:
        new_tokens: tokens generated so far.
    """

    def __init__(
        self,
        source: ModelSource,
        prompt: Sequence[Message],
        generation: Generation,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the engine; `options` are further arguments of vLLM's `LLM`.

        Raises:
            SetupError: vLLM is not installed, or cannot serve the model.
        """
        check_folder(source.name, source.setting)
        vllm = _import_vllm(source)
        source = servable(source)
        self._vllm = vllm
        self._title = source.title
        self._name = source.name
        self._generation = generation
        self._processor = ClipProcessor(source, prompt)
        self._adapter: Any = None
        self._has_answered = False
        self.new_tokens = 0
        settings = engine_settings(source) | dict(options or {})
        if source.adapter is not None:
            from vllm.lora.request import LoRARequest

            self._adapter = LoRARequest("adapter", 1, source.adapter)
        try:
            self._engine = vllm.LLM(**settings)
        except (ValueError, RuntimeError, OSError, TypeError, NotImplementedError) as fault:
            raise SetupError(f"{self._title}: vLLM cannot serve it: {first_line(fault)}") from fault

    def answer(self, clips: Sequence[ClipFrames], opening: str = "") -> list[str | RecordError]:
        """Return one text per clip, as `VideoModel.answer`.

        Raises:
            SetupError: the model cannot take such input at all, or the engine has died.
        """
        settings = self._generation
        sampling = [
            self._vllm.SamplingParams(
                max_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p if settings.temperature else 1.0,
                seed=seed_of(clip, settings.seed) if settings.temperature else None,
            )
            for clip in clips
        ]
        outcomes: list[str | RecordError] = []
        for clip, output in zip(clips, self._generate(clips, opening, sampling), strict=True):
            if isinstance(output, RecordError):
                outcomes.append(output)
                continue
            [said] = output.outputs
            self.new_tokens += len(said.token_ids)
            opened = self._processor.opening(clip, opening) if opening else []
            is_cut_off = said.finish_reason == "length"
            outcomes.append(self._processor.text([*opened, *said.token_ids], clip, is_cut_off=is_cut_off))
        return outcomes

    def odds(self, clip: ClipFrames) -> tuple[float, float]:
        """Return the probabilities that an answer about a clip says Yes, and No, as `VideoModel.odds`.

        Raises:
            RecordError: UNFIT_INPUT where the model cannot take the clip.
            SetupError: as `answer`.
        """
        import math

        before, yes, no = self._processor.yes_or_no(clip)
        opening = self._processor.plain_text(before)
        sampling = self._vllm.SamplingParams(max_tokens=1, temperature=0.0, logprobs=_LOGPROBS)
        [output] = self._generate([clip], opening, [sampling])
        if isinstance(output, RecordError):
            raise output
        likely = {token: math.exp(found.logprob) for token, found in output.outputs[0].logprobs[0].items()}
        return sum(likely.get(token, 0.0) for token in yes), sum(likely.get(token, 0.0) for token in no)

    def _generate(self, clips: Sequence[ClipFrames], opening: str, sampling: Sequence[Any]) -> list[Any]:
        """Return vLLM's output for every clip, or what is wrong with it."""
        requests = [
            {"prompt": self._processor.prompt_text(clip) + opening, "multi_modal_data": {"video": [_video(clip)]}}
            for clip in clips
        ]
        try:
            outputs = list(self._engine.generate(requests, list(sampling), lora_request=self._adapter, use_tqdm=False))
        except (ValueError, TypeError, IndexError, KeyError) as fault:
            if len(clips) > 1:
                # One that does not fit fails all that are asked with it.
                return [self._generate([clip], opening, [how])[0] for clip, how in zip(clips, sampling, strict=True)]
            detail = f"{self._name}: frames of shape {clips[0].frames.shape}: {first_line(fault)}"
            if not self._has_answered:
                raise SetupError(f"{self._title}: cannot describe clips: {detail}") from fault
            return [RecordError(Reason.UNFIT_INPUT, detail)]
        except RuntimeError as fault:
            raise SetupError(f"{self._title}: vLLM ended: {first_line(fault)}") from fault
        self._has_answered = True
        return outputs


class VllmChat(VideoChat):
    """A chat with a model in vLLM's engine."""

    def __init__(self, source: ModelSource, max_new_tokens: int) -> None:
        """Start the engine. Raises: as `VllmModel`."""
        self.name = source.title
        self._model = VllmModel(source, (), Generation(max_new_tokens=max_new_tokens))


def engine_settings(source: ModelSource) -> dict[str, Any]:
    """Return the arguments of vLLM's `LLM` for a model, as safe as `read_weights`: no code, no pickles unasked.

    Raises:
        SetupError: an adapter has a higher rank than vLLM takes.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        source.name, revision=source.revision, trust_remote_code=source.trust_remote_code
    )
    longest = getattr(config.get_text_config(), "max_position_embeddings", None) or _LONGEST_PROMPT
    settings: dict[str, Any] = {
        "model": source.name,
        "tokenizer": source.processor or source.name,
        "revision": source.revision,
        "dtype": "bfloat16" if source.dtype == "auto" else source.dtype,
        "trust_remote_code": source.trust_remote_code,
        "load_format": "auto" if source.allow_pickle else "safetensors",
        "max_model_len": min(longest, _LONGEST_PROMPT),
        "limit_mm_per_prompt": {"video": 1},
        "mm_processor_kwargs": {"do_sample_frames": False},
        "max_logprobs": _LOGPROBS,
        "seed": 0,
    }
    if source.adapter is not None:
        rank = json.loads((Path(source.adapter) / CONFIG_FILE).read_text(encoding="utf-8"))["r"]
        room = next((known for known in RANKS if known >= rank), None)
        if room is None:
            raise SetupError(f"{source.title}: rank {rank} is above {RANKS[-1]}, the most of vLLM; holmes merge it")
        settings |= {"enable_lora": True, "max_lora_rank": room, "max_loras": 1}
    return settings


def servable(source: ModelSource) -> ModelSource:
    """Return a source that vLLM serves in full: an adapter with more than updates of the language model, merged.

    The merged model lies beside the adapter, and is made anew where either has changed.

    Raises:
        SetupError: it cannot be merged or written.
    """
    if source.adapter is None or (reason := _why_merged(Path(source.adapter))) is None:
        return source
    folder = Path(source.adapter).resolve()
    merged = folder.with_name(f"{folder.name}.merged")
    wanted = json.dumps(source_identity(source)).encode()
    known = merged / _MERGED_FROM
    if not (known.is_file() and known.read_bytes() == wanted):
        logger.info("%s: %s, which vLLM does not serve: merged into %s", source.adapter, reason, merged)
        if known.is_file():
            shutil.rmtree(merged)
        merge_adapter(
            source.adapter, source.name, merged,
            trust_remote_code=source.trust_remote_code, allow_pickle=source.allow_pickle,
        )  # fmt: skip
        write_atomically(known, wanted)
    return replace(source, name=str(merged), adapter=None, processor=None, revision=None)


def _why_merged(adapter: Path) -> str | None:
    """Return what an adapter has that vLLM would leave out; None where it serves all of it."""
    from safetensors import safe_open

    if (adapter / PROJECTOR_FILE).is_file():
        return "its projector was trained"
    if not (adapter / WEIGHTS_FILE).is_file():
        return "its updates are no safetensors file"
    with safe_open(adapter / WEIGHTS_FILE, framework="numpy") as file:
        names = list(file.keys())
    return next((f"{name} is no update of the language model" for name in _beside(names)), None)


def _beside(names: Iterable[str]) -> Iterable[str]:
    """Yield the names of what is no update of a language model's layer."""
    for name in names:
        parts = name.split(".")
        is_update = "lora_A" in parts or "lora_B" in parts
        if not is_update or not {"language_model", "text_model"} & set(parts):
            yield name


def _video(clip: ClipFrames) -> tuple[Any, dict[str, Any]]:
    """Return a clip as vLLM takes it, already sampled."""
    return clip.frames, {
        "total_num_frames": clip.clip_frames,
        "fps": clip.fps,
        "duration": clip.duration_s,
        "frames_indices": list(clip.indices),
        "height": clip.frames.shape[1],
        "width": clip.frames.shape[2],
        "video_backend": "holmes",
        "do_sample_frames": False,
    }


def _import_vllm(source: ModelSource) -> Any:
    try:
        import vllm
    except ImportError as fault:
        raise SetupError(
            f"{source.title}: vLLM cannot be imported here ({first_line(fault)}): pip install vllm, or serve the model "
            f"elsewhere (vllm serve {source.name}) and set caption.backend=openai, caption.base_url=http://HOST:8000/v1"
        ) from None
    return vllm
