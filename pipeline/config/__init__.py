"""The configuration of a build: every setting with its default, its meaning and its limits.

A config file is YAML of the shape of `BuildConfig`; `--set section.key=value` overrides single settings. An unknown
key is an error that names the nearest valid one.
"""

from pipeline.config.build import BuildConfig, apply_override, describe_config, load_config, parse_config
from pipeline.config.engine import (
    ClipsConfig,
    ExportConfig,
    FilterConfig,
    GlancesConfig,
    IngestConfig,
    ProposalConfig,
    Reader,
    VideoConfig,
)
from pipeline.config.language import CaptionConfig, JudgeConfig, SynthesizeConfig
from pipeline.config.lora import LoraConfig
from pipeline.config.ray import RayConfig
from pipeline.config.sampler import FeaturesConfig, LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.config.section import Fraction, Seconds, Section
from pipeline.config.sources import SourcesConfig

__all__ = [
    "BuildConfig",
    "CaptionConfig",
    "ClipsConfig",
    "ExportConfig",
    "FeaturesConfig",
    "FilterConfig",
    "Fraction",
    "GlancesConfig",
    "IngestConfig",
    "JudgeConfig",
    "LoraConfig",
    "LossConfig",
    "NetworkConfig",
    "ProposalConfig",
    "RayConfig",
    "Reader",
    "Recipe",
    "SamplerConfig",
    "Seconds",
    "Section",
    "SourcesConfig",
    "SynthesizeConfig",
    "VideoConfig",
    "apply_override",
    "describe_config",
    "load_config",
    "parse_config",
]
