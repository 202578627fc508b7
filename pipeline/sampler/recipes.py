"""Which recipes compete."""

from __future__ import annotations

from typing import Any

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.config.sampler import encoder_names
from pipeline.features.motion import MotionEncoder
from pipeline.sampler.heads import HEADS

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}
# A second around a click is event for certain, however short events are.
_SMALL_LOSS = {"shortcut": 0.1, "raw_steps": 20, "positive_s": 1.0}
# Heads that see a snippet by itself also try longer events, which a camera may have.
_SHORT = {"positive_s": 1.0, "negative_s": 5.0}
_LONG = {"positive_s": 4.0, "negative_s": 10.0}
_PENALTY = 0.03
_FEW_NETWORKS = 2  # that compete with other heads unless asked for all: each costs as much as all of those


def candidate_recipes(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return the recipes to try, each of a head by name.

    Where search is off, that is the configured one; where it is full, those of all heads; otherwise those of the
    configured head, or of all with fewer networks.
    """
    recipe = config.recipe
    as_network = config.model_copy(update={"recipe": recipe.model_copy(update={"head": "network"})})
    if config.search == "off":
        return [as_network.recipe if recipe.head == "auto" else recipe]
    if not heads_compete(config):
        if recipe.head == "network":
            return _networks(config, encoder, num_videos)
        return _simple(recipe, encoder, recipe.head)
    simple = [other for head in HEADS for other in _simple(recipe, encoder, head)]
    networks = _networks(as_network, encoder, num_videos)
    return [*simple, *(networks if config.search == "full" else networks[:_FEW_NETWORKS])]


def heads_compete(config: SamplerConfig) -> bool:
    """Tell whether heads of several kinds compete."""
    return config.search == "full" or (config.search == "auto" and config.recipe.head == "auto")


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
