"""Turn an annotation file of any format into a Parquet file of glances or spans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from annotation.formats.foreign import ForeignFault
from annotation.formats.registry import read_annotations
from annotation.formats.tables import to_table
from pipeline.errors import SetupError
from pipeline.storage import opened_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """What `import_to_parquet` did. `rows` is 0, and no file is written, where the input holds nothing usable."""

    format: str
    holds: str
    rows: int
    videos: int
    faults: list[ForeignFault]
    notes: list[str]

    def __str__(self) -> str:
        """Return the counts, and the remarks on how the file was read, one a line."""
        counts = f"{self.format}: {self.rows} {self.holds} of {self.videos} video(s), {len(self.faults)} fault(s)"
        return "\n  note: ".join([counts, *self.notes])


def import_to_parquet(
    path: Path | str,
    format: str,  # noqa: A002
    out: Path,
    *,
    frame_rate: float | None = None,
) -> ImportSummary:
    """Read an annotation file and keep its glances, or where there is none its spans, as a Parquet file.

    Raises:
        DataError: as `read_annotations`.
        ConfigError: as `read_annotations`.
        SetupError: `out` cannot be written.
    """
    found = read_annotations(path, format, frame_rate=frame_rate)
    table = to_table(found)
    if table.num_rows:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with opened_atomically(out) as file:
                pq.write_table(table, file, compression="zstd")
        except OSError as fault:
            raise SetupError(f"{out}: cannot be written: {fault.strerror or fault}") from None
    notes = list(found.notes)
    if found.glances and found.spans:
        notes.append(
            f"{len(found.spans)} span(s) beside the clicks are not in the table: give the file itself for those"
        )
    return ImportSummary(
        format=found.format,
        holds="glances" if found.glances else "spans",
        rows=table.num_rows,
        videos=len(found.videos),
        faults=found.faults,
        notes=notes,
    )
