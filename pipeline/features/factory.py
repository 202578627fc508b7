"""Encoders by name."""

from __future__ import annotations

from pipeline.config import FeaturesConfig, VideoConfig
from pipeline.errors import SetupError
from pipeline.features.base import FeatureEncoder, FeatureStream
from pipeline.features.motion import MotionEncoder, MotionStream
from pipeline.features.npy import NpyEncoder
from pipeline.features.vision_tower import TowerStream, VisionTowerEncoder


def make_encoder(config: FeaturesConfig, video: VideoConfig) -> FeatureEncoder:
    """Return the encoder that a configuration names; weights are loaded when it first encodes."""
    if config.encoder == MotionEncoder.name:
        return MotionEncoder(video)
    if config.encoder == NpyEncoder.name:
        return NpyEncoder(config.folders, config.combine)
    return VisionTowerEncoder(config, video)


def make_stream(config: FeaturesConfig) -> FeatureStream:
    """Return what computes the features of an encoder in this process; weights are loaded here.

    Raises:
        SetupError: the features are others' files and cannot be computed, or the model cannot be loaded.
    """
    if config.encoder == MotionEncoder.name:
        return MotionStream()
    if config.encoder == NpyEncoder.name:
        raise SetupError("features.encoder=npy: features that others computed cannot be computed for a new video")
    return TowerStream(config)
