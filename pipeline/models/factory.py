"""From a setting to the backend that it names, ours or that of another package."""

from __future__ import annotations

from typing import cast

from pipeline.config import CaptionConfig, SynthesizeConfig, VideoConfig
from pipeline.models.base import Captioner, Synthesizer
from pipeline.models.human import HumanCaptioner, HumanFirst
from pipeline.models.sampled import SampledCaptioner
from pipeline.plugins import CAPTIONERS, SYNTHESIZERS, find_plugin
from pipeline.workspace import Workspace

HUMAN = "human"


def make_synthesizer(config: SynthesizeConfig, workspace: Workspace) -> Synthesizer:
    """Build the synthesizer of `config.backend`; what a model answers it journals in `workspace`.

    Raises:
        SetupError: the backend lacks something, e.g. the name of a model.
    """
    return cast("Synthesizer", find_plugin(SYNTHESIZERS, config.backend).load()(config, workspace))


def make_captioner(config: CaptionConfig, video: VideoConfig, workspace: Workspace) -> Captioner:
    """Build the captioner of `config.backend`; what is paid for is journaled in `workspace`.

    Where `config.files` hold human sentences about a clip, they take the place of another backend's caption.

    Raises:
        SetupError: the backend lacks something, e.g. the id of a model.
    """
    captioner = cast("Captioner", find_plugin(CAPTIONERS, config.backend).load()(config, video, workspace))
    if config.samples > 1:
        captioner = SampledCaptioner(captioner, config.samples)
    if config.backend == HUMAN or not config.files:
        return captioner
    return HumanFirst(
        cast("HumanCaptioner", find_plugin(CAPTIONERS, HUMAN).load()(config, video, workspace)), captioner
    )
