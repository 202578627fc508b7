"""Evaluation of captions: where they and what is known of their clips come from, and what is written of them."""

from __future__ import annotations

import csv
import json
import logging
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, Self

from annotation.formats.foreign import ForeignSpan, SpanKind
from annotation.formats.registry import read_annotations
from annotation.sentences import read_sentences
from annotation.video_index import video_name
from flows.commands.answer_tables import METRICS, Metrics, share_table
from pipeline.errors import DataError
from pipeline.evaluate.captions import (
    CaptionedClip,
    CaptionMetrics,
    CheckedCaption,
    check_captions,
    measure_captions,
)
from pipeline.models.human import TimedSentence
from pipeline.quality.described import Claim
from pipeline.storage import write_atomically
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

ROWS = "captions.csv"

_WIDTH = 110

Sentences = Mapping[str, Sequence[TimedSentence]]


def captions_of_workspace(name: str, files: Sequence[Path]) -> tuple[list[CaptionedClip], Sentences]:
    """Return the captions of a workspace with the classes of their clips, and what files say of its videos.

    Raises:
        DataError: there are no captions, or a file cannot be read or holds no sentence.
    """
    workspace = Workspace(name)
    clips = {clip.clip_id: clip for clip in workspace.clips.records()}
    captions = [
        CaptionedClip(
            id=clip.clip_id, video=clip.video_id, start_s=clip.start_s, end_s=clip.end_s, text=caption.text,
            label=clip.label,
        )
        for caption in workspace.captions.records()
        if (clip := clips.get(caption.clip_id)) is not None
    ]  # fmt: skip
    if not captions:
        raise DataError(f"{workspace.url}: no captions; run the build first")
    return captions, read_sentences(map(str, files), workspace.videos.records()) if files else {}


def captions_of_file(path: Path, files: Sequence[Path]) -> tuple[list[CaptionedClip], Sentences]:
    """Return the captions of a file of sentences, and what files say of videos of the same names.

    Raises:
        DataError: a file cannot be read or holds no sentence with a time, or none is about a video of the captions.
    """
    captions = [
        CaptionedClip(
            id=span.place, video=video_name(span.video), start_s=start_s, end_s=end_s, text=span.sentence or "",
            label=span.category,
        )
        for span, (start_s, end_s) in _sentences(path)
    ]  # fmt: skip
    known: defaultdict[str, list[TimedSentence]] = defaultdict(list)
    for file in files:
        for span, (start_s, end_s) in _sentences(file):
            known[video_name(span.video)].append(TimedSentence(start_s, end_s, span.sentence or ""))
    if known.keys().isdisjoint(one.video for one in captions):
        raise DataError(f"{', '.join(map(str, files))}: not one sentence about a video of {path}")
    return captions, known


def _sentences(path: Path) -> list[tuple[ForeignSpan, tuple[float, float]]]:
    read = read_annotations(path)
    for fault in read.faults:
        logger.warning("left out: %s", fault)
    found = []
    for span in read.spans:
        if not span.sentence:
            continue
        if (bounds := _bounds(span)) is None:
            logger.warning("%s: left out: no time in seconds, and no frame rate", span.place)
        else:
            found.append((span, bounds))
    if not found:
        raise DataError(f"{path}: no sentence with a time: a CSV of video_id,start_s,end_s,sentence is expected")
    return found


def _bounds(span: ForeignSpan) -> tuple[float, float] | None:
    if span.start_s is not None and span.end_s is not None:
        return span.start_s, span.end_s
    if span.start_frame is not None and span.end_frame is not None and span.frame_rate:
        return span.start_frame / span.frame_rate, span.end_frame / span.frame_rate
    return (0.0, inf) if span.kind is SpanKind.VIDEO else None


@dataclass(frozen=True, eq=False, kw_only=True)
class CaptionReport:
    """Captions held against what is known, and what both were read from."""

    checked: Sequence[CheckedCaption | None]
    metrics: CaptionMetrics
    read_from: Mapping[str, Any]

    @classmethod
    def of(
        cls, clips: Iterable[CaptionedClip], sentences: Sentences, *, captions: str, reference: Sequence[Path]
    ) -> Self:
        """Check and measure captions."""
        checked = check_captions(clips, sentences)
        read_from = {"captions": captions, "reference": [str(file) for file in reference]}
        return cls(checked=checked, metrics=measure_captions(checked), read_from=read_from)

    def as_json(self) -> dict[str, Any]:
        """Return everything that the command prints as one object."""
        found = self.metrics
        kinds = {kind: asdict(measured) for kind, measured in found.kinds.items()}
        shares = {
            name: None if share is None else asdict(share)
            for name, share in (
                ("faultless", found.faultless), ("invented", found.invented), ("silent", found.silent),
            )
        }  # fmt: skip
        return {
            **self.read_from,
            "num": found.num,
            "without_reference": found.without_reference,
            **shares,
            "kinds": kinds,
            "worst": [_told(one) for one in found.worst],
        }

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, and `captions.csv` with a row for every caption that was compared, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / METRICS, (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode())
        with (folder / ROWS).open("w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(file, list(_COLUMNS), lineterminator="\n")
            rows.writeheader()
            for one in self.checked:
                if one is not None:
                    told = _told(one)
                    rows.writerow({name: told[name] if name in _TEXTS else "; ".join(told[name]) for name in _COLUMNS})


_TEXTS = ("id", "label", "caption")
_COLUMNS = (*_TEXTS, "right", "wrong", "missed", "known")


def _told(one: CheckedCaption) -> dict[str, Any]:
    return {
        "id": one.clip.id,
        "label": one.clip.label or "",
        "caption": one.clip.text,
        "right": _named(one.right),
        "wrong": _named(one.wrong),
        "missed": _named(one.missed),
        "known": list(one.known),
    }


def _named(claims: Iterable[Claim]) -> list[str]:
    return [f"{claim.kind}: {claim}" for claim in sorted(claims)]


def caption_table(metrics: Metrics) -> Iterator[str]:
    """Yield the lines of a table, for people."""
    yield f"{metrics['num']} captions compared; of {metrics['without_reference']} clips nothing is known"
    rows = {
        "without a false claim": metrics["faultless"],
        "event invented in calm clips": metrics["invented"],
        "event of a clip passed over": metrics["silent"],
    }
    yield from share_table("captions", rows)
    for title, key in (("claims that are true", "right"), ("what is known that is told", "told")):
        yield from share_table(title, {f"  {kind}": measured[key] for kind, measured in metrics["kinds"].items()})
    wrong = {kind: measured["wrong"] for kind, measured in metrics["kinds"].items() if measured["wrong"]}
    if wrong:
        yield ""
        yield "false claims made most often"
    for kind, counts in wrong.items():
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        yield textwrap.fill(f"{kind}: {told}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
    if metrics["worst"]:
        yield ""
        yield "the worst captions"
    for one in metrics["worst"]:
        yield f"{one['id']}: {'; '.join(one['wrong'])}"
        yield textwrap.fill(one["caption"], _WIDTH, initial_indent="  ", subsequent_indent="  ")
        for sentence in one["known"]:
            yield textwrap.fill(f"known: {sentence}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
