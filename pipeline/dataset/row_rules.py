"""The rules that every row of a dataset keeps, checked a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.findings import Findings
from pipeline.quality.rules import stated_verdicts
from pipeline.records import NORMAL, Decision, Level, Task

_REQUIRED_TEXTS = (
    "id", "source_video", "label", "level", "task", "question", "answer", "caption", "captioner", "llm", "verdict",
    "reviewer", "fingerprint",
)  # fmt: skip
_NEVER_NULL = ("video", "start_s", "end_s", "is_anomaly", "messages", "prompt_hash")
_KEPT = (Decision.ACCEPT.value, Decision.EDIT.value)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule: what it is called, what it asks for, which rows break it, and the columns to show of those."""

    name: str
    limit: str
    broken: Callable[[pa.Table], Any]
    shown: Sequence[str]


def check_rows(rows: pa.Table, first_row: int, file: str, findings: Findings) -> None:
    """Check rows that have the columns of a dataset; `first_row` is the place of the first in the file, from 0."""
    for rule in _RULES:
        broken = pc.fill_null(rule.broken(rows), fill_value=True)
        for position in pc.indices_nonzero(broken).to_pylist():
            place = f"row {first_row + position} (id {rows.column('id')[position].as_py()!r})"
            values = ", ".join(f"{name}={_short(rows.column(name)[position].as_py())}" for name in rule.shown)
            findings.add(rule.name, file, place, values, rule.limit)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_blank(name: str) -> Callable[[pa.Table], Any]:
    return lambda rows: pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(rows.column(name))), 0)


def _is_null(name: str) -> Callable[[pa.Table], Any]:
    return lambda rows: pc.is_null(rows.column(name))


def _is_no_share(name: str) -> Callable[[pa.Table], Any]:
    return lambda rows: _is_outside(rows.column(name), 0.0, 1.0)


def _is_no_hash(name: str, digits: int) -> Callable[[pa.Table], Any]:
    return lambda rows: pc.invert(pc.match_substring_regex(rows.column(name), rf"^[0-9a-f]{{{digits}}}$"))


def _bad_span(rows: pa.Table) -> Any:
    start_s, end_s = rows.column("start_s"), rows.column("end_s")
    in_order = pc.and_(pc.greater_equal(start_s, 0.0), pc.less(start_s, end_s))
    return pc.invert(pc.and_(in_order, pc.is_finite(end_s)))


def _is_outside(values: Any, low: Any, high: Any) -> Any:
    """Tell which values lie outside [low, high]; a null does not."""
    inside = pc.and_(pc.less_equal(low, values), pc.less_equal(values, high))
    return pc.and_kleene(pc.is_valid(values), pc.invert(inside))


def _verdict_disagrees(rows: pa.Table) -> Any:
    opening = pc.utf8_lower(rows.column("answer"))
    says_yes, says_no = (pc.match_substring_regex(opening, rf"^\W*{word}\b") for word in ("yes", "no"))
    opens_right = pc.if_else(rows.column("is_anomaly"), says_yes, says_no)
    return pc.and_(pc.equal(rows.column("task"), Task.JUDGE_EXPLAIN.value), pc.invert(opens_right))


def _speaks_against_label(rows: pa.Table) -> Any:
    columns = (rows.column(name).to_pylist() for name in ("task", "answer", "is_anomaly"))
    return pa.array(
        [
            task != Task.CAPTION and stated_verdicts(answer or "") == {"normal" if is_anomaly else "abnormal"}
            for task, answer, is_anomaly in zip(*columns, strict=True)
        ]
    )


def _no_video(rows: pa.Table) -> Any:
    path = pc.fill_null(pc.struct_field(rows.column("video"), "path"), "")
    content = pc.binary_length(pc.struct_field(rows.column("video"), "bytes"))
    return pc.and_(pc.equal(pc.utf8_length(path), 0), pc.equal(pc.fill_null(content, 0), 0))


