"""Published tables in the form of their papers, with what was measured here as the first rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.evaluate.answers import AnswerMetrics, Reference
    from pipeline.evaluate.detector import DetectorMetrics
    from pipeline.published import PublishedTable

OURS = "here"

Values = Mapping[str, float | None]


class Published(StrEnum):
    """Whether published rows stand beside what was measured."""

    AUTO = "auto"
    ALWAYS = "always"
    NONE = "none"


PublishedRows = Annotated[
    Published,
    typer.Option(
        "--published",
        help="rows of published tables below ours; auto: where all videos are of their footage",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured, as fractions by the columns of a published table; `note` tells on what."""

    values: Values
    note: str
    group: str | None = None


def chosen_table(name: str, published: Published, videos: Iterable[str]) -> PublishedTable | None:
    """Return a table where it is asked for, or all `videos` (file names) are of the footage that it is about.

    Raises:
        SetupError: the published figures cannot be read.
    """
    from pipeline.published import load_published_tables, sources_of

    if published is Published.NONE:
        return None
    table = load_published_tables()[name]
    found = sources_of(videos) if published is Published.AUTO else set()
    of_footage = bool(found) and found <= set(table.sources)
    return table if published is Published.ALWAYS or of_footage else None


def beside_detector(
    published: Published, metrics: DetectorMetrics, videos: Iterable[str]
) -> dict[str, tuple[PublishedTable, list[Measured]]]:
    """Return the tables of detectors that go with the footage of `videos`, file names or ids, ours in them.

    Raises: as `chosen_table`.
    """
    names = list(videos)
    note = f"{metrics.num_videos} videos"
    values = metrics.as_json()
    return {
        name: (table, [Measured(values={key: values[key] for key in table.columns}, note=note)])
        for name in ("ucf-crime", "xd-violence")
        if (table := chosen_table(name, published, names)) is not None
    }


def beside_answers(
    published: Published, metrics: AnswerMetrics, references: Sequence[Reference]
) -> dict[str, tuple[PublishedTable, list[Measured]]]:
    """Return the tables of judgements and of texts that go with the footage of the references, ours in them.

    Raises: as `chosen_table`.
    """
    names = [one.video or "" for one in references]
    found: dict[str, tuple[PublishedTable, list[Measured]]] = {}
    if metrics.judgement is not None and (table := chosen_table("judgement", published, names)) is not None:
        overall = metrics.judgement.overall
        found["judgement"] = table, [Measured(values={"accuracy": overall.accuracy}, note=f"{overall.num} answers")]
    # The first group of a level is all of it.
    levels = {group.level: group for group in reversed(metrics.groups) if group.text is not None}
    if levels and (table := chosen_table("hivau-70k", published, names)) is not None:
        found["hivau-70k"] = (
            table,
            [
                Measured(
                    values=asdict(group.text),
                    note=f"{group.num} answers, METEOR {group.text.meteor_variant}",
                    group=level,
                )
                for level, group in reversed(levels.items())
                if group.text is not None
            ],
        )
    return found


def table_lines(table: PublishedTable, measured: Iterable[Measured]) -> Iterator[str]:
    """Yield the lines of a table, an empty line before it; what a paper does not tell is a dash."""
    ours = [(one.group, OURS, one.note, _scaled(one.values, table)) for one in measured]
    told = [(row.group, row.name, row.where, row.values) for row in table.rows]
    yield ""
    yield table.title + (f" ({table.note})" if table.note else "")
    is_grouped = any(row.group for row in table.rows)
    widths = [max(len(title) + 2, 10) for title in table.columns.values()]
    head = "".join(f"{title:>{width}}" for title, width in zip(table.columns.values(), widths, strict=True))
    yield f"{'':<{_WIDTH}}{head}"
    for group in dict.fromkeys(row[0] for row in [*ours, *told]):
        if is_grouped:
            yield str(group)
        for _, name, note, values in (row for row in [*ours, *told] if row[0] == group):
            numbers = "".join(
                f"{_number(values.get(key), table.digits):>{width}}"
                for key, width in zip(table.columns, widths, strict=True)
            )
            yield f"{name:<{_WIDTH}}{numbers}  {note}"


def tables_as_json(tables: Mapping[str, tuple[PublishedTable, Sequence[Measured]]]) -> dict[str, Any]:
    """Return the tables as JSON-able values, ours in the units of the papers."""
    return {
        name: {
            "title": table.title,
            "columns": dict(table.columns),
            OURS: [{"group": one.group, "measured_on": one.note, **_scaled(one.values, table)} for one in measured],
            "published": [
                {"name": row.name, "group": row.group, "where": row.where, **row.values} for row in table.rows
            ],
        }
        for name, (table, measured) in tables.items()
    }


_WIDTH = 38


def _scaled(values: Values, table: PublishedTable) -> dict[str, float | None]:
    factor = 100 if table.unit == "percent" else 1
    return {key: None if (value := values.get(key)) is None else value * factor for key in table.columns}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
