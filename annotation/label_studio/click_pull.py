"""Bring what people did in Label Studio into a file that `glances` reads.

The file is the server's own JSON export, with one thing added that no export tells: the frame rate at which the player
counted each task. Tasks are fetched by number in requests of bounded size, so that no size of project is one long
answer, and what is there at the beginning and gone at the end is named.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from annotation.annotators import Agreement, agreement
from annotation.formats.foreign import ForeignFault, ForeignGlance, Import, Viewing
from annotation.formats.registry import read_annotations
from annotation.label_studio.click_interface import RATE_KEY, GlanceInterface, read_interface
from annotation.label_studio.click_project import GLANCES
from annotation.label_studio.client import TASKS_AN_EXPORT, StudioClient
from annotation.label_studio.kinds import chosen_project
from annotation.source import show
from annotation.timeline import seek_time
from pipeline.errors import DataError, SetupError, UnavailableError
from pipeline.records import Glance
from pipeline.taxonomy import canonical
from pipeline.workspace import Workspace

EXPORT_FILE = "labelstudio/glances.json"
AGREEMENT_FILE = "labelstudio/agreement.json"

FORMS = {"JSON": "json", "JSON_MIN": "min.json", "CSV": "csv", "TSV": "tsv"}
"""Forms of export, and the suffix of their files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSummary:
    """What came: the file, its clicks, what was left out and why, and how far people agree.

    `new` and `withdrawn` count clicks, marks and videos with nothing abnormal, compared with the pull before of the
    same project; `withdrawals` names the latter.
    """

    path: str
    tasks: int
    clicks: int
    marks: int
    nothing_abnormal: int
    rates_added: int
    gone: tuple[int, ...]
    annotators: dict[str, int]
    agreement: Agreement
    new: int
    withdrawn: int
    faults: list[ForeignFault] = field(default_factory=list)
    withdrawals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the lines that a person reads."""
        lines = [
            f"{self.path}: {self.tasks} task(s), {self.clicks} click(s), {self.marks} mark(s) to ignore, "
            f"{self.nothing_abnormal} x nothing abnormal, {len(self.faults)} left out; {self.news}"
        ]
        lines += [f"  annotator {name}: {count} click(s)" for name, count in self.annotators.items()]
        seen = self.agreement
        if seen.videos:
            lines.append(
                f"  {seen.videos} video(s) seen by several: {_percent(seen.matched)} of {seen.clicks} clicks matched, "
                f"{_percent(seen.same_verdict)} of the verdicts are the same"
            )
        if self.rates_added:
            lines.append(f"  note: {self.rates_added} task(s) take their frame rate from the interface")
        if self.gone:
            lines.append(f"  note: {len(self.gone)} task(s) were deleted meanwhile: {show(list(self.gone))}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    @property
    def news(self) -> str:
        """What the pull before did not have, or had and is gone."""
        if not self.new and not self.withdrawn:
            return "nothing new"
        return f"{self.new} new" + (f", {self.withdrawn} withdrawn" if self.withdrawn else "")

    @property
    def remarks(self) -> list[str]:
        """What was left out, and what was withdrawn, a line each."""
        return [*map(str, self.faults), *self.withdrawals]

    def figures(self) -> dict[str, Any]:
        """Return the counts, for a machine to read."""
        return {
            "glances": {
                "path": self.path,
                "tasks": self.tasks,
                "clicks": self.clicks,
                "marks": self.marks,
                "nothing_abnormal": self.nothing_abnormal,
                "left_out": len(self.faults),
                "new": self.new,
                "withdrawn": self.withdrawn,
                "annotators": self.annotators,
                "agreement": asdict(self.agreement),
            }
        }


def pull_glances(
    workspace: Workspace,
    client: StudioClient,
    *,
    project_id: int | None = None,
    tolerance_s: float = 1.0,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PullSummary:
    """Fetch a project's annotations, by default the workspace's own, into the workspace, whole or not at all.

    The file goes to `EXPORT_FILE`, and how far people agree to `AGREEMENT_FILE`, where clicks of one class within
    `tolerance_s` mean one event. `on_progress` gets the number of tasks fetched, and of all.

    Raises:
        SetupError: no project, or one of another kind.
        DataError: the project has no tasks.
        UnavailableError: as `StudioClient.explained`, and where the server sends something else than tasks.
    """
    number = chosen_project(workspace, client, GLANCES, project_id)
    where = f"project {number} of Label Studio at {client.url}"
    interface = read_interface(client.project(number).label_config, where)
    tasks, gone = fetch_tasks(client, number, where, on_progress)
    rates_added = sum(_state_rate(task, interface) for task in tasks)
    source = {"server": client.url, "project": number}
    before = _judgements_before(workspace, source)
    path = store_export(workspace, EXPORT_FILE, tasks)
    found = read_annotations(path, "label-studio")
    now = _judgements(found)
    measured = measure_agreement(found, tolerance_s)
    counts = clicks_by_annotator(found)
    workspace.write_json(
        AGREEMENT_FILE, asdict(measured) | {"tolerance_s": tolerance_s, "by_annotator": counts} | source
    )
    clicks = sum(counts.values())
    return PullSummary(
        path=str(path),
        tasks=len(tasks),
        clicks=clicks,
        marks=len(found.glances) - clicks,
        nothing_abnormal=sum(not viewing.clicks for viewing in found.viewings),
        rates_added=rates_added,
        gone=gone,
        annotators=counts,
        agreement=measured,
        new=(now - before).total(),
        withdrawn=(before - now).total(),
        faults=found.faults,
        withdrawals=[_describe_withdrawn(judgement) for judgement in (before - now).elements()],
        notes=found.notes,
    )


def fetch_tasks(
    client: StudioClient, project_id: int, where: str, on_progress: Callable[[int, int], None]
) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """Return all tasks of a project as the JSON export has them, and the numbers of those deleted meanwhile.

    Raises:
        UnavailableError: as `StudioClient.explained`, and where the server sends something else than tasks.
    """
    ids = [task.id for task in client.tasks(project_id)]
    tasks: list[dict[str, Any]] = []
    for start in range(0, len(ids), TASKS_AN_EXPORT):
        part = ids[start : start + TASKS_AN_EXPORT]
        tasks += _parse(client.export(project_id, "JSON", part), set(part), f"{where}, tasks {part[0]} to {part[-1]}")
        on_progress(start + len(part), len(ids))
    return tasks, tuple(sorted(set(ids) - {task["id"] for task in tasks}))


def store_export(workspace: Workspace, name: str, tasks: list[dict[str, Any]]) -> Path:
    """Write tasks into the workspace as one export; return where it lies."""
    workspace.storage.write(name, json.dumps(tasks, ensure_ascii=False).encode())
    return workspace.storage.local_path(name)


def pull_form(workspace: Workspace, client: StudioClient, form: str, *, project_id: int | None = None) -> str:
    """Fetch an export in another form, as the server writes it, and return where it lies.

    Raises:
        SetupError: no such form, no project, or one of another kind.
        UnavailableError: as `StudioClient.explained`.
    """
    if form not in FORMS:
        raise SetupError(f"{form!r} is no form of export; known are {', '.join(FORMS)}")
    number = chosen_project(workspace, client, GLANCES, project_id)
    read_interface(client.project(number).label_config, f"project {number} of Label Studio at {client.url}")
    name = f"labelstudio/glances.{FORMS[form]}"
    workspace.storage.write(name, client.export(number, form))
    return workspace.storage.path(name)


def measure_agreement(found: Import, tolerance_s: float) -> Agreement:
    """Measure how far the annotators of an import agree; clicks without a time are left out."""
    clicks: dict[str, list[Glance]] = {}
    viewers: dict[str, set[str]] = {}
    for click in found.glances:
        if (time_s := _time(click)) is not None:
            clicks.setdefault(click.video, []).append(
                Glance(
                    video_id=click.video,
                    time_s=time_s,
                    frame_index=click.frame_index or 0,
                    category=canonical(click.category or "") or click.category or "",
                    annotator=click.annotator,
                    origin=click.place,
                )
            )
    for viewing in found.viewings:
        viewers.setdefault(viewing.video, set()).add(viewing.annotator or "")
    return agreement(clicks, viewers, tolerance_s)


def clicks_by_annotator(found: Import) -> dict[str, int]:
    """Count the clicks of each annotator, marks left out; who only said that nothing is abnormal has none."""
    counts: Counter[str] = Counter()
    for viewing in found.viewings:
        counts[viewing.annotator or "unknown"] += viewing.clicks
    return dict(sorted(counts.items()))


def _judgements(found: Import) -> Counter[ForeignGlance | Viewing]:
    """Count what people said, wherever in the file it stands."""
    said: list[ForeignGlance | Viewing] = [*found.glances, *(seen for seen in found.viewings if not seen.clicks)]
    return Counter(replace(judgement, place="") for judgement in said)


def _judgements_before(workspace: Workspace, source: dict[str, Any]) -> Counter[ForeignGlance | Viewing]:
    path, noted = workspace.storage.local_path(EXPORT_FILE), workspace.read_json(AGREEMENT_FILE)
    # another project has other clicks, of which none was withdrawn
    if path.is_file() and isinstance(noted, dict) and noted.items() >= source.items():
        # what cannot be read any more is replaced as a whole, and all of it is new
        with contextlib.suppress(DataError):
            return _judgements(read_annotations(path, "label-studio"))
    return Counter()


def _describe_withdrawn(judgement: ForeignGlance | Viewing) -> str:
    by = f"annotator {judgement.annotator or 'unknown'}"
    if isinstance(judgement, Viewing):
        return f"{judgement.video}: nothing abnormal, said by {by}, is no longer on the server"
    time_s = _time(judgement)
    at = f"frame {judgement.frame_index}" if time_s is None else f"{time_s:.2f} s"
    return f"{judgement.video}: the click {judgement.category or ''} at {at} by {by} is no longer on the server"


def _parse(export: bytes, asked: set[int], where: str) -> Iterable[dict[str, Any]]:
    try:
        tasks = json.loads(export)
    except (ValueError, RecursionError):
        raise UnavailableError(f"{where}: the export is not JSON: {show(export[:80])}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and task.get("id") in asked for task in tasks):
        raise UnavailableError(f"{where}: the export holds something else than the tasks asked for")
    return tasks


def _state_rate(task: dict[str, Any], interface: GlanceInterface) -> bool:
    """Write the player's rate into a task's data where it says none or another; return whether it did."""
    data = task.get("data")
    if not isinstance(data, dict):
        return False
    rate = interface.rate_of(data)
    given = GlanceInterface((), f"${RATE_KEY}").rate_of(data) if data.get(RATE_KEY) not in (None, "") else None
    if given == rate:
        return False
    data[RATE_KEY] = f"{rate:.12g}"
    return True


def _time(click: ForeignGlance) -> float | None:
    if click.frame_index is not None and click.frame_rate is not None:
        return seek_time(click.frame_index, click.frame_rate)
    return click.time_s


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"
