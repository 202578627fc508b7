"""Recipes of base models: the files of `datasets/training`, whose settings hold wherever a config sets none."""

from __future__ import annotations

import logging

import yaml

from pipeline.config import LoraConfig
from pipeline.resources import DATASETS

logger = logging.getLogger(__name__)


def with_recipe(config: LoraConfig) -> LoraConfig:
    """Return the settings, those that are not given as in the base's recipe; a base without one has the defaults."""
    for file in sorted((DATASETS / "training").glob("*.yaml")):
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))["lora"]
        taken = {name: value for name, value in recipe.items() if name not in config.model_fields_set}
        if recipe["base"] == config.base and taken:
            given = {name: getattr(config, name) for name in config.model_fields_set}
            logger.info(
                "%s: what is not set is its recipe's: %s",
                config.base,
                ", ".join(f"{name} {value}" for name, value in taken.items() if name != "base"),
            )
            return LoraConfig(**{**recipe, **given})
    return config
