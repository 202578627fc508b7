"""Encoders by name."""

from __future__ import annotations

from pipeline.config import FeaturesConfig, VideoConfig
from pipeline.features.base import FeatureEncoder
from pipeline.features.motion import MotionEncoder
from pipeline.features.npy import NpyEncoder
from pipeline.features.vision_tower import VisionTowerEncoder


def make_encoder(config: FeaturesConfig, video: VideoConfig) -> FeatureEncoder:
    """Return the encoder that a configuration names; weights are loaded when it first encodes."""
    if config.encoder == MotionEncoder.name:
        return MotionEncoder(video)
    if config.encoder == NpyEncoder.name:
        return NpyEncoder(config.folders)
    return VisionTowerEncoder(config, video)
