"""synthesize: from clips and captions to `InstructionPair` rows, one per clip and task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import RecordError
from pipeline.models.base import Draft, Pays, Spending, SynthesisRequest, Synthesizer
from pipeline.questions import choose_question, questions_hash
from pipeline.records import InstructionPair, Task, digest, readable_id
from pipeline.schema import content_key
from pipeline.stages.base import Outcome, TableOnly, Unit, in_step, outcome_of
from pipeline.workspace import Workspace


class SynthesizeStage(TableOnly):
    """Ask the synthesizer for the answer to one question per clip and task."""

    name = "synthesize"
    record_type = InstructionPair

    def __init__(self, workspace: Workspace, synthesizer: Synthesizer, tasks: Sequence[Task], seed: int) -> None:
        self._workspace = workspace
        self._synthesizer = synthesizer
        self._tasks = tasks
        self._seed = seed

    def identity(self) -> Mapping[str, Any]:
        return {
            "code": 1,
            "questions": questions_hash(self._tasks),
            "synthesizer": self._synthesizer.name,
            **self._synthesizer.identity(),
        }

    def units(self) -> Iterator[Unit[SynthesisRequest]]:
        captions = self._workspace.captions.lookup("clip_id")
        for clip in self._workspace.clips.records():
            caption = captions.get(clip.clip_id)
            if caption is None:
                # The caption stage has said why there is none.
                continue
            content = digest(content_key(clip), content_key(caption))
            for task in self._tasks:
                request = SynthesisRequest(
                    clip=clip, caption=caption, task=task, question=choose_question(task, clip.clip_id, self._seed)
                )
                yield Unit(
                    key=digest(content, task.value), record_id=readable_id(clip.clip_id, task.value), payload=request
                )

    def sources(self) -> str:
        tables = (self._workspace.clips, self._workspace.captions)
        return digest([table.digest() for table in tables], list(self._tasks), self._seed)

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
