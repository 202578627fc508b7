"""A detection burnt into its video: a frame around each span, below the picture the score, the curve and the answer.

Every frame of the video is there once, at its own time. Small videos are enlarged, so that the text can be read.
"""

from __future__ import annotations

import os
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.infer.detection import DetectedSpan, Detection, say_confidence
from pipeline.infer.judgement import is_denied
from pipeline.infer.subtitles import span_text
from pipeline.video.readers import ReaderName, open_reader
from pipeline.video.timeline import Timeline

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Picture = NDArray[np.uint8]

_LEAST_WIDTH, _MOST_WIDTH = 640, 1920
_CLOCK = 90_000
_TEXT_LINES = 3
_READING_S = 4.0  # seconds that a page of text stays where the span leaves it the time

_BACKGROUND, _TRACK, _TEXT = (24, 28, 34), (48, 55, 66), (236, 239, 244)
_CALM, _ALARM, _DENIED = (74, 144, 217), (232, 90, 40), (110, 170, 108)


def write_annotated(detection: Detection, path: Path, reader: ReaderName = "auto") -> None:
    """Write the annotated video as MP4 (H.264, no sound), which appears when it is finished.

    Raises:
        RecordError: where the video cannot be read.
    """
    import av

    with open_reader(detection.video, reader) as whole:
        size = _enlarged(whole.width, whole.height)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with (
            open_reader(detection.video, reader, size=size) as frames,
            # An absolute path is never taken for an address.
            av.open(os.path.abspath(partial), "w", format="mp4", options={"movflags": "+faststart"}) as output,  # noqa: PTH100
        ):
            timeline = frames.timeline
            panel = _Panel(detection, timeline, size[0])
            stream: Any = output.add_stream(
                "libx264",
                rate=Fraction(timeline.fps).limit_denominator(1001),
                options={"preset": "veryfast", "crf": "21"},
            )
            stream.width, stream.height, stream.pix_fmt = size[0], size[1] + panel.height, "yuv420p"
            stream.codec_context.time_base = stream.time_base = Fraction(1, _CLOCK)
            for index, picture in frames.iter_frames():
                frame = av.VideoFrame.from_ndarray(panel.below(picture, index), format="rgb24")
                frame.pts, frame.time_base = round(timeline.time_of(index) * _CLOCK), Fraction(1, _CLOCK)
                frame.duration = round((timeline.end_time_of(index) - timeline.time_of(index)) * _CLOCK)
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class _Panel:
    """What stands below the picture, drawn anew only where it changes."""

    def __init__(self, detection: Detection, timeline: Timeline, width: int) -> None:
        self._detection = detection
        self._timeline = timeline
        self._width = width
        unit = max(14, width // 45)
        self._unit = unit
        self._pad = unit // 2
        self._font = _font(unit)
        self._bold = _font(unit, bold=True)
        self._line = round(unit * 1.35)
        self._curve_height = unit * 3 if len(detection.scores) else self._pad
        self._text_top = self._curve_height + 2 * self._pad
        self.height = (self._text_top + self._line * (_TEXT_LINES + 1) + self._pad) // 2 * 2
        self._curve = self._drawn_curve()
        self._page: tuple[tuple[int | None, int], Picture] | None = None
        self._texts = {None: self._lines(detection.answer or "")} | {
            place: self._lines(span_text(span)) for place, span in enumerate(detection.spans)
        }

    def below(self, picture: Picture, index: int) -> Picture:
        """Return the picture with the panel of the frame at `index` below it."""
        time_s = self._timeline.time_of(index)
        place = next((p for p, s in enumerate(self._detection.spans) if s.start_s <= time_s < s.end_s), None)
        panel = self._text_of(place, time_s).copy()
        self._draw_playhead(panel, time_s)
        if place is not None:
            picture = _framed(picture, _colour(self._detection.spans[place]), max(3, self._width // 160))
        return np.concatenate([picture, panel])

    def _text_of(self, place: int | None, time_s: float) -> Picture:
        """Return the panel with the page of text that stands at a time: that of a span, or of the whole video."""
        from PIL import Image, ImageDraw

        spans = self._detection.spans
        lines = self._texts[place] if place is not None or not spans else []
        start_s, end_s = 0.0, self._detection.duration_s
        if place is not None:
            start_s, end_s = spans[place].start_s, spans[place].end_s
        pages = max(1, -(-len(lines) // _TEXT_LINES))
        page_s = max((end_s - start_s) / pages, 0.001)
        if place is None:
            page_s = min(page_s, _READING_S)
        page = int((time_s - start_s) / page_s) % pages
        if self._page is None or self._page[0] != (place, page):
            image = Image.fromarray(self._curve)
            draw = ImageDraw.Draw(image)
            if place is not None:
                measured = (f"score {spans[place].score:.2f}", say_confidence(spans[place].confidence))
                title = "   ".join([f"{start_s:.1f}s ~ {end_s:.1f}s", *measured])
            else:
                measured = ("no abnormal span", say_confidence(self._detection.confidence))
                title = "" if spans else "   ".join(measured)
            colour = _TEXT if place is None else _colour(spans[place])
            draw.text((self._pad, self._text_top), title, font=self._bold, fill=colour)
            for row, line in enumerate(lines[page * _TEXT_LINES : (page + 1) * _TEXT_LINES], start=1):
                draw.text((self._pad, self._text_top + row * self._line), line, font=self._font, fill=_TEXT)
            self._page = (place, page), np.asarray(image)
        return self._page[1]

    def _draw_playhead(self, panel: Picture, time_s: float) -> None:
        """Draw the bar of the score at a time at the left of the curve, and a line where the time stands on it."""
        scores = self._detection.scores
        if not len(scores):
            return
        snippet = int(np.searchsorted(self._detection.times_s, time_s))
        near = [place for place in (snippet - 1, snippet) if 0 <= place < len(scores)]
        score = float(scores[min(near, key=lambda place: abs(self._detection.times_s[place] - time_s))])
        top, bottom = self._pad, self._pad + self._curve_height
        level = bottom - round(score * self._curve_height)
        mix = np.clip((score - 0.3) / 0.4, 0, 1)
        panel[level:bottom, self._pad : self._pad + self._unit] = np.array(_CALM) * (1 - mix) + np.array(_ALARM) * mix
        column = min(self._x(time_s), self._width - self._pad - 2)
        panel[top:bottom, column : column + 2] = _TEXT

    def _drawn_curve(self) -> Picture:
        """Return the panel without text: the track of the score's bar, the spans, and the curve."""
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (self._width, self.height), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        top, bottom = self._pad, self._pad + self._curve_height
        if len(self._detection.scores):
            draw.rectangle((self._pad, top, self._pad + self._unit - 1, bottom - 1), fill=_TRACK)
            draw.rectangle((self._x(0), top, self._width - self._pad, bottom - 1), fill=_TRACK)
        for span in self._detection.spans:
            muted = tuple(int(c * 0.45 + t * 0.55) for c, t in zip(_colour(span), _TRACK, strict=True))
            draw.rectangle((self._x(span.start_s), top, self._x(span.end_s), bottom - 1), fill=muted)
        for start_s, end_s in self._detection.lost:
            draw.rectangle((self._x(start_s), top, self._x(end_s), bottom - 1), fill=_BACKGROUND)
        for part in self._detection.curve_parts():
            points = [
                (self._x(time_s), bottom - 1 - score * (self._curve_height - 2))
                for time_s, score in zip(part.times_s.tolist(), part.scores.tolist(), strict=True)
            ]
            if len(points) > 1:
                draw.line(points, fill=_CALM, width=2)
        return np.asarray(image)

    def _x(self, time_s: float) -> int:
        left = self._pad * 2 + self._unit
        share = min(max(time_s / self._detection.duration_s, 0.0), 1.0)
        return left + round(share * (self._width - self._pad - left))

    def _lines(self, text: str) -> list[str]:
        """Wrap a text to the width of the panel."""
        widest = self._font.getlength("abcdefghijklmnopqrstuvwxyz ") / 27
        characters = max(20, int((self._width - 2 * self._pad) / widest * 1.02))
        lines = textwrap.wrap(text, characters)
        while any(self._font.getlength(line) > self._width - 2 * self._pad for line in lines) and characters > 20:
            characters -= 2
            lines = textwrap.wrap(text, characters)
        return lines


def _colour(span: DetectedSpan) -> tuple[int, int, int]:
    return _DENIED if is_denied(span) else _ALARM


def _framed(picture: Picture, colour: tuple[int, int, int], width: int) -> Picture:
    framed = picture.copy()
    for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        framed[edge] = colour
    return framed


def _enlarged(width: int, height: int) -> tuple[int, int]:
    """Return even sides, the width between the least at which text can be read and the most that is of use."""
    scale = min(max(width, _LEAST_WIDTH), _MOST_WIDTH) / width
    return round(width * scale / 2) * 2, max(2, round(height * scale / 2) * 2)


def _font(size: int, *, bold: bool = False) -> FreeTypeFont:
    # The one font that is at hand wherever matplotlib is, and it knows most scripts of Europe.
    from matplotlib import font_manager
    from PIL import ImageFont

    found = font_manager.findfont(
        font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    )
    return ImageFont.truetype(found, size)
