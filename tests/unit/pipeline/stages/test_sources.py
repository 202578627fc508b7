"""What lets a stage be skipped changes with all that its units follow from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from annotation.stage import GlancesStage
from pipeline.config import ClipsConfig, FilterConfig, GlancesConfig, SynthesizeConfig, VideoConfig
from pipeline.models.human import HumanCaptioner, HumanFirst, TimedSentence
from pipeline.models.template import TemplateSynthesizer
from pipeline.records import Caption, Level, Task
from pipeline.sources.catalogue import Catalogue
from pipeline.stages.caption import CaptionStage
from pipeline.stages.clips import ClipsStage
from pipeline.stages.filter import FilterStage
from pipeline.stages.levels import LevelsStage
from pipeline.stages.synthesize import SynthesizeStage
from pipeline.workspace import Workspace

LEVELS = (Level.CLIP, Level.EVENT)


def told(text: str) -> HumanCaptioner:
    return HumanCaptioner({"cam00": [TimedSentence(1.0, 3.0, text)]})


def level_caption(clip_id: str = "event") -> Caption:
    return Caption(clip_id=clip_id, text="Two people fight.", captioner="motion", prompt_hash=None)


def template() -> TemplateSynthesizer:
    return TemplateSynthesizer(SynthesizeConfig())


STAGES: dict[str, Callable[[Workspace], Any]] = {
    "clips": lambda space: ClipsStage(space, ClipsConfig(), VideoConfig()),
    "levels": lambda space: LevelsStage(space, 5.0),
    "synthesize": lambda space: SynthesizeStage(space, template(), [Task.DESCRIPTION], 1, levels=LEVELS),
    "filter": lambda space: FilterStage(space, FilterConfig()),
    "caption": lambda space: CaptionStage(space, told("a")),
}


@pytest.mark.parametrize(
    ("stage", "tables"),
    [
        ("clips", ["videos", "glances", "splits", "scores"]),
        ("caption", ["videos", "clips"]),
        ("levels", ["clips", "captions"]),
        ("synthesize", ["clips", "captions", "level_captions"]),
        ("filter", ["pairs", "clips", "captions", "level_captions"]),
    ],
)
def test_a_table_that_a_stage_reads_is_among_its_sources(fill: Any, stage: str, tables: Iterable[str]) -> None:
    space = fill()
    seen = {STAGES[stage](space).sources()}
    for name in tables:
        table = getattr(space, name)
        table.commit([f"no rows {name}"], [], [], "f" * 16)
        seen.add(STAGES[stage](space).sources())
    assert None not in seen
    assert len(seen) == 1 + len(list(tables))
    assert STAGES[stage](space).sources() in seen


def test_settings_that_decide_units_are_among_the_sources(fill: Any) -> None:
    space = fill()
    synthesizer, tasks = template(), [Task.DESCRIPTION]
    people = (None, told("a"), told("b"))
    assert len({LevelsStage(space, gap_s, human).sources() for gap_s in (1, 2) for human in people}) == 6
    chosen = [(levels, gap_s) for levels in (LEVELS, (Level.CLIP,)) for gap_s in (1, 2)]
    made = (SynthesizeStage(space, synthesizer, tasks, 1, levels=levels, gap_s=gap_s) for levels, gap_s in chosen)
    assert len({stage.sources() for stage in made}) == 4
    clips = [ClipsConfig(), ClipsConfig(splits=["train"])]
    assert len({ClipsStage(space, config, VideoConfig()).sources() for config in clips}) == 2


def test_a_captioner_that_cannot_tell_its_evidence_is_asked_about_every_clip(fill: Any) -> None:
    space = fill()
    silent = cast(Any, SimpleNamespace(name="silent", evidence_of=lambda _: None))
    assert CaptionStage(space, HumanFirst(told("a"), silent)).sources() is None
    found = {CaptionStage(space, HumanFirst(told(text), told(other))).sources() for text in "ab" for other in "ab"}
    assert len(found) == 4


def test_clicks_that_official_lists_decide_about_are_gone_through(fill: Any, tmp_path: Path) -> None:
    space, file = fill(), tmp_path / "clicks.csv"
    file.write_text("video,time_s\ncam00,1\n")

    def sources(catalogue: Catalogue | None = None) -> str | None:
        return GlancesStage(space, [str(file)], GlancesConfig(), VideoConfig(), catalogue).sources()

    before = sources()
    assert before is not None
    file.write_text("video,time_s\ncam00,2\n")
    assert sources() not in {before, None}
    listed = cast(Any, SimpleNamespace(name="official", description=SimpleNamespace(glances=())))
    assert sources(Catalogue((listed,), ())) is None


def test_captions_of_levels_stand_beside_those_of_clips(fill: Any) -> None:
    space = fill()
    space.level_captions.commit(["new"], [("new", level_caption())], [], "f" * 16)
    lookup = space.all_captions.lookup("clip_id")
    assert lookup.get("event") == level_caption()
    first = next(space.captions.records())
    assert lookup.get(first.clip_id) == first
    assert list(space.all_captions.values("clip_id"))[-1] == "event"
