"""Which recipes compete where training videos are few."""

from __future__ import annotations

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.features.motion import MotionEncoder

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}
_SMALL_LOSS = {"shortcut": 0.1, "raw_steps": 20}
_SHORT_S, _LONG_S = 1.0, 4.0  # how far an event is held to reach on either side of its click


def candidate_recipes(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return the recipes to try, the preferred ones first: of two that do equally well the earlier one is taken.

    With many videos, or where search is off, that is the configured one. With few, UR-DMU is too wide and remembers
    places and crowds: small recipes forget the place where the features allow it, and vary supervision and context.
    By clicks one learns with or without the certainty that lies far from them, and events may be short or long.
    """
    if config.search == "off" or num_videos >= config.small_below:
        return [config.recipe]
    supervision = config.recipe.supervision
    if supervision == "clicks":
        return [
            _small(config.recipe, encoder, "regions", "video", _SHORT_S),
            _small(config.recipe, encoder, "regions", "none", _SHORT_S),
            _small(config.recipe, encoder, "regions", "video", _LONG_S),
            _small(config.recipe, encoder, "clicks", "video", _SHORT_S),
        ]
    near_s = config.recipe.loss.positive_s
    return [_small(config.recipe, encoder, supervision, context, near_s) for context in ("video", "none")]


def _small(recipe: Recipe, encoder: str, supervision: str, context: str, positive_s: float) -> Recipe:
    network = recipe.network.model_dump() | _SMALL_NETWORK
    loss = recipe.loss.model_dump() | _SMALL_LOSS | {"positive_s": positive_s}
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
