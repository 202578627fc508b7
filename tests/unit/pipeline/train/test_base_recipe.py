"""A base's recipe holds where a config sets nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config import LoraConfig, parse_config
from pipeline.resources import DATASETS
from pipeline.train.recipe import with_recipe

RECIPES = sorted((DATASETS / "training").glob("*.yaml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_naming_a_base_is_as_good_as_its_recipe(file: Path) -> None:
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))["lora"]
    assert with_recipe(LoraConfig(base=recipe["base"])) == LoraConfig(**recipe)


def test_what_is_given_wins() -> None:
    config = parse_config({"lora": {"lr": 3e-3, "num_frames": 4}}, "test", needs_videos=False).lora
    resolved = with_recipe(config)
    assert (resolved.lr, resolved.num_frames) == (3e-3, 4)
    assert resolved.base == "holmes-tiny"
    assert resolved.dtype == "float32"
    assert with_recipe(resolved) == resolved


def test_a_base_without_a_recipe_has_the_papers_settings() -> None:
    config = LoraConfig(base="somebody/some-model")
    assert with_recipe(config) is config
    assert (config.lr, config.projector_lr) == (2e-4, 2e-5)
