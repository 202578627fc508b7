"""Which recipes compete where training videos are few."""

from __future__ import annotations

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.features.motion import MotionEncoder

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}
# A second around a click is event for certain, however short events are.
_SMALL_LOSS = {"shortcut": 0.1, "raw_steps": 20, "positive_s": 1.0}


def candidate_recipes(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return the recipes to try.

    With many videos, or where search is off, that is the configured one. With few, UR-DMU is too wide and remembers
    places and crowds: small recipes forget the place where the features allow it. By clicks one learns what is near
    them, with and without comparing a video to its own calm moments; with less weight beside the demand that some
    snippets of an abnormal video score high; and by that demand alone, which is best where clicks are very few.
    """
    if config.search == "off" or num_videos >= config.small_below:
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
            "pooling": "positions" if encoder == MotionEncoder.name else "none",
            "context": context,
            "standardise": True,
            "network": NetworkConfig.model_validate(network),
            "loss": LossConfig.model_validate(loss),
            "learning_rate": 1e-3,
            "weight_decay": 1e-3,
            "steps": min(recipe.steps, 100),
        }
    )
