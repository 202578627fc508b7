"""What `stats.json` says of a dataset: counts, balances, and distributions of lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.layout import SPLITS
from pipeline.records import NORMAL, Rejected

SIDES = ("abnormal", "normal")

_OPENING_WORDS = 4
_BINS = 20
_COUNTED = ("split", "level", "task", "verdict", "captioner", "llm")
_Numbers = npt.NDArray[Any]


class DatasetStatistics:
    """Adds up a dataset while it is written; keeps counts, and nothing of a row."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
        self._rows: Counter[tuple[str, str]] = Counter()
        self._words: dict[str, Counter[int]] = {side: Counter() for side in SIDES}
        self._openings: dict[str, Counter[str]] = {}

    @property
    def num_rows(self) -> int:
        """Rows added so far."""
        return self._rows.total()

    def add(self, rows: pa.Table, split: str) -> None:
        """Count rows with the columns of the dataset, all of one split."""
        self._counts["split"][split] += rows.num_rows
        for name in _COUNTED[1:]:
            self._counts[name].update(_value_counts(rows.column(name)))
        for label, count in _value_counts(rows.column("label")).items():
            self._rows[(split, label)] += count
        for side in SIDES:
            answers = rows.filter(pc.equal(rows.column("is_anomaly"), side == "abnormal"))
            words = pc.utf8_split_whitespace(answers.column("answer"))
            self._words[side].update(_value_counts(pc.list_value_length(words)))
            openings = pc.binary_join(pc.list_slice(words, 0, _OPENING_WORDS), " ")
            keyed = pa.table({"task": answers.column("task"), "opening": openings})
            for group in keyed.group_by(["task", "opening"]).aggregate([([], "count_all")]).to_pylist():
                counter = self._openings.setdefault(f"{group['task']}/{side}", Counter())
                counter[group["opening"]] += group["count_all"]

    def summary(self, clips: pa.Table, rejected: Iterable[Rejected]) -> dict[str, Any]:
        """Return the statistics of all rows added.

        Args:
            clips: one row per clip of the dataset, with split, label, video_id, start_s and end_s; texts may stand in a
                dictionary.
            rejected: everything that was left out.
        """
        lengths_s = pc.subtract(clips.column("end_s"), clips.column("start_s")).to_numpy()
        used = {name: _Codes.of(clips.column(name)) for name in ("split", "label", "video_id")}
        is_normal = used["label"].equal(NORMAL)
        reasons: dict[str, Counter[str]] = {}
        for reject in rejected:
            reasons.setdefault(reject.stage, Counter())[reject.reason] += 1
        return {
            "rows": self.num_rows,
            "clips": clips.num_rows,
            "videos": len(np.unique(used["video_id"].codes)),
            "clip_hours": round(float(lengths_s.sum()) / 3600, 6),
            "splits": {split: self._of_split(used, split) for split in SPLITS if self._counts["split"][split]},
            "labels": self._of_labels(used),
            "levels": _ranked(self._counts["level"]),
            "tasks": _ranked(self._counts["task"]),
            "verdicts": _ranked(self._counts["verdict"]),
            "captioners": _ranked(self._counts["captioner"]),
            "llms": _ranked(self._counts["llm"]),
            "clip_length_s": _two_sided({"abnormal": lengths_s[~is_normal], "normal": lengths_s[is_normal]}),
            "answer_words": _two_sided({side: _expanded(counts) for side, counts in self._words.items()}),
            "openings": {group: _top(counter) for group, counter in sorted(self._openings.items())},
            "rejected": {stage: _ranked(counts) for stage, counts in reasons.items()},
        }

    def _of_split(self, used: Mapping[str, _Codes], split: str) -> dict[str, int]:
        inside = used["split"].equal(split)
        rows, normal = self._counts["split"][split], self._rows[(split, NORMAL)]
        return {
            "rows": rows,
            "abnormal_rows": rows - normal,
            "normal_rows": normal,
            "clips": int(inside.sum()),
            "videos": len(np.unique(used["video_id"].codes[inside])),
        }

    def _of_labels(self, used: Mapping[str, _Codes]) -> dict[str, dict[str, int]]:
        rows: Counter[str] = Counter()
        for (_, label), count in self._rows.items():
            rows[label] += count
        labels, videos = used["label"], used["video_id"]
        size = len(labels.texts)
        clips_of = np.bincount(labels.codes, minlength=size)
        pairs = np.unique(labels.codes + size * videos.codes.astype(np.int64))
        videos_of = np.bincount(pairs % size, minlength=size)
        code_of = {label: labels.texts.index(label).as_py() for label in rows}
        return {
            label: {"rows": count, "clips": int(clips_of[code_of[label]]), "videos": int(videos_of[code_of[label]])}
            for label, count in _ranked(rows).items()
        }


@dataclass(frozen=True, slots=True)
class _Codes:
    """A column of texts as numbers, four bytes each."""

    codes: npt.NDArray[np.int32]
    texts: pa.Array

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Codes:
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        whole = column.combine_chunks()
        return cls(whole.indices.to_numpy(), whole.dictionary)

    def equal(self, text: str) -> npt.NDArray[np.bool_]:
        return np.asarray(self.codes == self.texts.index(text).as_py(), bool)


def _value_counts(column: pa.ChunkedArray) -> dict[Any, int]:
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()}


def _expanded(counts: Counter[int]) -> _Numbers:
    """Return every value as often as it was counted."""
    return np.repeat(np.array(list(counts), np.int32), list(counts.values()))


def _ranked(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _top(counter: Counter[str]) -> dict[str, Any]:
    opening, count = min(counter.items(), key=lambda item: (-item[1], item[0]))
    return {"rows": counter.total(), "most_common": opening, "share": round(count / counter.total(), 4)}


def _two_sided(values: Mapping[str, _Numbers]) -> dict[str, Any]:
    """Describe both sides over the same bins, so that their histograms can be laid over one another."""
    everything = np.concatenate(list(values.values()))
    top = float(everything.max()) if len(everything) else 1.0
    edges = np.linspace(0.0, top, _BINS + 1)
    summary: dict[str, Any] = {"bin_edges": [round(float(edge), 4) for edge in edges]}
    for side, side_values in values.items():
        summary[side] = {"count": len(side_values)}
        if len(side_values):
            low, median, high = np.quantile(side_values, (0.05, 0.5, 0.95))
            summary[side] |= {
                "mean": round(float(side_values.mean()), 3),
                "p5": round(float(low), 3),
                "median": round(float(median), 3),
                "p95": round(float(high), 3),
                "histogram": np.histogram(side_values, bins=edges)[0].tolist(),
            }
    return summary
