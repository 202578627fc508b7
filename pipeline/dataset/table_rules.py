"""Whether the rows of a dataset are those that the tables of its workspace give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.dataset.buckets import Buckets
from pipeline.dataset.findings import Findings
from pipeline.dataset.rows import DatasetRows
from pipeline.errors import DataError
from pipeline.workspace import Workspace

_COMPARED = (
    "source_video", "start_s", "end_s", "label", "level", "task", "question", "answer", "caption", "captioner",
    "caption_agreement", "llm", "prompt_hash", "glance_time_s", "anomaly_score", "verdict", "reviewer", "reviewed_at",
    "original_answer",
)  # fmt: skip
_CLIP_FILE = "video.path"


def hash_rows(rows: pa.Table) -> pa.Table:
    """Return the hash of every compared value, and the id of the row: eight bytes where a text may have hundreds."""
    # A clip that is embedded keeps the name of its file alone.
    file = pc.replace_substring_regex(pc.struct_field(rows.column("video"), "path"), "^.*/", "")
    columns = {name: rows.column(name) for name in ("fingerprint", *_COMPARED)} | {_CLIP_FILE: file}
    hashes = {name: pd.util.hash_array(_values(column)) for name, column in columns.items()}
    return pa.table({"id": rows.column("id"), **hashes})


def check_against_tables(
    workspace: Workspace, rows: Buckets, scratch: Path, *, has_clip_files: bool, findings: Findings
) -> None:
    """Compare rows with what the tables give for their ids, bucket by bucket.

    `rows` are hashed, by id, with the shard of each in the column `file`; `scratch` is a folder for those to compare.
    Rows of another fingerprint are of another build and left alone: the tables may have gone on since the export.
    """
    # In which split a video is decides nothing that is compared.
    splits = pa.repeat("train", workspace.videos.num_rows)
    try:
        given = DatasetRows(workspace, splits, "encode" if has_clip_files else "reference")
    except DataError:
        # A build that has not come to its end has rows without their clips; the dataset is that of the one before.
        return
    expected = Buckets(scratch / "expected", len(rows))
    for part in given.ordered(scratch):
        expected.add(hash_rows(part.rows), "id")
    expected.close()
    for number in range(len(rows)):
        found, wanted = rows.read(number), expected.read(number)
        if found is not None and wanted is not None:
            _compare(found.to_pandas(), wanted.to_pandas().set_index("id"), findings)


def _compare(rows: pd.DataFrame, expected: pd.DataFrame, findings: Findings) -> None:
    for file, hashed in rows.groupby("file", sort=False):
        found = hashed.drop(columns="file").set_index("id")
        found = found[~found.index.duplicated() & found.index.isin(expected.index)]
        differs = found.ne(expected.loc[found.index])
        for row_id, columns in differs[~differs["fingerprint"]].iterrows():
            if names := [str(name) for name in differs.columns[columns.to_numpy(bool)]]:
                value = f"{', '.join(names)}: not what the tables of the workspace hold"
                findings.add("tables", str(file), f"id {row_id!r}", value, "rows must be those that were built")


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.to_pylist(), dtype=float if pa.types.is_floating(column.type) else object)
