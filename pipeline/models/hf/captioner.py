"""The `hf` captioner: any video MLLM of transformers describes the clips."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import frame_job, read_clip_frames, read_clips
from pipeline.models.hf.clip_queue import ClipQueue, QueueLimits
from pipeline.models.hf.devices import DeviceModels, ModelCall, ModelUse, list_devices
from pipeline.models.hf.inputs import ClipProcessor
from pipeline.models.hf.loading import check_folder
from pipeline.models.hf.model import find_source, source_identity
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt
from pipeline.records import Caption, EventClip, Reason
from pipeline.video.pool import VideoPool
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

_VERSION = 2


class HfCaptioner:
    """Describes clips in batches of like ones; worker processes decode the next ones while the models generate.

    Attributes:
        use: what the models did in all calls so far.
    """

    name = "hf"

    def __init__(self, config: CaptionConfig, video: VideoConfig) -> None:
        """Check the settings; the model itself is loaded with the first clip.

        Raises:
            SetupError: no model is named, or the prompt does not exist or wants values.
        """
        if not config.model:
            raise SetupError("caption.backend=hf needs caption.model: the id or folder of a video MLLM")
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
        }

    def evidence_of(self, request: CaptionRequest) -> object:  # noqa: ARG002
        return None

    def all_evidence(self) -> object:
        return ()

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            # Whoever has nothing to describe need not wait for a model.
            return
        config = self._config
        check_folder(self._source.name, self._source.setting)
        processor = ClipProcessor(self._source, self._messages)
        limits = QueueLimits(
            batch_clips=config.batch_size, batch_tokens=config.batch_tokens, held_bytes=config.buffer_mb << 20
        )
        generation = Generation(
            max_new_tokens=config.max_new_tokens, temperature=config.temperature, top_p=config.top_p, seed=config.seed
        )
        call = ModelCall(source=self._source, prompt=config.prompt, generation=generation)
        devices = list_devices(config.device)
        with (
            VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool,
            DeviceModels(call, devices, processor) as models,
        ):
            queue = ClipQueue[EventClip](models.submit, processor.footprint, limits, len(devices))
            read = read_clips(
                chain([first], requests),
                read_clip_frames,
                lambda request: frame_job(request, config, self._video.reader),
                pool,
                config,
            )
            for clip, answer in queue.run(read):
                yield self._outcome(clip, answer)
        self.use.add(models.use)
        logger.info(
            "caption: %d clips in %d batches, %.0f tokens/s, the model waited %.0f%% of the time",
            models.use.clips,
            models.use.batches,
            models.use.new_tokens / max(models.use.working_s, 1e-9),
            100 * models.use.waiting_share,
        )

    def _outcome(self, clip: EventClip, answer: str | RecordError) -> Caption | RecordError:
        if isinstance(answer, RecordError):
            return answer
        if not answer:
            return RecordError(Reason.EMPTY_TEXT, f"{clip.clip_id}: {self._name} generated no text")
        return Caption(clip_id=clip.clip_id, text=answer, captioner=self._captioner, prompt_hash=self._prompt.hash)


def make_captioner(config: CaptionConfig, video: VideoConfig, _workspace: Workspace) -> HfCaptioner:
    """Make the captioner `hf`."""
    return HfCaptioner(config, video)
