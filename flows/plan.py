"""The plan of a build, as data: which stages there are, in which order, over which tables.

`holmes build` and the Prefect flows run this same plan; they differ only in who calls `run_step`.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pipeline
from annotation.stage import GlancesStage
from pipeline.config import BuildConfig, CaptionConfig, apply_override, parse_config
from pipeline.errors import ConfigError, DataError, SetupError
from pipeline.models.base import Captioner
from pipeline.models.factory import make_captioner, make_synthesizer
from pipeline.needs import device_of_worker
from pipeline.records import Level, count_by
from pipeline.report.build_page import write_build_report
from pipeline.sources.catalogue import Catalogue, load_catalogue
from pipeline.stages.base import Stage, StageReport
from pipeline.stages.caption import CaptionStage
from pipeline.stages.clips import ClipsStage
from pipeline.stages.executor import Executor, LocalExecutor
from pipeline.stages.export import export_dataset, pending_export
from pipeline.stages.features import FeaturesStage
from pipeline.stages.filter import FilterStage
from pipeline.stages.ingest import IngestStage
from pipeline.stages.levels import LevelsStage
from pipeline.stages.looks import LooksStage
from pipeline.stages.run import Progress, pending_units, run_stage
from pipeline.stages.score import ScoreStage
from pipeline.stages.splits import SplitsStage
from pipeline.stages.synthesize import SynthesizeStage
from pipeline.tables import Table
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

EXPORT = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stage of the plan: how it is made from a configuration, the table it fills, and which builds want it."""

    name: str
    make_stage: Callable[[Workspace, BuildConfig], Stage[Any, Any]]
    table: Callable[[Workspace], Table[Any]]
    wanted: Callable[[BuildConfig], bool] = lambda _: True


def _catalogue(config: BuildConfig) -> Catalogue:
    return load_catalogue(config.sources, config.videos)


def _with_sentences(config: BuildConfig) -> CaptionConfig:
    """Return the settings of captioning with the sentences that come with the published datasets."""
    files = [*config.caption.files, *_catalogue(config).sentences]
    return config.caption.model_copy(update={"files": list(dict.fromkeys(files))})


def _teller(config: BuildConfig, workspace: Workspace) -> Captioner | None:
    """Return who knows what people wrote about whole events and videos; None where nobody wrote anything."""
    sentences = _with_sentences(config)
    if not sentences.files:
        return None
    return make_captioner(sentences.model_copy(update={"backend": "human", "samples": 1}), config.video, workspace)


def _wants_scores(config: BuildConfig) -> bool:
    return config.clips.method == "sampler"


def _wants_levels(config: BuildConfig) -> bool:
    return bool(set(config.synthesize.levels) - {Level.CLIP})


PLAN: tuple[Step, ...] = (
    Step(
        name="ingest",
        make_stage=lambda workspace, config: IngestStage(
            workspace, config.videos, config.ingest, config.video, catalogue=_catalogue(config), sources=config.sources
        ),
        table=lambda workspace: workspace.videos,
    ),
    Step(
        name="glances",
        make_stage=lambda workspace, config: GlancesStage(
            workspace, config.glances, config.glance, config.video, _catalogue(config)
        ),
        table=lambda workspace: workspace.glances,
    ),
    Step(
        name="looks",
        make_stage=lambda workspace, config: LooksStage(workspace, config.video),
        table=lambda workspace: workspace.looks,
    ),
    Step(
        name="splits",
        make_stage=lambda workspace, config: SplitsStage(
            workspace, config.export, unlabelled_is_normal=config.ingest.unlabelled == "normal"
        ),
        table=lambda workspace: workspace.splits,
    ),
    Step(
        name="features",
        make_stage=lambda workspace, config: FeaturesStage(workspace, config.features, config.video),
        table=lambda workspace: workspace.features,
        wanted=_wants_scores,
    ),
    Step(
        name="score",
        make_stage=lambda workspace, config: ScoreStage(workspace, config.sampler, config.features),
        table=lambda workspace: workspace.scores,
        wanted=_wants_scores,
    ),
    Step(
        name="clips",
        make_stage=lambda workspace, config: ClipsStage(
            workspace,
            config.clips,
            config.video,
            unlabelled_is_normal=config.ingest.unlabelled == "normal",
            levels=config.synthesize.levels,
            gap_s=config.synthesize.event_gap_s,
        ),
        table=lambda workspace: workspace.clips,
    ),
    Step(
        name="caption",
        make_stage=lambda workspace, config: CaptionStage(
            workspace, make_captioner(_with_sentences(config), config.video, workspace)
        ),
        table=lambda workspace: workspace.captions,
    ),
    Step(
        name="levels",
        make_stage=lambda workspace, config: LevelsStage(
            workspace, config.synthesize.event_gap_s, _teller(config, workspace)
        ),
        table=lambda workspace: workspace.level_captions,
        wanted=_wants_levels,
    ),
    Step(
        name="synthesize",
        make_stage=lambda workspace, config: SynthesizeStage(
            workspace,
            make_synthesizer(config.synthesize, workspace),
            config.synthesize.tasks,
            config.synthesize.seed,
            levels=config.synthesize.levels,
            gap_s=config.synthesize.event_gap_s,
        ),
        table=lambda workspace: workspace.pairs,
    ),
    Step(
        name="filter",
        make_stage=lambda workspace, config: FilterStage(workspace, config.filter),
        table=lambda workspace: workspace.verdicts,
    ),
)
"""The stages that make tables, each after the ones that it reads. The export follows."""


