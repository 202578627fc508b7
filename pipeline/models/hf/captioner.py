"""The `hf` captioner: any video MLLM of transformers describes the clips."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import ClipFrames, frame_job, read_clip_frames, read_clips
from pipeline.models.hf.clip_queue import ClipQueue, QueueLimits
from pipeline.models.hf.devices import DeviceModels, Engine, ModelCall, ModelUse, list_devices
from pipeline.models.hf.inputs import ClipProcessor, Footprint
from pipeline.models.hf.loading import check_folder
from pipeline.models.hf.model import MAP, find_source, source_identity
from pipeline.models.hf.sampling import Generation
from pipeline.needs import Needs, needs_of_device
from pipeline.prompts import load_prompt
from pipeline.records import Caption, EventClip, Reason
from pipeline.video.pool import VideoPool
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

_VERSION = 2
_VLLM_CLIPS = 256
"""Clips that vLLM is given at once: enough for its batches to stay full until the last ones."""


class HfCaptioner:
    """Describes clips in batches of like ones; worker processes decode the next ones while the models generate.

    Attributes:
        use: what the models did in all calls so far.
    """

    name = "hf"

    def __init__(self, config: CaptionConfig, video: VideoConfig, engine: Engine = "transformers") -> None:
        """Check the settings; the model itself is loaded with the first clip.

        Raises:
            SetupError: no model is named, or the prompt does not exist or wants values.
        """
        if not config.model:
            raise SetupError(f"caption.backend={config.backend} needs caption.model: the id or folder of a video MLLM")
        self._engine: Engine = engine
        self.use = ModelUse()
        self._name = config.model
        self._source = find_source(
            config.model,
            revision=config.revision,
            dtype=config.dtype,
            attention=config.attention,
            trust_remote_code=config.trust_remote_code,
            allow_pickle=config.allow_pickle,
        )
        # A folder's place is nobody's business but this machine's: its name goes into the dataset.
        self._captioner = Path(config.model).name if Path(config.model).is_dir() else config.model
        self._config = config
        self._video = video
        self._prompt = load_prompt(config.prompt)
        self._messages = self._prompt.render()
        self._keeps = False
        self._kept: tuple[ClipProcessor, DeviceModels] | None = None

    def identity(self) -> Mapping[str, object]:
        config = self._config
        sampling = {"temperature": config.temperature, "top_p": config.top_p, "seed": config.seed}
        return {
            "version": _VERSION,
            "model": source_identity(self._source),
            "revision": config.revision,
            "prompt": self._prompt.hash,
            "num_frames": config.num_frames,
            "max_side": config.max_side,
            "max_new_tokens": config.max_new_tokens,
            "dtype": config.dtype,
            "sampling": sampling if config.temperature > 0 else None,
            **self._video.identity(),
            # What transformers made before there was a choice is up to date.
            **({} if self._engine == "transformers" else {"engine": self._engine}),
        }

    def evidence_of(self, request: CaptionRequest) -> object:  # noqa: ARG002
        return None

    def all_evidence(self) -> object:
        return ()

    def needs(self) -> Needs:
        # Of all GPUs of a machine, each worker is given one.
        return needs_of_device("cuda" if self._config.device in ("all", MAP) else self._config.device)

    def keep(self) -> None:
        self._keeps = True

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            # Whoever has nothing to describe need not wait for a model.
            return
        config = self._config
        is_vllm = self._engine == "vllm"
        limits = QueueLimits(
            # vLLM makes its batches itself, of whatever it is given.
            batch_clips=max(config.batch_size, _VLLM_CLIPS) if is_vllm else config.batch_size,
            batch_tokens=sys.maxsize if is_vllm else config.batch_tokens,
            held_bytes=config.buffer_mb << 20,
        )
        generation = Generation(
            max_new_tokens=config.max_new_tokens, temperature=config.temperature, top_p=config.top_p, seed=config.seed,
            is_static=config.decoding == "static",
        )  # fmt: skip
        call = ModelCall(
            source=self._source, prompt=config.prompt, generation=generation,
            engine=self._engine, options=tuple(config.options.items()),
        )  # fmt: skip
        devices = ["vllm"] if is_vllm else list_devices(config.device)
        with (
            VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool,
            self._loaded(call, devices) as (processor, models),
        ):
            footprint = _any_shape if is_vllm else processor.footprint
            queue = ClipQueue[EventClip](models.submit, footprint, limits, len(devices))
            read = read_clips(
                chain([first], requests),
                read_clip_frames,
                lambda request: frame_job(request, config, self._video.reader),
                pool,
                config,
            )
            for clip, answer in queue.run(read):
                yield self._outcome(clip, answer)
            use, models.use = models.use, ModelUse()
        self.use.add(use)
        logger.info(
            "caption: %d clips in %d batches, %.0f tokens/s, the model waited %.0f%% of the time",
            use.clips,
            use.batches,
            use.new_tokens / max(use.working_s, 1e-9),
            100 * use.waiting_share,
        )

    @contextmanager
    def _loaded(self, call: ModelCall, devices: Sequence[str]) -> Iterator[tuple[ClipProcessor, DeviceModels]]:
        """Yield the processor and the models, which end with the block unless they are to be kept."""
        if self._kept is not None:
            yield self._kept
            return
        check_folder(self._source.name, self._source.setting)
        processor = ClipProcessor(self._source, self._messages)
        models = DeviceModels(call, devices, processor)
        if self._keeps:
            self._kept = processor, models.__enter__()
            yield self._kept
        else:
            with models:
                yield processor, models

    def _outcome(self, clip: EventClip, answer: str | RecordError) -> Caption | RecordError:
        if isinstance(answer, RecordError):
            return answer
        if not answer:
            return RecordError(Reason.EMPTY_TEXT, f"{clip.clip_id}: {self._name} generated no text")
        return Caption(clip_id=clip.clip_id, text=answer, captioner=self._captioner, prompt_hash=self._prompt.hash)


def _any_shape(_: ClipFrames) -> Footprint:
    return Footprint(tokens=1, pixels=())


def make_captioner(config: CaptionConfig, video: VideoConfig, _workspace: Workspace) -> HfCaptioner:
    """Make the captioner `hf`."""
    return HfCaptioner(config, video)


def make_vllm_captioner(config: CaptionConfig, video: VideoConfig, _workspace: Workspace) -> HfCaptioner:
    """Make the captioner `vllm`: the same model, prompt and frames in vLLM's engine."""
    return HfCaptioner(config, video, engine="vllm")
