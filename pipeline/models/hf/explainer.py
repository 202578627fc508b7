"""How a video MLLM that answers questions is loaded, what it is shown and how long it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.models.hf.adapter import read_facts
from pipeline.models.hf.loading import ModelSource, check_folder
from pipeline.models.hf.model import find_source

_NUM_FRAMES, _MAX_SIDE = 16, 448
"""What a model is shown where nothing says what it was trained with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainerSettings:
    """The settings of a model, whatever it is asked.

    Attributes:
        model_base: the base of an adapter; None is the one that it was trained on.
        num_frames: frames shown at once; None is as many as the adapter was trained with, or 16.
        max_side: longest side in pixels that they are scaled down to; None is that of the training, or 448.
        max_new_tokens: longest answer in tokens.
        device: auto, cpu, cuda, cuda:1, ...
        dtype: auto, float32, bfloat16 or float16; auto is bfloat16 on a GPU and float32 elsewhere.
        trust_remote_code: run code that comes with the model.
        allow_pickle: read weights from pickle files, which can run code.
    """

    model_base: str | None = None
    num_frames: int | None = None
    max_side: int | None = None
    max_new_tokens: int = 128
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False

    def source_of(self, model_path: str) -> ModelSource:
        """Return where a model is loaded from: an id, a folder, the name of a bundled one, or an adapter.

        Raises:
            SetupError: no such folder, a base without an adapter, or a damaged description of an adapter.
        """
        check_folder(model_path, "--model-path")
        return find_source(
            model_path,
            self.model_base,
            setting="--model-path",
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
        )

    def frames_shown(self, adapter: str | None) -> tuple[int, int]:
        """Return how many frames a model is shown and their longest side, as its adapter was trained if not as set."""
        facts = None if adapter is None else read_facts(Path(adapter))
        return (
            self.num_frames or (facts and facts.num_frames) or _NUM_FRAMES,
            self.max_side or (facts and facts.max_side) or _MAX_SIDE,
        )