def _embedded_no_mp4(rows: pa.Table) -> Any:
    content = pc.struct_field(rows.column("video"), "bytes")
    return pc.and_kleene(pc.is_valid(content), pc.not_equal(pc.binary_slice(content, 4, 8), pa.scalar(b"ftyp")))


def _messages_disagree(rows: pa.Table) -> Any:
    columns = (rows.column(name).to_pylist() for name in ("messages", "question", "answer"))
    return pa.array([not _is_chat(*row) for row in zip(*columns, strict=True)])


def _is_chat(messages: Any, question: str | None, answer: str | None) -> bool:
    """Tell whether a chat is the video and the question, and then the answer."""
    asked = [{"type": "video", "text": None}, {"type": "text", "text": question}]
    said = [{"type": "text", "text": answer}]
    return bool(messages == [{"role": "user", "content": asked}, {"role": "assistant", "content": said}])


def _rules() -> Iterator[_Rule]:
    for name in _REQUIRED_TEXTS:
        yield _Rule("no_empty_text", f"{name} must hold text", _is_blank(name), (name,))
    for name in _NEVER_NULL:
        yield _Rule("no_null", f"{name} must not be null", _is_null(name), (name,))
    yield _Rule("span", "0 <= start_s < end_s is required", _bad_span, ("start_s", "end_s"))
    yield _Rule(
        "glance_in_clip", "the glance must lie in [start_s, end_s]",
        lambda rows: _is_outside(*(rows.column(name) for name in ("glance_time_s", "start_s", "end_s"))),
        ("glance_time_s", "start_s", "end_s"),
    )  # fmt: skip
    yield _Rule(
        "is_anomaly", f"is_anomaly must be label != {NORMAL}",
        lambda rows: pc.not_equal(rows.column("is_anomaly"), pc.not_equal(rows.column("label"), NORMAL)),
        ("is_anomaly", "label"),
    )  # fmt: skip
    yield _Rule(
        "polarity", "the judgement must open with Yes where is_anomaly, else with No", _verdict_disagrees,
        ("is_anomaly", "answer"),
    )  # fmt: skip
    yield _Rule(
        "polarity", "no answer may call normal what is_anomaly says is not, or abnormal what is normal",
        _speaks_against_label, ("is_anomaly", "answer"),
    )  # fmt: skip
    yield _Rule(
        "task", f"task must be one of {', '.join(Task)}",
        lambda rows: pc.invert(pc.is_in(rows.column("task"), value_set=pa.array(map(str, Task)))), ("task",),
    )  # fmt: skip
    yield _Rule(
        "level", f"level must be one of {', '.join(Level)}",
        lambda rows: pc.invert(pc.is_in(rows.column("level"), value_set=pa.array(map(str, Level)))), ("level",),
    )  # fmt: skip
    yield _Rule(
        "verdict", f"verdict must be one of {', '.join(_KEPT)}",
        lambda rows: pc.invert(pc.is_in(rows.column("verdict"), value_set=pa.array(_KEPT))), ("verdict",),
    )  # fmt: skip
    yield _Rule(
        "original_answer", "original_answer must be there where verdict is edit, and nowhere else",
        lambda rows: pc.not_equal(
            pc.is_valid(rows.column("original_answer")), pc.equal(rows.column("verdict"), Decision.EDIT.value)
        ),
        ("verdict", "original_answer"),
    )  # fmt: skip
    for name in ("anomaly_score", "caption_agreement"):
        yield _Rule("score", f"{name} must lie in [0, 1]", _is_no_share(name), (name,))
    for name, digits in (("fingerprint", 16), ("prompt_hash", 32)):
        yield _Rule("hash", f"{name} must be {digits} hexadecimal digits", _is_no_hash(name, digits), (name,))
    yield _Rule("video", "video must hold a path or bytes", _no_video, ("source_video",))
    yield _Rule("video", "video.bytes must be an mp4 file", _embedded_no_mp4, ("source_video",))
    yield _Rule(
        "messages", "messages must be the video and the question, then the answer", _messages_disagree,
        ("question", "answer", "messages"),
    )  # fmt: skip


_RULES = tuple(_rules())
