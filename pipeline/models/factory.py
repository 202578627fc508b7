"""From a setting to the backend that it names."""

from __future__ import annotations

from typing import assert_never

from pipeline.config import SynthesizeConfig
from pipeline.models.base import Synthesizer


def make_synthesizer(config: SynthesizeConfig) -> Synthesizer:
    """Build the synthesizer of `config.backend`.

    Raises:
        SetupError: the backend lacks something, e.g. the name of a model.
    """
    match config.backend:
        case "template":
            from pipeline.models.template import TemplateSynthesizer

            return TemplateSynthesizer(config)
        case "openai":
            from pipeline.models.openai_chat import OpenAISynthesizer

            return OpenAISynthesizer(config)
        case unknown:
            assert_never(unknown)
