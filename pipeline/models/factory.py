"""From a setting to the backend that it names, ours or that of another package."""

from __future__ import annotations

from typing import cast

from pipeline.config import CaptionConfig, SynthesizeConfig, VideoConfig
from pipeline.models.base import Captioner, Synthesizer
from pipeline.models.sampled import SampledCaptioner
from pipeline.plugins import CAPTIONERS, SYNTHESIZERS, find_plugin
from pipeline.workspace import Workspace


def make_synthesizer(config: SynthesizeConfig, workspace: Workspace) -> Synthesizer:
    """Build the synthesizer of `config.backend`; what a model answers it journals in `workspace`.

    Raises:
        SetupError: the backend lacks something, e.g. the name of a model.
    """
    return cast("Synthesizer", find_plugin(SYNTHESIZERS, config.backend).load()(config, workspace))


def make_captioner(config: CaptionConfig, video: VideoConfig, workspace: Workspace) -> Captioner:
    """Build the captioner of `config.backend`; what is paid for is journaled in `workspace`.

    Raises:
        SetupError: the backend lacks something, e.g. the id of a model.
    """
    captioner = cast("Captioner", find_plugin(CAPTIONERS, config.backend).load()(config, video, workspace))
    return captioner if config.samples == 1 else SampledCaptioner(captioner, config.samples)
