"""From a setting to the backend that it names."""

from __future__ import annotations

from typing import assert_never

from pipeline.config import CaptionConfig, SynthesizeConfig, VideoConfig
from pipeline.errors import ConfigError
from pipeline.models.base import Captioner, Synthesizer
from pipeline.workspace import Workspace


def make_synthesizer(config: SynthesizeConfig, workspace: Workspace) -> Synthesizer:
    """Build the synthesizer of `config.backend`; what a model answers it journals in `workspace`.

    Raises:
        SetupError: the backend lacks something, e.g. the name of a model.
    """
    match config.backend:
        case "template":
            from pipeline.models.template import TemplateSynthesizer

            return TemplateSynthesizer(config)
        case "openai":
            from pipeline.models.chat.synthesizer import OpenAISynthesizer

            return OpenAISynthesizer(config, workspace.journal_folder("synthesize"))
        case "hf":
            from pipeline.models.hf.synthesizer import HfSynthesizer

            return HfSynthesizer(config, workspace.journal_folder("synthesize"))
        case unknown:
            assert_never(unknown)


def make_captioner(config: CaptionConfig, video: VideoConfig, workspace: Workspace) -> Captioner:
    """Build the captioner of `config.backend`; `human` is made by the application, which reads its files.

    What is paid for is journaled in `workspace`.

    Raises:
        SetupError: the backend lacks something, e.g. the id of a model.
    """
    match config.backend:
        case "motion":
            from pipeline.models.motion.captioner import MotionCaptioner

            return MotionCaptioner(video)
        case "hf":
            from pipeline.models.hf.captioner import HfCaptioner

            return HfCaptioner(config, video)
        case "openai":
            from pipeline.models.chat.captioner import OpenAICaptioner

            return OpenAICaptioner(config, video, workspace.journal_folder("caption"))
        case "human":
            raise ConfigError("caption.backend=human needs sentences: HumanCaptioner takes them already read")
        case unknown:
            assert_never(unknown)
