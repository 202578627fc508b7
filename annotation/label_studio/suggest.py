"""Send a sampler's peaks to Label Studio as predictions, so that a person confirms instead of searching.

A prediction is no annotation: nothing of it is pulled before a person submits it. Its model version is the hash of the
sampler and of how its peaks are found: running again with the same one adds nothing, another one replaces what the
earlier left. Tasks that somebody has annotated, skipped or begun keep what they have.

A prediction's score is how certain the sampler is of the video. Label Studio's sampling by uncertainty serves the task
with the lowest one first, and its Data Manager sorts by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from annotation.label_studio.click_interface import GlanceInterface, read_interface
from annotation.label_studio.click_project import GLANCES, Skipped
from annotation.label_studio.client import ONE_TRY, StudioClient
from annotation.label_studio.kinds import chosen_project
from annotation.label_studio.rate import player_frame
from annotation.label_studio.regions import TIMELINE
from annotation.stage import read_timelines
from pipeline.config import ProposalConfig, VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.records import ABNORMAL, NORMAL, Reason, Video, digest
from pipeline.taxonomy import canonical
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.sampler.curve import ScoreCurve
    from pipeline.sampler.peaks import Peak
    from pipeline.video.timeline import Timeline

VERSION_PREFIX = "holmes-"
"""Predictions whose model version begins so are ours to replace; those of other models stay."""

UNCERTAIN_FIRST = "Uncertainty sampling"
"""Label Studio's name for serving the task with the lowest prediction score first."""


