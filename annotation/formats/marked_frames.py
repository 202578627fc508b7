"""Events out of frames that are marked one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from annotation.formats.foreign import ForeignSpan, SpanKind


def marked_events(
    video: str, category: str | None, spans: Iterable[tuple[int, int]], where: str
) -> Iterator[ForeignSpan]:
    """Yield the events of half-open spans of frames; `where` stands before the frames in messages."""
    for start, end in spans:
        yield ForeignSpan(
            video=video, start_frame=start, end_frame=end, category=category, kind=SpanKind.EVENT,
            place=f"{where} {start} to {end - 1}",
        )  # fmt: skip


def runs(marked: Iterable[int]) -> list[tuple[int, int]]:
    """Return the half-open spans [start, end) of frames that follow one another, in order."""
    spans: list[tuple[int, int]] = []
    for frame in sorted(set(marked)):
        if spans and spans[-1][1] == frame:
            spans[-1] = (spans[-1][0], frame + 1)
        else:
            spans.append((frame, frame + 1))
    return spans


def sampled_runs(marked: Iterable[int], looked_at: Sequence[int]) -> list[tuple[int, int]]:
    """Return the spans of marked frames where only `looked_at`, in order, were labelled: each lasts to the next one.

    The last frame looked at lasts as long as the one before it.
    """
    place = {frame: number for number, frame in enumerate(looked_at)}
    last_step = looked_at[-1] - looked_at[-2] if len(looked_at) > 1 else 1
    until = [*looked_at[1:], looked_at[-1] + last_step]
    return [
        (looked_at[first], until[end - 1]) for first, end in runs(place[frame] for frame in marked if frame in place)
    ]