_UP_TO_FEATURES = ("ingest", "glances", "looks", "splits", "features")
"""What a sampler is trained on."""


def steps_of(config: BuildConfig) -> list[Step]:
    """Return the stages of the plan that a build goes through: features and scores only where clips come from them."""
    return [step for step in PLAN if step.wanted(config)]


def step_names(config: BuildConfig) -> tuple[str, ...]:
    """Return the names of a build's stages in order, the export last."""
    return (*(step.name for step in steps_of(config)), EXPORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """What a stage holds, and what a run would do now; `to_do` is None while a stage before it has work to do."""

    stage: str
    rows: int
    rejected: Mapping[str, int]
    to_do: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSummary:
    """What a build left behind."""

    workspace: str
    dataset: Path
    report: Path
    stages: tuple[StageReport, ...]


def check_inputs(config: BuildConfig) -> None:
    """Find out before any work whether what the configuration names is there.

    Raises:
        ConfigError: naming the setting and the file or value that is missing.
    """
    _catalogue(config)
    files = {"glances": config.glances, "filter.verdicts": config.filter.verdicts}
    if config.caption.backend == "human":
        files["caption.files"] = config.caption.files
        if not _with_sentences(config).files:
            raise ConfigError("caption.backend=human needs caption.files: UCA, HIVAU-70k or CSV sentences")
    for setting, names in files.items():
        for name in names:
            is_folder = setting == "glances" and Path(name).is_dir()
            if not Path(name).is_file() and not is_folder:
                raise ConfigError(f"{setting}: {name}: no such file")
    if config.export.embed_videos and Level.VIDEO in config.synthesize.levels:
        raise ConfigError(
            "export.embed_videos=true would put a whole video into every row about one: take video out of "
            "synthesize.levels, or embed nothing"
        )
    if config.caption.backend == "hf" and not config.caption.model:
        raise ConfigError("caption.backend=hf needs caption.model: a model id or folder")
    if config.synthesize.backend == "openai" and not config.synthesize.model:
        raise ConfigError("synthesize.backend=openai needs synthesize.model: a model name of the endpoint")
    if config.synthesize.backend == "hf" and not config.synthesize.model:
        raise ConfigError("synthesize.backend=hf needs synthesize.model: the id or folder of a chat model")


def make_stage(name: str, config: BuildConfig) -> Stage[Any, Any]:
    """Make a stage of the plan; workers on other machines call this with settings that came to them."""
    step = next(step for step in PLAN if step.name == name)
    return step.make_stage(Workspace(config.workspace), config)


def _executor(name: str, config: BuildConfig) -> Executor:
    if config.engine == "local":
        return LocalExecutor()
    from flows.cluster.executor import RayExecutor

    # Each worker decodes in processes of its own: not one per core of its machine, where other workers are as well.
    decoders = config.video.workers or 1
    url = config.workspace if "://" in config.workspace else str(Path(config.workspace).absolute())
    there: dict[str, Any] = {"workspace": url, "video": config.video.model_copy(update={"workers": decoders})}
    for section in ("features", "sampler", "caption"):
        settings = getattr(config, section)
        there[section] = settings.model_copy(update={"device": device_of_worker(settings.device)})
    make = partial(make_stage, name, config.model_copy(update=there))
    return RayExecutor(make, Workspace(url), config.ray, folder=Path.cwd(), decoders=decoders)


def run_step(name: str, workspace: Workspace, config: BuildConfig, on_progress: Progress | None = None) -> StageReport:
    """Run one stage of the plan; the caller holds the workspace's lock."""
    if name == EXPORT:
        return export_dataset(workspace, config.export, config.clips.files, on_progress=on_progress)
    step = next(step for step in PLAN if step.name == name)
    stage = step.make_stage(workspace, config)
    report = run_stage(
        stage,
        step.table(workspace),
        shard_rows=config.shard_rows,
        on_progress=on_progress,
        executor=_executor(name, config),
    )
    if name == "ingest" and not report.rows:
        raise DataError(_nothing_usable(workspace, config))
    return report


def train(config: BuildConfig, on_progress: Progress | None = None) -> tuple[Path, Mapping[str, Any]]:
    """Bring videos, clicks and features up to date and train the sampler on them.

    Returns:
        The sampler's folder, and what validation measured.

    Raises:
        DataError: if there are no normal or no abnormal videos to train on.
        SetupError: if the configuration or the environment is at fault.
    """
    from pipeline.sampler.training import ensure_sampler

    check_inputs(config)
    workspace = Workspace(config.workspace)
    with workspace.locked():
        for name in _UP_TO_FEATURES:
            run_step(name, workspace, config, on_progress)
        return ensure_sampler(workspace, config.sampler, on_progress, features=config.features)


def score(config: BuildConfig, on_progress: Progress | None = None) -> list[StageReport]:
    """Bring the videos' scores up to date and leave `run.json`, building nothing that follows from them.

    The sampler is that of `sampler.weights`, otherwise the workspace's own, trained where it is not up to date.

    Raises: as `train`.
    """
    check_inputs(config)
    workspace = Workspace(config.workspace)
    with workspace.locked():
        names = (*_UP_TO_FEATURES, "score")
        return _run_all(names, config, workspace, lambda name, space: run_step(name, space, config, on_progress))


def build(config: BuildConfig, on_progress: Progress | None = None) -> BuildSummary:
    """Run the whole plan in this process; a second run finds nothing to do.

    Raises:
        DataError: if no listed video is readable, or nothing is left to export.
        SetupError: if the configuration or the environment is at fault.
    """
    return run_steps(config, lambda name, workspace: run_step(name, workspace, config, on_progress))


def run_steps(
    config: BuildConfig,
    run: Callable[[str, Workspace], StageReport],
    on_end: Callable[[Sequence[StageReport]], None] | None = None,
    *,
    first: str | None = None,
) -> BuildSummary:
    """Call `run` for every stage of the plan under one lock, and leave `run.json` and the report page.

    `on_end` is given the reports of the stages that ended well, also where the next one failed. The stages before
    `first` are left as they are. Raises as `build`.
    """
    check_inputs(config)
    names = step_names(config)
    names = names[names.index(first) if first else 0 :]
    workspace = Workspace(config.workspace)
    with workspace.locked():
        reports = _run_all(names, config, workspace, run, on_end)
        page = write_build_report(workspace, reports, config.model_dump(mode="json"))
    return BuildSummary(
        workspace=config.workspace, dataset=workspace.dataset_folder, report=page, stages=tuple(reports)
    )


def _run_all(
    names: Sequence[str],
    config: BuildConfig,
    workspace: Workspace,
    run: Callable[[str, Workspace], StageReport],
    on_end: Callable[[Sequence[StageReport]], None] | None = None,
) -> list[StageReport]:
    """Call `run` for every stage and leave `run.json`; `on_end` is given the reports, also where a stage failed."""
    started_at = _now()
    reports: list[StageReport] = []
    try:
        for name in names:
            reports.append(run(name, workspace))  # noqa: PERF401 - kept when a stage fails
    finally:
        _write_run(workspace, config, reports, started_at, is_complete=len(reports) == len(names))
        if on_end is not None:
            on_end(reports)
    return reports


def _write_run(
    workspace: Workspace, config: BuildConfig, reports: Sequence[StageReport], started_at: str, *, is_complete: bool
) -> None:
    """Leave `run.json`: settings, versions and counts of the latest run, complete or not."""
    workspace.write_json(
        "run.json",
        {
            "engine": f"holmes-engine {pipeline.__version__}",
            "python": platform.python_version(),
            "folder": str(Path.cwd()),
            "started_at": started_at,
            "finished_at": _now(),
            "complete": is_complete,
            "config": config.model_dump(mode="json"),
            "stages": [asdict(report) for report in reports],
        },
    )


def read_run_config(workspace: Workspace, overrides: Sequence[str] = ()) -> tuple[BuildConfig, Path]:
    """Return the configuration of a workspace's latest run, and the folder that its relative paths start from.

    Raises:
        SetupError: if nothing was built there, or by a version of other settings.
    """
    run = workspace.read_json("run.json")
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        raise SetupError(f"{workspace.url}: no run.json of a build in it: not its workspace")
    values = run["config"]
    for override in overrides:
        apply_override(values, override)
    folder = Path(run.get("folder", ""))
    return parse_config(values, origin=workspace.storage.path("run.json")), folder if folder.is_dir() else Path()


def status(workspace: Workspace, config: BuildConfig) -> list[StageStatus]:
    """Tell of every stage what it holds and what a run would do, running nothing."""
    found: list[StageStatus] = []
    upstream_done = True
    for step in steps_of(config):
        table = step.table(workspace)
        to_do = pending_units(step.make_stage(workspace, config), table)[1] if upstream_done else None
        upstream_done = upstream_done and to_do == 0
        reasons = count_by(table.reasons())
        found.append(StageStatus(stage=step.name, rows=table.num_rows, rejected=reasons, to_do=to_do))
    to_do = int(pending_export(workspace, config.export, config.clips.files)) if upstream_done else None
    found.append(StageStatus(stage=EXPORT, rows=workspace.verdicts.num_rows, rejected={}, to_do=to_do))
    return found


def _nothing_usable(workspace: Workspace, config: BuildConfig) -> str:
    first = [f"{rejected.record_id}: {rejected.detail}" for rejected in workspace.videos.rejected()][:5]
    listed = ", ".join(config.videos)
    return "\n".join([f"{listed}: no readable video", *first])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
