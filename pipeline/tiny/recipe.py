"""From nothing to `holmes-tiny`: scenes, vision tower, language model, and a folder that `from_pretrained` takes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from pipeline.errors import SetupError
from pipeline.models.hf.torchvision_mend import mend_torchvision
from pipeline.stages.run import Progress
from pipeline.tiny.world import render_scenes

_SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How `holmes-tiny` is made; the defaults are the sizes of the one that comes along.

    Attributes:
        videos: of the generated world, two a scene, one of which holds events.
        vision_steps, vision_batch: of the first stage; a batch counts frames.
        language_steps, language_batch: of the second stage; a batch counts conversations.
        seed: of weights and batches. The scenes have one of their own.
    """

    videos: int = 2000
    vision_steps: int = 5500
    vision_batch: int = 32
    language_steps: int = 2000
    language_batch: int = 24
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came out: the number of parameters, and the mean loss at the end of either stage."""

    parameters: int
    vision_loss: float
    language_loss: float


def make_tiny(out: Path, recipe: Recipe, *, threads: int, device: str = "auto", on_progress: Progress) -> Made:
    """Train `holmes-tiny` and write it to the folder `out`; a run after a break goes on where that one was.

    Args:
        out: a folder that is empty, or holds what an interrupted run has rendered.
        recipe: sizes and seed.
        threads: of torch; 0 leaves the number to it.
        device: as torch names it; `auto` takes a GPU where there is one.
        on_progress: called with the stage, what is done of it, and all of it.

    Raises:
        SetupError: if the folder holds something else, or was begun with another recipe.
    """
    if out.is_dir() and any(path.name != _SCRATCH for path in out.iterdir()):
        raise SetupError(f"{out}: not empty")
    scratch = out / _SCRATCH
    _keep_to(recipe, scratch / "recipe.json")
    scenes = render_scenes(scratch, recipe.videos, on_progress)
    mend_torchvision()
    import torch

    from pipeline.devices import pick_device
    from pipeline.tiny.language_stage import see_all, train_language
    from pipeline.tiny.lessons import corpus
    from pipeline.tiny.model import make_model, make_processor, make_tokenizer
    from pipeline.tiny.vision_stage import train_vision

    if threads:
        torch.set_num_threads(threads)
    tokenizer = make_tokenizer(corpus(scenes.clips, Random(f"{recipe.seed}:corpus")))
    processor = make_processor(tokenizer)
    torch.manual_seed(recipe.seed)
    model = make_model(tokenizer).to(pick_device(device, "--device"))
    vision_loss = train_vision(
        model.model.vision_tower, scenes, steps=recipe.vision_steps, batch=recipe.vision_batch, seed=recipe.seed,
        checkpoint=scratch / "vision.pt", on_progress=on_progress,
    )  # fmt: skip
    seen = see_all(model, scenes, scratch / "seen.npy", on_progress)
    language_loss = train_language(
        model, processor, scenes, seen, steps=recipe.language_steps, batch=recipe.language_batch, seed=recipe.seed,
        checkpoint=scratch / "language.pt", on_progress=on_progress,
    )  # fmt: skip
    model.cpu()
    model.save_pretrained(out)
    processor.save_pretrained(out)
    shutil.rmtree(scratch)
    return Made(parameters=model.num_parameters(), vision_loss=vision_loss, language_loss=language_loss)


def _keep_to(recipe: Recipe, path: Path) -> None:
    """Note what a folder is made by; what it was begun with is not changed half way."""
    text = json.dumps(asdict(recipe))
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise SetupError(
            f"{path.parent.parent}: begun with {path.read_text(encoding='utf-8')}, now {text}; take another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
