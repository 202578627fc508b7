"""Which recipes compete."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.config.sampler import encoder_names
from pipeline.features.motion import MotionEncoder
from pipeline.sampler.heads import HEADS, trees_available

logger = logging.getLogger(__name__)

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}
# A second around a click is event for certain, however short events are.
_SMALL_LOSS = {"shortcut": 0.1, "raw_steps": 20, "positive_s": 1.0}
# Heads that see a snippet by itself also try longer events, which a camera may have.
_SHORT = {"positive_s": 1.0, "negative_s": 5.0}
_LONG = {"positive_s": 4.0, "negative_s": 10.0}
_PENALTY = 0.03


def candidate_recipes(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return the recipes to try.

    Where search is off, that is the configured one; where it is full, all heads; otherwise those of the configured
    head.
    """
    if config.search == "off":
        return [config.recipe]
    if config.search == "auto":
        if config.recipe.head == "network":
            return _networks(config, encoder, num_videos)
        return _simple(config.recipe, encoder, config.recipe.head)
    if not trees_available():
        logger.warning("trees do not compete without scikit-learn: pip install 'holmes-engine[train]'")
    heads = [head for head in HEADS if head != "trees" or trees_available()]
    simple = [recipe for head in heads for recipe in _simple(config.recipe, encoder, head)]
    network = config.model_copy(update={"recipe": config.recipe.model_copy(update={"head": "network"})})
    return [*simple, *_networks(network, encoder, num_videos)]


def _networks(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return recipes of networks: with many videos the configured one.

    With few, UR-DMU is too wide and remembers places and crowds: small recipes forget the place where the features
    allow it. By clicks one learns what is near them, with and without comparing a video to its own calm moments; with
    less weight beside the demand that some snippets of an abnormal video score high; and by that demand alone, which is
    best where clicks are very few.
    """
    if num_videos >= config.small_below:
        return [config.recipe]
    supervision = config.recipe.supervision
    if supervision == "clicks":
        return [
            _small(config.recipe, encoder, "regions", "video"),
            _small(config.recipe, encoder, "regions", "none"),
            _small(config.recipe, encoder, "regions", "video", glance=0.3, mil_abnormal=1.0),
            _small(config.recipe, encoder, "video-label", "video"),
        ]
    return [_small(config.recipe, encoder, supervision, context) for context in ("video", "none")]


def _small(recipe: Recipe, encoder: str, supervision: str, context: str, **loss_weights: float) -> Recipe:
    network = recipe.network.model_dump() | _SMALL_NETWORK
    loss = recipe.loss.model_dump() | _SMALL_LOSS | loss_weights
    return recipe.model_copy(
        update={
            "supervision": supervision,
            "pooling": "positions" if _is_motion(encoder) else "none",
            "context": context,
            "standardise": True,
            "network": NetworkConfig.model_validate(network),
            "loss": LossConfig.model_validate(loss),
            "learning_rate": 1e-3,
            "weight_decay": 1e-3,
            "steps": min(recipe.steps, 100),
        }
    )


def _simple(recipe: Recipe, encoder: str, head: str) -> list[Recipe]:
    """Return recipes of a head that sees a snippet by itself.

    It learns from short and long regions around clicks, with and without comparing a video to its own calm moments,
    which shows what departs from them. Motion has units, and fast is not the same as slow; the length of what a model
    gives tells one video from another and is taken away.
    """
    by_label = recipe.supervision == "video-label"
    inputs: dict[str, Any] = {
        "head": head,
        "supervision": "video-label" if by_label else "regions",
        "pooling": "positions" if _is_motion(encoder) else "none",
        "unit_length": not _is_motion(encoder),
        "standardise": True,
        "weight_decay": _PENALTY,
    }
    return [
        recipe.model_copy(
            update={
                **inputs, "context": context, "loss": LossConfig.model_validate(recipe.loss.model_dump() | region),
            }
        )
        for context in ("video", "none")
        for region in ((_LONG,) if by_label or head == "neighbours" else (_SHORT, _LONG))
    ]  # fmt: skip


def _is_motion(encoder: str) -> bool:
    return encoder_names(encoder)[0] == MotionEncoder.name
