"""A package of somebody else's that offers one of everything: laid out as files, to be installed or put on the path."""

from __future__ import annotations

from pathlib import Path

MODULE = """
from pathlib import Path

import numpy as np

from annotation.formats.base import Format, by_columns
from annotation.formats.foreign import ForeignGlance, Import
from pipeline.dataset.formats import ExportFormat, write_json
from pipeline.features.base import EncoderBackend, num_snippets, write_features
from pipeline.models.base import Draft
from pipeline.records import Caption


class Captioner:
    name = "acme-vad:words"

    def __init__(self, options):
        self.words = options.get("words", "A street.")

    def identity(self):
        return {"code": 1, "words": self.words}

    def evidence_of(self, request):
        return None

    def caption(self, requests):
        for request in requests:
            yield Caption(
                clip_id=request.clip.clip_id, text=f"{self.words} It is {request.clip.clip_id}.",
                captioner=self.name, prompt_hash=None,
            )


def make_captioner(config, video, workspace):
    return Captioner(config.options)


class Synthesizer:
    name = "acme-vad:short"

    def identity(self):
        return {"code": 1}

    def synthesize(self, requests):
        for request in requests:
            opening = "No, nothing abnormal" if request.clip.label == "Normal" else f"Yes, {request.clip.label}"
            text = f"{opening} is seen: {request.caption.text}"
            yield Draft(answer=text, raw_response=text, prompt_hash="none")


def make_synthesizer(config, workspace):
    return Synthesizer()


class Encoder:
    name = "acme-vad:mean"

    def __init__(self, config, video):
        self.scale = config.options.get("scale", 1.0)

    def identity(self):
        return {"encoder": self.name, "code": 1, "scale": self.scale}

    def encode(self, jobs):
        for job in jobs:
            count = num_snippets(job.video.num_frames, job.stride_frames)
            features = np.full((1, count, 3), self.scale, dtype=np.float32)
            yield write_features(job.path, count, job.video.video_id, [features])


MEAN = EncoderBackend(make_encoder=Encoder, make_stream=None)


def read_marks(source, frame_rate):
    found = Import(format="acme-vad:marks")
    for row in source.rows():
        found.glances.append(
            ForeignGlance(
                video=row.cells["clip"], frame_index=int(row.cells["mark"]), category=row.cells["what"],
                place=f"{source.name}:{row.line}",
            )
        )
    return found


MARKS = Format(
    title="ACME marks: clip,mark,what",
    likeness=by_columns(lambda columns: columns == ["clip", "mark", "what"]),
    read=read_marks,
)
LINES = ExportFormat(
    title="ACME lines",
    write=lambda folder, out: write_json(folder, out, lambda row, video: {"said": row["answer"]}, ".jsonl"),
)
"""

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "Acme_VAD"
version = "1.2"

[tool.setuptools]
py-modules = ["acme_vad"]

{entries}
"""

ENTRIES = {
    "holmes.captioners": 'words = "acme_vad:make_captioner"',
    "holmes.synthesizers": 'short = "acme_vad:make_synthesizer"',
    "holmes.encoders": 'mean = "acme_vad:MEAN"',
    "holmes.annotation_formats": 'marks = "acme_vad:MARKS"',
    "holmes.export_formats": 'lines = "acme_vad:LINES"',
}


def write_project(folder: Path) -> Path:
    """Write the package as its author has it, with a pyproject.toml."""
    entries = "\n".join(f'[project.entry-points."{group}"]\n{entry}\n' for group, entry in ENTRIES.items())
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(entries=entries))
    (folder / "acme_vad.py").write_text(MODULE)
    return folder


def write_installed(folder: Path) -> Path:
    """Write the package as an installer leaves it: a folder for the import path."""
    metadata = folder / "acme_vad-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Acme_VAD\nVersion: 1.2\n")
    entries = "\n".join(f"[{group}]\n{entry.replace(chr(34), '')}\n" for group, entry in ENTRIES.items())
    (metadata / "entry_points.txt").write_text(entries)
    (folder / "acme_vad.py").write_text(MODULE)
    return folder