class Scorer(Protocol):
    """What scores the videos of a workspace.

    Attributes:
        theta: the score from which a peak is an event.
        version: hash of the sampler.
    """

    theta: float
    version: str

    def curve(self, video: Video) -> ScoreCurve:
        """Return the scores of a video.

        Raises:
            RecordError: it has none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A suggested click: a frame that a decoder counts from 0, the sampler's score there, and the label."""

    frame_index: int
    score: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTask:
    """A task that nobody has begun, with how certain the sampler is of its video, in [0, 1], and what it suggests."""

    task: int
    video_id: str
    certainty: float
    highest_score: float
    suggestions: tuple[Suggestion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestSummary:
    """What `suggest_glances` did.

    Attributes:
        model_version: of the predictions.
        url: of the project.
        open_tasks: in the order in which they are best annotated, the least certain first.
        added: predictions made now; the other open tasks had theirs before.
        replaced: predictions of earlier samplers that were removed.
        left_alone: tasks that somebody has annotated, skipped or begun.
        skipped: videos without a prediction, and why.
    """

    model_version: str
    url: str
    open_tasks: list[OpenTask]
    added: int
    replaced: int
    left_alone: int
    skipped: list[Skipped] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the lines that a person reads."""
        clicks = sum(len(task.suggestions) for task in self.open_tasks)
        lines = [
            f"{self.model_version}: {clicks} click(s) suggested in {len(self.open_tasks)} open task(s); {self.added} "
            f"prediction(s) added, {self.replaced} replaced, {self.left_alone} task(s) left to those who began them, "
            f"{len(self.skipped)} without a prediction"
        ]
        if self.open_tasks:
            lines.append("least certain first: " + ", ".join(task.video_id for task in self.open_tasks[:5]))
        return "\n".join([*lines, self.url])


def suggest_glances(
    workspace: Workspace,
    client: StudioClient,
    scorer: Scorer,
    *,
    proposal: ProposalConfig,
    min_s: float,
    project_id: int | None = None,
    set_order: bool = True,
    reading: VideoConfig | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SuggestSummary:
    """Give every task that nobody has begun the sampler's peaks as a prediction, and the project their order.

    Args:
        workspace: its videos are those of the tasks.
        client: the server.
        scorer: scores the videos.
        proposal: how spans are read from scores; each gives one peak.
        min_s: shortest span in seconds.
        project_id: the project; by default the one made for this workspace.
        set_order: have the project serve the least certain task first.
        reading: workers and limits for reading the videos' timestamps.
        on_progress: called with the tasks looked at and their number.

    Raises:
        SetupError: no project, one of another kind, or one whose interface lacks a label that is needed.
        UnavailableError: as `StudioClient.explained`.
    """
    number = chosen_project(workspace, client, GLANCES, project_id)
    where = f"project {number} of Label Studio at {client.url}"
    interface = read_interface(client.project(number).label_config, where)
    videos = {video.video_id: video for video in workspace.videos.records()}
    version = VERSION_PREFIX + digest(scorer.version, scorer.theta, proposal.model_dump(mode="json"), min_s)[:12]
    tasks = list(client.tasks(number, with_annotations=True))
    untouched = [task for task in tasks if not task.annotations and not task.drafts]
    open_tasks: list[OpenTask] = []
    skipped: list[Skipped] = []
    for done, task in enumerate(untouched, start=1):
        video_id = str((task.data or {}).get("video_id"))
        try:
            video = _video(videos, video_id)
            judged = _judge(task.id, video, scorer, proposal=proposal, min_s=min_s, labels=interface.labels)
            open_tasks.append(judged)
        except RecordError as fault:
            skipped.append((video_id, fault))
        on_progress(done, len(untouched))
    _check_labels(open_tasks, interface, where)
    made = {task.id: _own_versions(task) for task in untouched}
    lacking = [task for task in open_tasks if version not in made[task.task].values()]
    rates = {task.id: interface.rate_of(task.data or {}) for task in untouched}
    predictions: list[dict[str, Any]] = []
    paths = (videos[task.video_id].path if task.suggestions else None for task in lacking)
    for open_task, timeline in zip(lacking, read_timelines(paths, reading or VideoConfig()), strict=True):
        if not open_task.suggestions:
            regions = []
        elif isinstance(timeline, RecordError):
            skipped.append((open_task.video_id, timeline))
            open_tasks.remove(open_task)
            continue
        else:
            regions = _regions(open_task, timeline, rates[open_task.task], interface)
        predictions.append(
            {"task": open_task.task, "result": regions, "score": open_task.certainty, "model_version": version}
        )
    client.add_predictions(number, predictions)
    if open_tasks:
        settings: dict[str, Any] = {"model_version": version, "show_collab_predictions": True}
        with client.explained(f"show the predictions of {version}"):
            client.sdk.projects.update(
                number, **settings, **({"sampling": UNCERTAIN_FIRST} if set_order else {}), request_options=ONE_TRY
            )
    old = [number for versions in made.values() for number, name in versions.items() if name != version]
    for prediction in old:
        client.delete_prediction(prediction)
    return SuggestSummary(
        model_version=version,
        url=f"{client.url}/projects/{number}/data",
        open_tasks=sorted(open_tasks, key=lambda task: (task.certainty, task.video_id)),
        added=len(predictions),
        replaced=len(old),
        left_alone=len(tasks) - len(untouched),
        skipped=skipped,
    )


def _video(videos: Mapping[str, Video], video_id: str) -> Video:
    if video_id not in videos:
        raise RecordError(Reason.MISSING_VIDEO, f"{video_id}: no such video in the workspace")
    return videos[video_id]


def _judge(
    task: int, video: Video, scorer: Scorer, *, proposal: ProposalConfig, min_s: float, labels: Collection[str]
) -> OpenTask:
    from pipeline.sampler.peaks import certainty, event_peaks

    curve = scorer.curve(video)
    label = None if video.label is None else canonical(video.label) or video.label
    is_abnormal = None if label is None else label != NORMAL
    peaks: Sequence[Peak] = ()
    if is_abnormal is not False:
        peaks = event_peaks(curve, scorer.theta, proposal, min_s=min_s, is_abnormal=bool(is_abnormal))
    named = label if label in labels else ABNORMAL
    return OpenTask(
        task=task,
        video_id=video.video_id,
        certainty=certainty(curve, scorer.theta, proposal, is_abnormal=is_abnormal),
        highest_score=float(curve.scores.max()),
        suggestions=tuple(
            Suggestion(frame_index=peak.frame_index, score=peak.score, label=str(named)) for peak in peaks
        ),
    )


def _check_labels(open_tasks: Iterable[OpenTask], interface: GlanceInterface, where: str) -> None:
    """Refuse to send a label that the interface lacks: the front end would drop it without a word."""
    unnamed = sum(one.label not in interface.labels for task in open_tasks for one in task.suggestions)
    if unnamed:
        raise SetupError(
            f'{where}: its interface has no label "{ABNORMAL}", which {unnamed} suggestion(s) need because their '
            f'videos\' class is not known: add <Label value="{ABNORMAL}"/> to its TimelineLabels'
        )


def _own_versions(task: Any) -> dict[int, str]:
    """Return our predictions of a task: number and model version."""
    return {
        prediction.id: prediction.model_version
        for prediction in task.predictions or []
        if str(prediction.model_version or "").startswith(VERSION_PREFIX)
    }


def _regions(task: OpenTask, timeline: Timeline, rate: float, interface: GlanceInterface) -> list[dict[str, Any]]:
    """Return a region of one frame for every suggestion: frames count from 1, at the player's rate."""
    from_name, to_name = interface.timeline
    regions = []
    for suggestion in task.suggestions:
        frame = player_frame(timeline, suggestion.frame_index, rate) + 1
        regions.append(
            {
                "id": digest(task.video_id, frame)[:10],
                "from_name": from_name,
                "to_name": to_name,
                "type": TIMELINE,
                "value": {"ranges": [{"start": frame, "end": frame}], TIMELINE: [suggestion.label]},
                "score": round(suggestion.score, 4),
            }
        )
    return regions
