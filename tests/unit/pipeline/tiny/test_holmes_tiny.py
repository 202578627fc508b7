"""The video model that comes along: its size, and that it sees what happens in scenes that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.bundled import HOLMES_TINY, find_model
from pipeline.models.hf.model import VideoModel, find_source
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt
from pipeline.sample.plan import plan_world
from pipeline.tiny.scenes import NUM_FRAMES, SceneClip, cut_clips
from pipeline.tiny.world import SEED

OTHER_SEED = 4
ORDINARY = ("walk", "stand", "jog", "drive", "reach", "phone", "moves", "comes in", "runs.", "run.")
MOST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def clips() -> list[SceneClip]:
    """Clips of seven scenes, an event of each class among them."""
    assert OTHER_SEED != SEED
    return [clip for plan in plan_world(14, OTHER_SEED, (16.0, 20.0)) for clip in cut_clips(plan)]


def test_it_is_small_and_holds_no_pickle() -> None:
    files = list(Path(find_model(HOLMES_TINY)).iterdir())
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {file.name for file in files}
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.slow
def test_it_tells_events_from_ordinary_life_in_new_scenes(clips: list[SceneClip]) -> None:
    prompt = load_prompt("caption").render()
    model = VideoModel(find_source(HOLMES_TINY), "cpu", prompt, Generation(max_new_tokens=20))
    shown = [
        ClipFrames(
            frames=clip.frames, indices=tuple(range(NUM_FRAMES)), clip_frames=NUM_FRAMES, fps=1.0, duration_s=8.0
        )
        for clip in clips
    ]
    captions = [text for start in range(0, len(shown), 8) for text in model.answer(shown[start : start + 8])]
    assert all(isinstance(caption, str) and caption for caption in captions)
    events = [str(text) for text, clip in zip(captions, clips, strict=True) if clip.facts["category"] is not None]
    calm = [str(text) for text, clip in zip(captions, clips, strict=True) if clip.facts["category"] is None]
    assert len(events) >= 7
    assert len(calm) >= 7

    def is_ordinary(caption: str) -> bool:
        return any(word in caption.partition(".")[0] + "." for word in ORDINARY) and "gun" not in caption

    calm_share, event_share = (sum(map(is_ordinary, texts)) / len(texts) for texts in (calm, events))
    # without a look at the frames the two would be equal
    assert calm_share - event_share > 0.5, (calm_share, event_share)
