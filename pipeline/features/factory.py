"""Encoders by name, ours and those of other packages; any other name is that of a vision model."""

from __future__ import annotations

from typing import cast

from pipeline.config import FeaturesConfig, VideoConfig
from pipeline.features.base import EncoderBackend, FeatureEncoder, FeatureStream
from pipeline.features.combined import CombinedEncoder, CombinedStream
from pipeline.plugins import ENCODERS, find_plugin, plugins

_VISION = "vision"


def make_encoder(config: FeaturesConfig, video: VideoConfig) -> FeatureEncoder:
    """Return the encoder that a configuration names; weights are loaded when it first encodes."""
    names = config.encoders
    if len(names) == 1:
        return _backend(names[0]).make_encoder(config, video)
    return CombinedEncoder(config.encoder, {n: _backend(n).make_encoder(_of_one(config, n), video) for n in names})


def make_stream(config: FeaturesConfig) -> FeatureStream:
    """Return what computes the features of an encoder in this process; weights are loaded here.

    Raises:
        SetupError: the features are others' files and cannot be computed, or the model cannot be loaded.
    """
    names = config.encoders
    if len(names) == 1:
        return _backend(names[0]).make_stream(config)
    return CombinedStream({name: _backend(name).make_stream(_of_one(config, name)) for name in names})


def _of_one(config: FeaturesConfig, name: str) -> FeaturesConfig:
    return config.model_copy(update={"encoder": name})


def _backend(name: str) -> EncoderBackend:
    known = ":" in name or name in plugins(ENCODERS)
    return cast("EncoderBackend", find_plugin(ENCODERS, name if known else _VISION).load())
