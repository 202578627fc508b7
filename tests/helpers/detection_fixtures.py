"""Short videos with a commotion in the middle, and a sampler that finds it: built here in a second or two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from infer_videos import write_video
from numpy.typing import NDArray

from pipeline.config import NetworkConfig, Recipe
from pipeline.errors import RecordError
from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.features.motion import DIM, MotionEncoder
from pipeline.infer import detector
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.model import ModelSource
from pipeline.prompts import Message
from pipeline.sampler.model_io import TrainedRecipe, TrainedSampler
from pipeline.sampler.network import UrDmu

Say = Callable[[ClipFrames, str], str | RecordError]


@pytest.fixture(scope="session")
def event_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 seconds of which [8, 12) are an event."""
    return write_video(tmp_path_factory.mktemp("event") / "event.mp4")


@pytest.fixture(scope="session")
def calm_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 seconds in which nothing moves."""
    return write_video(tmp_path_factory.mktemp("calm") / "calm.mp4", events=())


@pytest.fixture(scope="session")
def sampler_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sampler by hand: the logit is -4 in a calm snippet and rises with the motion in it."""
    network = UrDmu(DIM, NetworkConfig(hidden_dim=8, heads=1, head_dim=4, layers=1, memory_slots=2, shortcut=True))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head_out.bias.fill_(-4.0)
        # The mean change of the whole picture: the last but one statistic of the grid of one cell.
        network.shortcut.weight[..., DIM - 2] = 400.0
    recipe = Recipe(network=NetworkConfig(hidden_dim=8, heads=1, head_dim=4, layers=1, memory_slots=2, shortcut=True))
    sampler = TrainedSampler(
        recipes=[TrainedRecipe(recipe=recipe, networks=[network.eval()], scales=[None], smoothing_s=0.0)],
        encoder=MotionEncoder.name,
        dim=DIM,
        stride_frames=8,
        trained_on="by hand",
        validation={},
    )
    folder = tmp_path_factory.mktemp("sampler")
    sampler.save(folder)
    return folder


class ScriptedChat:
    """Stands where a video model would, and remembers what it was shown and asked."""

    say: Say
    asked: list[tuple[ClipFrames, str, tuple[Message, ...]]]

    def __init__(self, source: ModelSource, device: str, max_new_tokens: int) -> None:
        self.name = source.name

    def odds(self, clip: ClipFrames, question: str) -> tuple[float, float]:
        """As sure as the words are; where they are neither Yes nor No, both are unlikely."""
        said = type(self).say(clip, question)
        verdict = None if isinstance(said, RecordError) else read_verdict(said)
        return {True: (0.9, 0.05), False: (0.1, 0.85), None: (0.0006, 0.0004)}[verdict]

    def answer(self, clip: ClipFrames, question: str, history: Sequence[Message] = (), opening: str = "") -> str:
        type(self).asked.append((clip, question, tuple(history)))
        answer = type(self).say(clip, question)
        if isinstance(answer, RecordError):
            raise answer
        return answer


def shows_square(frames: NDArray[np.uint8]) -> bool:
    """Whether the white square of an event is in any of the frames."""
    return bool((frames.min(axis=-1) > 230).any())


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedChat]:
    """A video model that says Yes where it sees the square; `say` may be replaced."""
    chat = type("Chat", (ScriptedChat,), {"asked": []})
    chat.say = staticmethod(
        lambda clip, question: "Yes, a square dashes about." if shows_square(clip.frames) else "No, nothing moves."
    )
    monkeypatch.setattr(detector, "VideoChat", chat)
    return chat
