"""Which recipes compete."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.features.motion import MotionEncoder
from pipeline.sampler.heads import trees_available

logger = logging.getLogger(__name__)

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}
# A second around a click is event for certain, however short events are; events of a camera may last longer.
_SHORT = {"positive_s": 1.0, "negative_s": 5.0}
_LONG = {"positive_s": 4.0, "negative_s": 10.0}
_PENALTY = 0.03


def candidate_recipes(config: SamplerConfig, encoder: str) -> list[Recipe]:
    """Return the recipes to try: the configured one alone where search is off, and with all others where it is full.

    Heads that score a snippet by itself learn from regions around clicks, short and long, with and without comparing a
    video to its own calm moments, which shows what departs from them; small networks see snippets in a row, and one of
    them learns from video labels alone, which is best where clicks are very few. All forget the place in the picture
    where the features allow it.
    """
    if config.search == "off":
        return [config.recipe]
    by_label = config.recipe.supervision == "video-label"
    heads = ["linear", *(["trees"] if trees_available() else []), "neighbours"]
    if not trees_available():
        logger.warning("trees do not compete without scikit-learn: pip install 'holmes-engine[train]'")
    small = [
        _simple(config.recipe, encoder, head, context, by_label=by_label, loss=loss)
        for head in heads
        for context in ("video", "none")
        for loss in ((_LONG,) if by_label or head == "neighbours" else (_SHORT, _LONG))
    ]
    small += [
        _network(config.recipe, encoder, supervision)
        for supervision in (("video-label",) if by_label else ("regions", "video-label"))
    ]
    return [*small, config.recipe] if config.search == "full" else small


def _simple(recipe: Recipe, encoder: str, head: str, context: str, *, by_label: bool, loss: dict[str, float]) -> Recipe:
    return recipe.model_copy(
        update={
            **_inputs(encoder, context),
            "head": head,
            "supervision": "video-label" if by_label else "regions",
            "loss": LossConfig.model_validate(recipe.loss.model_dump() | loss),
            "weight_decay": _PENALTY,
            "steps": 1,
        }
    )


def _network(recipe: Recipe, encoder: str, supervision: str) -> Recipe:
    loss = recipe.loss.model_dump() | {"shortcut": 0.1, "raw_steps": 20, "positive_s": 1.0}
    return recipe.model_copy(
        update={
            **_inputs(encoder, "video"),
            "supervision": supervision,
            "network": NetworkConfig.model_validate(recipe.network.model_dump() | _SMALL_NETWORK),
            "loss": LossConfig.model_validate(loss),
            "learning_rate": 1e-3,
            "weight_decay": 1e-3,
            "steps": min(recipe.steps, 100),
        }
    )


def _inputs(encoder: str, context: str) -> dict[str, Any]:
    # Motion has units, and fast is not the same as slow; the length of what a model gives tells one video from another.
    is_motion = encoder.startswith(MotionEncoder.name)
    return {
        "pooling": "positions" if is_motion else "none",
        "unit_length": not is_motion,
        "context": context,
        "standardise": True,
    }
