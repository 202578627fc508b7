"""What a build left out, in a sentence a stage, with what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.records import Reason
from pipeline.stages.base import StageReport

_CURES = {
    Reason.NO_LABEL: "--set ingest.unlabelled=normal takes videos without label and click as Normal; otherwise name "
    "their labels in a manifest or click on what happens",
    Reason.NO_GLANCE: "click once into every event, or let --set clips.whole_max_s=SECONDS take such videos whole",
    Reason.MISSING_VIDEO: "list the videos that the annotations speak of: --set 'videos=[FOLDER, ...]'",
    Reason.FRAME_RATE_CONFLICT: "--set glance.frame_rate=RATE names the frame rate at which the clicks were counted",
    Reason.UNKNOWN_CATEGORY: "label the videos with these classes in a manifest, or accept those of another taxonomy "
    "with --set glance.taxonomy=NAME",
    Reason.TIMED_OUT: "--set video.timeout_s=SECONDS gives each file more time",
    Reason.OUT_OF_MEMORY: "--set video.memory_mb=MIB gives each worker more memory",
    Reason.NO_CAPTION: "name more files with --set 'caption.files=[FILE, ...]', or let another backend describe all "
    "clips: --set caption.backend=motion",
    Reason.NO_FEATURES: "name the folders of these videos' features: --set 'features.folders=[FOLDER, ...]'",
    Reason.NO_FOOTAGE: "their rows in the manifest name no file, which is enough for published features "
    "(features.encoder=npy), `holmes train sampler`, `holmes score` and `holmes eval detector`",
    Reason.NO_SCORES: "train a sampler with `holmes train sampler`, or cut clips with --set clips.method=window",
}

_ALWAYS_SAID = frozenset({Reason.NO_LABEL})
"""Reasons that are told however few records they concern: nothing is wrong with these, and a setting takes them."""


def left_out(reports: Sequence[StageReport], workspace: str) -> Iterator[str]:
    """Yield a sentence for every stage that rejected most of its records, or for what only a setting keeps out."""
    for report in reports:
        rejected = sum(report.rejected.values())
        if not rejected:
            continue
        reason, count = max(report.rejected.items(), key=lambda item: item[1])
        if rejected <= report.rows:
            said = [(name, number) for name, number in report.rejected.items() if name in _ALWAYS_SAID]
            if not said:
                continue
            ((reason, count),) = said
        mostly = "" if count == rejected else f", {count} of them"
        cure = _CURES.get(Reason(reason), f"`holmes status {workspace} --rejected` lists them one by one")
        yield f"{report.stage} left out {rejected} of {rejected + report.rows} records{mostly} as {reason}: {cure}"
