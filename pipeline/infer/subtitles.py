"""A detection as subtitles in SubRip format."""

from __future__ import annotations

from pipeline.infer.detection import DetectedSpan, Detection


def span_text(span: DetectedSpan) -> str:
    """Return what is said of a span: the answer, or its score where no model answered."""
    return span.answer or f"anomaly score {span.score:.2f}"


def as_srt(detection: Detection) -> str:
    """Return a cue for each span, with the answer about it; without spans one over the whole video, if it was judged.

    Times are in milliseconds, cues in order and apart; nothing of a text can be taken for a new cue.
    """
    cues = [(span.start_s, span.end_s, span_text(span)) for span in detection.spans]
    if not cues and detection.answer:
        cues = [(0.0, detection.duration_s, detection.answer)]
    return "".join(
        f"{number}\n{_clock(start_s)} --> {_clock(end_s)}\n{_on_one_line(text)}\n\n"
        for number, (start_s, end_s, text) in enumerate(cues, start=1)
    )


def _on_one_line(text: str) -> str:
    return " ".join(text.replace("-->", "->").split())


def _clock(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d},{thousandths:03d}"
