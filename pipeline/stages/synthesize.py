"""synthesize: from clips and captions to `InstructionPair` rows, one per clip and task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from pipeline.errors import RecordError
from pipeline.models.base import Draft, Pays, Spending, SynthesisRequest, Synthesizer, TimedEvent
from pipeline.questions import LEVEL_QUESTIONS, LEVEL_TASKS, QUESTIONS, choose_question, questions_hash
from pipeline.records import Caption, EventClip, InstructionPair, Level, Task, digest, readable_id
from pipeline.schema import content_key, from_arrow
from pipeline.stages.base import Outcome, TableOnly, Unit, in_step, outcome_of
from pipeline.stages.levels import events_within, spans_with_members
from pipeline.tables import Lookup
from pipeline.workspace import Workspace


class SynthesizeStage(TableOnly):
    """Ask the synthesizer for the answer to one question per clip and task."""

    name = "synthesize"
    record_type = InstructionPair

    def __init__(
        self,
        workspace: Workspace,
        synthesizer: Synthesizer,
        tasks: Sequence[Task],
        seed: int,
        *,
        levels: Iterable[Level] = (Level.CLIP,),
        gap_s: float = 0.0,
    ) -> None:
        self._workspace = workspace
        self._synthesizer = synthesizer
        self._tasks = tasks
        self._seed = seed
        self._levels = frozenset(levels)
        self._gap_s = gap_s

    def identity(self) -> Mapping[str, Any]:
        return {
            "code": 1,
            "questions": questions_hash(self._tasks),
            "synthesizer": self._synthesizer.name,
            **self._synthesizer.identity(),
        }

    def units(self) -> Iterator[Unit[SynthesisRequest]]:
        captions = self._workspace.all_captions.lookup("clip_id")
        events: dict[str, tuple[TimedEvent, ...]] = {}
        if self._levels - {Level.CLIP}:
            for span, members in spans_with_members(self._workspace, self._gap_s):
                events[span.clip_id] = events_within(span, members, self._gap_s)
        for clip in self._clips_with(captions):
            if clip.level not in self._levels:
                continue
            caption = captions.get(clip.clip_id)
            if caption is None:
                # The caption stage has said why there is none.
                continue
            content = digest(content_key(clip), content_key(caption))
            tasks, folder = self._tasks, QUESTIONS
            if clip.level is not Level.CLIP:
                tasks = [task for task in tasks if task in LEVEL_TASKS]
                folder = LEVEL_QUESTIONS
                content = digest(content, list(map(astuple, events[clip.clip_id])), questions_hash(tasks, folder))
            for task in tasks:
                question = choose_question(task, clip.clip_id, self._seed, folder)
                request = SynthesisRequest(
                    clip=clip, caption=caption, task=task, question=question, events=events.get(clip.clip_id, ())
                )
                yield Unit(
                    key=digest(content, task.value), record_id=readable_id(clip.clip_id, task.value), payload=request
                )

    def _clips_with(self, captions: Lookup[Caption]) -> Iterator[EventClip]:
        for batch in self._workspace.clips.batches():
            clips = list(from_arrow(EventClip, [batch]))
            captions.expect([clip.clip_id for clip in clips])
            yield from clips

    def sources(self) -> str:
        tables = (self._workspace.clips, self._workspace.captions, self._workspace.level_captions)
        questions = questions_hash([task for task in self._tasks if task in LEVEL_TASKS], LEVEL_QUESTIONS)
        levels = sorted(self._levels), self._gap_s, questions
        return digest([table.digest() for table in tables], list(self._tasks), self._seed, levels)

    def run(self, units: Iterable[Unit[SynthesisRequest]]) -> Iterator[Outcome[InstructionPair]]:
        for unit, draft in in_step(units, self._synthesizer.synthesize):
            result = draft if isinstance(draft, RecordError) else self._pair(unit, draft)
            yield outcome_of(unit.record_id, result)

    def spent(self) -> Spending | None:
        return self._synthesizer.spent() if isinstance(self._synthesizer, Pays) else None

    def _pair(self, unit: Unit[SynthesisRequest], draft: Draft) -> InstructionPair:
        request = unit.payload
        return InstructionPair(
            pair_id=unit.record_id,
            clip_id=request.clip.clip_id,
            task=request.task.value,
            question=request.question,
            answer=draft.answer,
            label=request.clip.label,
            llm=self._synthesizer.name,
            prompt_hash=draft.prompt_hash,
            raw_response=draft.raw_response,
        )
