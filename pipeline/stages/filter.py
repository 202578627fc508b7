"""filter: rule checks and human verdicts decide which instruction pairs go into the dataset.

A person's edit comes first, then the rules read the answer as it would stand in the dataset. Where nobody has decided,
conflicts of label, caption and answer come next. Then what others say counts: near-copies over all videos, and
near-duplicates within one last. What is left a language model may judge. Every pair that is dropped leaves a reason.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipeline.config import FilterConfig
from pipeline.errors import RecordError
from pipeline.models.base import Spending
from pipeline.models.chat.messages import Chat
from pipeline.models.chat.quality_judge import QualityJudge, Scores
from pipeline.quality.conflicts import find_conflicts
from pipeline.quality.crowding import find_crowded
from pipeline.quality.rules import check_answer, near_duplicates
from pipeline.quality.support import support_of
from pipeline.records import RULES, Caption, Decision, InstructionPair, Reason, Verdict, digest
from pipeline.review.store import file_verdicts, stored_verdicts
from pipeline.review.verdicts import decided_at
from pipeline.schema import content_key
from pipeline.stages.base import Outcome, TableOnly, Unit, fingerprint_of
from pipeline.tables import Table
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

_CROWDED = "tables/filter/_crowded.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pair with the caption that it was made from and a person's verdict, if there is one."""

    pair: InstructionPair
    caption: Caption
    verdict: Verdict | None
    clip_s: float
    crowd: RecordError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadVerdict:
    """A verdict that cannot be used, and where it stands."""

    place: str
    fault: RecordError


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the rules say of one answer: why it is dropped, or the conflict for which it is doubted although kept."""

    fault: RecordError | None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class _Decided:
    """What a unit holds, and what rules and people decided about it."""

    payload: Sequence[Candidate] | BadVerdict
    outcome: Outcome[Verdict]


class FilterStage(TableOnly):
    """Judge all pairs of a video together, since near-duplicates are looked for among them."""

    name = "filter"
    record_type = Verdict

    def __init__(self, workspace: Workspace, config: FilterConfig) -> None:
        self._workspace = workspace
        self._config = config
        self._crowded: dict[str, RecordError] | None = None
        self._crowded_from = ""
        self._readings: dict[str, _Reading] = {}
        self._judge: QualityJudge | None = None
        if config.judge.backend == "openai":
            self._judge = QualityJudge(config.judge, workspace.journal_folder("filter"), config.conflicts.dropped())

    def identity(self) -> Mapping[str, Any]:
        # The files of verdicts are no setting that decides: what they say of a pair is part of its unit's key.
        settings = self._config.model_dump(mode="json", exclude={"verdicts", "judge"})
        return {"code": 6, **settings, "judge": None if self._judge is None else self._judge.identity()}

    def spent(self) -> Spending | None:
        """Return what the judge has cost, None where there is none."""
        return None if self._judge is None else self._judge.spent()

    def units(self) -> Iterator[Unit[Sequence[Candidate] | BadVerdict]]:
        pairs = self._workspace.pairs
        clip_ids = pairs.arrow(["clip_id"]).column("clip_id").to_pylist()
        clips = _clips(self._workspace)
        expected = Counter(clips[clip_id][0] for clip_id in clip_ids)
        verdicts, bad = self._read_verdicts(set(pairs.arrow(["pair_id"]).column("pair_id").to_pylist()))
        captions = self._workspace.all_captions.lookup("clip_id")

        def caption_of(pair: InstructionPair) -> Caption:
            caption = captions.get(pair.clip_id)
            if caption is None:
                raise RuntimeError(f"{pair.pair_id}: its caption is gone; run the build again")
            return caption

        def keeps_rules(pair: InstructionPair) -> bool:
            reading = _read(pair, caption_of(pair), clips[pair.clip_id][1], self._config)
            self._readings[pair.pair_id] = reading
            return reading.fault is None

        if self._crowded is None:
            self._crowded = self._stored_crowded(verdicts)
        if self._crowded is None:
            # What people decided is kept, so the answers count as they are before people edit them.
            self._crowded = find_crowded(
                (pair for pair in pairs.records() if pair.pair_id not in verdicts),
                self._config,
                keeps_rules=keeps_rules,
                video_of=lambda pair: clips[pair.clip_id][0],
            )
        gathered: dict[str, list[Candidate]] = {}
        for pair in pairs.records():
            video_id, clip_s = clips[pair.clip_id]
            caption = caption_of(pair)
            group = gathered.setdefault(video_id, [])
            verdict = verdicts.get(pair.pair_id)
            crowd = self._crowded.get(pair.pair_id)
            group.append(Candidate(pair=pair, caption=caption, verdict=verdict, clip_s=clip_s, crowd=crowd))
            # Handing a video on as soon as it is complete keeps memory flat: its pairs mostly stand together.
            if len(group) == expected[video_id]:
                yield _unit(video_id, gathered.pop(video_id))
        for item in bad:
            yield Unit(key=digest(item.place, item.fault.detail), record_id=item.place, payload=item)

    def run(self, units: Iterable[Unit[Sequence[Candidate] | BadVerdict]]) -> Iterator[Outcome[Verdict]]:
        crowded = {pair_id: [fault.reason, fault.detail] for pair_id, fault in (self._crowded or {}).items()}
        self._workspace.write_json(_CROWDED, {"made_from": self._crowded_from, "crowded": crowded})
        decided = (_Decided(unit.payload, self._decide(unit.payload)) for unit in units)
        if self._judge is None:
            yield from (item.outcome for item in decided)
        else:
            yield from self._judge.runner.run(decided, functools.partial(_ask, self._judge))

    def _decide(self, payload: Sequence[Candidate] | BadVerdict) -> Outcome[Verdict]:
        if isinstance(payload, BadVerdict):
            return Outcome(rejected=[(payload.place, payload.fault)])
        return judge(payload, self._config, self._readings)

    def _stored_crowded(self, verdicts: Mapping[str, Verdict]) -> dict[str, RecordError] | None:
        """Return what an earlier run found in the very same answers, None where there was none."""
        space = self._workspace
        tables: list[Table[Any]] = [space.pairs, space.captions, space.clips, *space.tables_of_levels]
        self._crowded_from = digest(fingerprint_of(self), [table.digest() for table in tables], sorted(verdicts))
        stored = self._workspace.read_json(_CROWDED)
        if not isinstance(stored, dict) or stored.get("made_from") != self._crowded_from:
            return None
        return {pair_id: RecordError(Reason(reason), detail) for pair_id, (reason, detail) in stored["crowded"].items()}

    def _read_verdicts(self, known: set[str]) -> tuple[dict[str, Verdict], list[BadVerdict]]:
        """Return the latest verdict about each pair, of equally late ones the last, and those that cannot be used."""
        latest: dict[str, Verdict] = {}
        bad = []
        given = file_verdicts(self._workspace, self._config.verdicts)
        for place, verdict in itertools.chain(given, stored_verdicts(self._workspace)):
            if isinstance(verdict, RecordError):
                bad.append(BadVerdict(place=place, fault=verdict))
            elif verdict.pair_id not in known:
                fault = RecordError(Reason.MISSING_PAIR, f"{place}: no pair {verdict.pair_id} in this build")
                bad.append(BadVerdict(place=place, fault=fault))
            else:
                before = latest.get(verdict.pair_id)
                if before is None or decided_at(verdict.reviewed_at) >= decided_at(before.reviewed_at):
                    latest[verdict.pair_id] = verdict
        return latest, bad


async def _ask(quality: QualityJudge, chat: Chat, decided: _Decided) -> Outcome[Verdict]:
    """Have a model score what the rules accepted; what people accepted or edited stands."""
    if isinstance(decided.payload, BadVerdict):
        return decided.outcome
    of = {candidate.pair.pair_id: candidate for candidate in decided.payload}
    accepted = [of[row.pair_id] for row in decided.outcome.rows if row.reviewer == RULES]
    answers = await asyncio.gather(*(quality.score(chat, item.pair, item.caption) for item in accepted))
    scores = dict(zip((item.pair.pair_id for item in accepted), answers, strict=True))
    rows, rejected = [], list(decided.outcome.rejected)
    for row in decided.outcome.rows:
        score = scores.get(row.pair_id)
        if isinstance(score, RecordError):
            rejected.append((row.pair_id, score))
        else:
            rows.append(row if score is None else _scored(row, score))
    return Outcome(rows=rows, rejected=rejected)


def _scored(row: Verdict, scores: Scores) -> Verdict:
    conflict = row.conflict if scores.conflict == "none" else scores.conflict
    return dataclasses.replace(row, judge_score=float(scores.lowest), conflict=conflict)


def judge(
    candidates: Sequence[Candidate],
    config: FilterConfig,
    known: Mapping[str, _Reading] = MappingProxyType({}),
) -> Outcome[Verdict]:
    """Decide about all pairs of one video; `known` are readings of some that have no verdict."""
    kept: list[tuple[InstructionPair, Verdict]] = []
    rejected: list[tuple[str, RecordError]] = []
    for candidate in candidates:
        verdict, pair, doubt = candidate.verdict, candidate.pair, None
        if verdict is not None and verdict.decision == Decision.REJECT:
            fault: RecordError | None = RecordError(Reason.REVIEWER_REJECTED, f"rejected by {verdict.reviewer}")
        else:
            if verdict is not None and verdict.edited_answer is not None:
                pair = dataclasses.replace(pair, answer=verdict.edited_answer)
            reading = known.get(pair.pair_id) or _read(
                pair, candidate.caption, candidate.clip_s, config, is_decided=verdict is not None
            )
            fault, doubt = reading.fault or candidate.crowd, reading.doubt
        if fault is not None:
            rejected.append((pair.pair_id, fault))
            continue
        if verdict is not None:
            verdict = dataclasses.replace(verdict, original_answer=candidate.pair.answer)
        support = round(support_of(pair, candidate.caption), 4)
        kept.append((pair, dataclasses.replace(verdict or _accepted(pair), support=support, conflict=doubt)))
    duplicates = near_duplicates([pair for pair, _ in kept], config)
    rejected.extend(duplicates.items())
    rows = [verdict for pair, verdict in kept if pair.pair_id not in duplicates]
    return Outcome(rows=rows, rejected=rejected)


def _read(
    pair: InstructionPair, caption: Caption, clip_s: float, config: FilterConfig, *, is_decided: bool = False
) -> _Reading:
    """Read an answer on its own, whatever others say; of a decided one no conflict is asked."""
    if fault := check_answer(pair, caption, config, clip_s):
        return _Reading(fault)
    conflicts: list[RecordError] = []
    if not is_decided:
        told = {"caption": caption.text, "captioner": caption.captioner, "answer": pair.answer}
        conflicts = list(find_conflicts(label=pair.label, **told))
    dropped = config.conflicts.dropped()
    if fault := next((conflict for conflict in conflicts if conflict.reason in dropped), None):
        return _Reading(fault)
    if config.min_support and (support := support_of(pair, caption)) < config.min_support:
        detail = f"{support:.2f} of its content words stand in caption, label or question"
        return _Reading(RecordError(Reason.UNSUPPORTED, f"{detail}; min_support={config.min_support}"))
    return _Reading(None, conflicts[0].reason.value if conflicts else None)


def _accepted(pair: InstructionPair) -> Verdict:
    return Verdict(
        pair_id=pair.pair_id,
        decision=Decision.ACCEPT.value,
        edited_answer=None,
        original_answer=None,
        reviewer=RULES,
        reviewed_at=None,
    )


def _unit(video_id: str, candidates: list[Candidate]) -> Unit[Sequence[Candidate] | BadVerdict]:
    # In a fixed order, so that a resumed build and an undisturbed one find the same duplicates.
    candidates.sort(key=lambda candidate: candidate.pair.pair_id)
    contents = [
        (
            content_key(c.pair), content_key(c.caption), c.clip_s, c.verdict and content_key(c.verdict),
            c.crowd and c.crowd.reason,
        )
        for c in candidates
    ]  # fmt: skip
    return Unit(key=digest(contents), record_id=video_id, payload=candidates)


def _clips(workspace: Workspace) -> dict[str, tuple[str, float]]:
    """Return video id and length in seconds of every clip."""
    table = workspace.clips.arrow(["clip_id", "video_id", "start_s", "end_s"])
    columns: list[list[Any]] = [table.column(name).to_pylist() for name in ("clip_id", "video_id", "start_s", "end_s")]
    return {clip_id: (video_id, end_s - start_s) for clip_id, video_id, start_s, end_s in zip(*columns, strict=True)}
