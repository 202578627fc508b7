"""The queue before the models: batches of like clips, order kept, bounds kept, faults in their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.errors import RecordError, SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.clip_queue import ClipQueue, QueueLimits
from pipeline.models.hf.inputs import Footprint
from pipeline.records import EventClip, Reason

Read = tuple[EventClip, ClipFrames | RecordError]


def clip(number: int) -> EventClip:
    return EventClip(
        clip_id=f"c{number}", video_id="v", start_s=0, end_s=1, start_frame=0, end_frame=9, glance_time_s=None,
        label="Normal", anomaly_score=None, method="window",
    )  # fmt: skip


def frames(number: int, side: int = 8) -> ClipFrames:
    return ClipFrames(
        frames=np.zeros((2, side, side, 3), np.uint8), indices=(number, number), clip_frames=9, fps=1, duration_s=1
    )


def footprint(shown: ClipFrames) -> Footprint:
    """As many tokens as a frame has rows; sides of 13 fit no model."""
    side = shown.frames.shape[1]
    if side == 13:
        raise RecordError(Reason.UNFIT_INPUT, "side 13")
    return Footprint(tokens=side, pixels=())


class Models:
    """Answers at once with the number of each clip, and remembers the batches by the sides of their clips."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def submit(self, clips: Sequence[ClipFrames]) -> Future[list[str | RecordError]]:
        self.batches.append([shown.frames.shape[1] for shown in clips])
        done: Future[list[str | RecordError]] = Future()
        done.set_result([str(shown.indices[0]) for shown in clips])
        return done


def limits(clips: int = 4, tokens: int = 10_000, held: int = 1 << 30) -> QueueLimits:
    return QueueLimits(batch_clips=clips, batch_tokens=tokens, held_bytes=held)


def answers(queue: ClipQueue, read: Sequence[Read]) -> list[tuple[str, str]]:
    return [(done.clip_id, str(answer)) for done, answer in queue.run(iter(read))]


def test_mixed_clips_are_gathered_by_kind_and_answered_in_order() -> None:
    models = Models()
    sides = [8, 32, 8, 32, 8, 8, 32, 32, 8, 128]
    read: list[Read] = [(clip(number), frames(number, side)) for number, side in enumerate(sides)]
    queue = ClipQueue(models.submit, footprint, limits(), 1)
    assert answers(queue, read) == [(f"c{number}", str(number)) for number in range(len(sides))]
    assert models.batches == [[8] * 4, [32] * 4, [8], [128]]


def test_faults_stand_in_their_place() -> None:
    read: list[Read] = [
        (clip(0), frames(0)),
        (clip(1), RecordError(Reason.TIMED_OUT, "late")),
        (clip(2), frames(2, side=13)),
        (clip(3), frames(3)),
    ]
    queue = ClipQueue(Models().submit, footprint, limits(), 1)
    assert answers(queue, read) == [
        ("c0", "0"), ("c1", "timed_out: late"), ("c2", "unfit_input: side 13"), ("c3", "3"),
    ]  # fmt: skip


def test_batches_keep_to_their_tokens_with_padding() -> None:
    models = Models()
    read: list[Read] = [(clip(number), frames(number, side)) for number, side in enumerate([20, 20, 20, 22, 20])]
    queue = ClipQueue(models.submit, footprint, limits(clips=9, tokens=60), 1)
    assert len(answers(queue, read)) == 5
    assert models.batches == [[20, 20, 20], [22, 20]]
    alone = Models()
    assert answers(ClipQueue(alone.submit, footprint, limits(tokens=5), 1), read[:2]) == [("c0", "0"), ("c1", "1")]
    assert alone.batches == [[20], [20]], "a clip beyond the limit goes alone"


def test_a_clip_of_a_rare_kind_waits_a_bounded_time() -> None:
    models = Models()
    read: list[Read] = [(clip(0), frames(0, side=128))]
    # every other clip of a kind of its own, so that no batch fills up
    read += [(clip(number), frames(number, side=8 << number % 3)) for number in range(1, 100)]
    taken = 0

    def counted() -> Iterator[Read]:
        nonlocal taken
        for item in read:
            taken += 1
            yield item

    queue = ClipQueue(models.submit, footprint, limits(clips=8), 1)
    first = next(queue.run(counted()))
    assert (first[0].clip_id, first[1]) == ("c0", "0")
    assert taken == 1 + 8 * 4


def test_reading_stops_while_the_models_are_busy() -> None:
    """No more frames are taken than batches and gathering may hold, however slow the model is."""
    release = threading.Event()
    taken = 0

    def read() -> Iterator[Read]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield clip(number), frames(number)

    with ThreadPoolExecutor(1) as model:

        def submit(clips: Sequence[ClipFrames]) -> Future[list[str | RecordError]]:
            return model.submit(lambda: [*map(str, (shown.indices[0] for shown in clips if release.wait(60)))])

        queue = ClipQueue(submit, footprint, limits(clips=4), 1)
        with ThreadPoolExecutor(1) as reader:
            done = reader.submit(lambda: [answer for _, answer in queue.run(read())])
            while taken < 12:
                release.wait(0.01)
            release.wait(0.2)
            assert taken == 12, "two batches given away, the third full"
            release.set()
            assert done.result() == [str(number) for number in range(200)]


def test_frames_held_are_bounded_in_bytes() -> None:
    models = Models()
    queue = ClipQueue(models.submit, footprint, limits(clips=100, held=3 * frames(0).frames.nbytes), 1)
    assert len(answers(queue, [(clip(number), frames(number)) for number in range(20)])) == 20
    assert models.batches == [[8] * 4] * 5, "the one over the limit sends them all off"


def test_a_failing_model_ends_the_run_with_its_own_words() -> None:
    def submit(clips: Sequence[ClipFrames]) -> Future[list[str | RecordError]]:
        done: Future[list[str | RecordError]] = Future()
        done.set_exception(SetupError("no such model"))
        return done

    queue = ClipQueue(submit, footprint, limits(clips=1), 1)
    with pytest.raises(SetupError, match="no such model"):
        answers(queue, [(clip(0), frames(0))])
