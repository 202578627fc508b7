"""The page that a person looks at before training: `reports/build.html`, and the same facts as `reports/build.json`.

The page is one file without any outside request. All text in it is escaped by the template engine; what it takes as
markup are only the charts drawn here.
"""

from __future__ import annotations

import base64
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

import pipeline
from pipeline.dataset import layout
from pipeline.dataset.shortcuts import find_shortcuts
from pipeline.errors import DataError, RecordError
from pipeline.records import Rejected, count_by, told_spans
from pipeline.report.charts import clock, draw_histogram
from pipeline.report.checks import Check, check_dataset
from pipeline.report.examples import Example, choose_examples
from pipeline.report.thumbnails import Thumbnail, ThumbnailJob, make_thumbnails
from pipeline.review.reviewers import review_statistics
from pipeline.review.store import stored_reviews
from pipeline.stages.base import StageReport
from pipeline.workspace import Workspace

PAGE = "reports/build.html"
FACTS = "reports/build.json"

_TEMPLATE = Path(__file__).with_name("build.html.j2")
_DETAILS_SHOWN = 3
_PACKAGES = ("av", "datasets", "numpy", "pyarrow", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectGroup:
    """Everything that a stage left out for one reason, with a few examples."""

    stage: str
    reason: str
    count: int
    examples: tuple[Rejected, ...]


def write_build_report(workspace: Workspace, stage_reports: Sequence[StageReport], config: Mapping[str, Any]) -> Path:
    """Write the page and its machine form; return the path of the page.

    Args:
        workspace: holds the exported dataset and its tables.
        stage_reports: of the stages of this run, in order.
        config: the settings of the build, to be shown.

    Raises:
        DataError: if there is no dataset with statistics.
    """
    folder = workspace.dataset_folder
    stats = layout.read_stats(folder)
    if stats is None:
        raise DataError(f"{folder / layout.STATS}: no statistics to report; export the dataset first")
    rejects = _group_rejects(workspace)
    rows_by_stage = {table.name: table.num_rows for table in _tables(workspace)}
    reviewers = count_by(workspace.verdicts.values("reviewer"))
    conflicts = count_by(conflict for conflict in workspace.verdicts.values("conflict") if conflict is not None)
    checks = check_dataset(stats, rows_by_stage, reviewers, find_shortcuts(folder), conflicts)
    facts = {
        "workspace": workspace.url,
        "dataset": str(folder),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "stages": [asdict(report) for report in stage_reports],
        "checks": [asdict(check) for check in checks],
        "reviewers": reviewers,
        "reviews": asdict(review_statistics(review for _, review in stored_reviews(workspace))),
        "dataset_stats": stats,
        "lost": {video.video_id: video.lost_spans for video in workspace.videos.records() if video.lost},
        "versions": _versions(),
        "config": config,
    }
    examples = choose_examples(folder)
    html = _render(facts, checks, rejects, list(zip(examples, _pictures(workspace, examples), strict=True)))
    workspace.storage.write(PAGE, html.encode())
    workspace.write_json(FACTS, facts)
    return workspace.storage.local_path(PAGE)


def _render(
    facts: Mapping[str, Any],
    checks: Sequence[Check],
    rejects: Sequence[RejectGroup],
    examples: Sequence[tuple[Example, Thumbnail | RecordError]],
) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "clock": clock,
        "data_uri": _data_uri,
        "seconds": _seconds,
        "thousands": "{:,}".format,
        "told_spans": told_spans,
    }
    environment.tests["fault"] = lambda picture: isinstance(picture, RecordError)
    stats = facts["dataset_stats"]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        facts=facts,
        stats=stats,
        title=Path(facts["dataset"]).parent.name,
        checks=checks,
        attention=sum(check.needs_attention for check in checks),
        rejects=rejects,
        lost=facts["lost"],
        examples=examples,
        largest_class=max(counts["clips"] for counts in stats["labels"].values()),
        clip_lengths=_chart(stats["clip_length_s"], "Clip lengths", "seconds"),
        answer_lengths=_chart(stats["answer_words"], "Answer lengths", "words"),
        config=yaml.safe_dump(dict(facts["config"]), sort_keys=False, allow_unicode=True),
    )


def _chart(distribution: Mapping[str, Any], title: str, unit: str) -> Any:
    from markupsafe import Markup

    return Markup(draw_histogram(distribution, title=title, unit=unit))  # noqa: S704 - drawn here, labels escaped


def _tables(workspace: Workspace) -> tuple[Any, ...]:
    return (
        workspace.videos, workspace.glances, workspace.clips,
        workspace.captions, *workspace.tables_of_levels, workspace.pairs, workspace.verdicts,
    )  # fmt: skip


def _group_rejects(workspace: Workspace) -> list[RejectGroup]:
    groups: list[RejectGroup] = []
    for table in _tables(workspace):
        examples: dict[str, list[Rejected]] = {}
        for record in table.rejected():
            same = examples.setdefault(record.reason, [])
            if len(same) < _DETAILS_SHOWN:
                same.append(record)
        groups += [
            RejectGroup(stage=table.name, reason=reason, count=count, examples=tuple(examples[reason]))
            for reason, count in count_by(rejected.reason for rejected in table.rejected()).items()
        ]
    return groups


def _pictures(workspace: Workspace, examples: Sequence[Example]) -> Iterator[Thumbnail | RecordError]:
    jobs = []
    for example in examples:
        if example.has_own_file:
            path = workspace.storage.local_path(f"clips/{Path(example.path).name}")
            shift_s = example.start_s
        else:
            path, shift_s = workspace.dataset_folder / example.path, 0.0
        glance_s = None if example.glance_time_s is None else example.glance_time_s - shift_s
        jobs.append(
            ThumbnailJob(
                path=str(path), start_s=example.start_s - shift_s, end_s=example.end_s - shift_s, glance_s=glance_s
            )
        )
    return make_thumbnails(jobs)


def _data_uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def _versions() -> dict[str, str]:
    found = {"holmes-engine": pipeline.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _seconds(duration_s: float) -> str:
    """Return a duration for people: 9.7 s, 3 min 05 s."""
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{duration_s:.1f} s"
