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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config import FilterConfig
from pipeline.errors import RecordError
from pipeline.keys import hash_keys
from pipeline.models.base import Spending
from pipeline.models.chat.messages import Chat
from pipeline.models.chat.quality_judge import QualityJudge, Scores
from pipeline.quality.conflicts import find_conflicts
from pipeline.quality.crowding import find_crowded
from pipeline.quality.rules import check_answer, near_duplicates
from pipeline.quality.support import support_of
from pipeline.records import RULES, Caption, Decision, EventClip, InstructionPair, Reason, Verdict, digest
from pipeline.review.store import file_verdicts, reviews_digest, stored_verdicts
from pipeline.review.verdicts import decided_at
from pipeline.schema import content_key, from_arrow
from pipeline.stages.base import Outcome, TableOnly, Unit, fingerprint_of, hash_files
from pipeline.stages.pair_answers import PairAnswers
from pipeline.tables import Lookup, Table, to_parquet
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

_CROWDED = "tables/filter/_crowded/found.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pair with the caption that it was made from and a person's verdict, if there is one.

    `is_sound` tells that its answer, of which nobody has decided, was read: it keeps the rules, and nothing is doubted.
    """

    pair: InstructionPair
    caption: Caption
    verdict: Verdict | None
    clip_s: float
    crowd: RecordError | None
    is_sound: bool = False


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


_SOUND = _Reading(None)


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
        self._search: _CrowdSearch | None = None
        self._judge: QualityJudge | None = None
        if config.judge.backend == "openai":
            self._judge = QualityJudge(config.judge, workspace.journal_folder("filter"), config.conflicts.dropped())

    @functools.cached_property
    def _told(self) -> _Told:
        return _Told(self._workspace)

    def identity(self) -> Mapping[str, Any]:
        # The files of verdicts are no setting that decides: what they say of a pair is part of its unit's key.
        settings = self._config.model_dump(mode="json", exclude={"verdicts", "judge"})
        return {"code": 6, **settings, "judge": None if self._judge is None else self._judge.identity()}

    def spent(self) -> Spending | None:
        """Return what the judge has cost, None where there is none."""
        return None if self._judge is None else self._judge.spent()

    def units(self) -> Iterator[Unit[Sequence[Candidate] | BadVerdict]]:
        told = self._told
        verdicts, bad = self._read_verdicts(told.has_pair)
        if self._search is None:
            self._search = _CrowdSearch(self._workspace, self._config, fingerprint_of(self), told, verdicts)
        found = self._search.found()
        expected = told.pairs_of_videos()
        gathered: dict[str, list[Candidate]] = {}
        missing: dict[str, int] = {}
        for number, pair in enumerate(told.pairs()):
            clip, caption = told.clip_of(pair), told.caption_of(pair)
            video_id = clip.video_id
            group = gathered.setdefault(video_id, [])
            candidate = Candidate(
                pair=pair,
                caption=caption,
                verdict=verdicts.get(pair.pair_id),
                clip_s=clip.end_s - clip.start_s,
                crowd=found.fault_of(number),
                is_sound=self._search.is_sound(number),
            )
            group.append(candidate)
            missing[video_id] = (missing.get(video_id) or expected.of(video_id)) - 1
            # Handing a video on as soon as it is complete keeps memory flat: its pairs mostly stand together.
            if not missing[video_id]:
                del missing[video_id]
                yield _unit(video_id, gathered.pop(video_id))
        if gathered:
            raise RuntimeError(f"{len(gathered)} videos have fewer pairs than were counted, first {min(gathered)}")
        for item in bad:
            yield Unit(key=digest(item.place, item.fault.detail), record_id=item.place, payload=item)

    def sources(self) -> str | None:
        files = hash_files(self._config.verdicts)
        content = [table.digest() for table in _tables(self._workspace)]
        return files and digest(files, reviews_digest(self._workspace), content)

    def run(self, units: Iterable[Unit[Sequence[Candidate] | BadVerdict]]) -> Iterator[Outcome[Verdict]]:
        if self._search is not None:
            self._search.store()
        decided = (_Decided(unit.payload, self._decide(unit.payload)) for unit in units)
        if self._judge is None:
            yield from (item.outcome for item in decided)
        else:
            yield from self._judge.runner.run(decided, functools.partial(_ask, self._judge))

    def _decide(self, payload: Sequence[Candidate] | BadVerdict) -> Outcome[Verdict]:
        if isinstance(payload, BadVerdict):
            return Outcome(rejected=[(payload.place, payload.fault)])
        return judge(payload, self._config)

    def _read_verdicts(self, is_known: Callable[[str], bool]) -> tuple[dict[str, Verdict], list[BadVerdict]]:
        """Return the latest verdict about each pair, of equally late ones the last, and those that cannot be used."""
        latest: dict[str, Verdict] = {}
        bad = []
        given = file_verdicts(self._workspace, self._config.verdicts)
        for place, verdict in itertools.chain(given, stored_verdicts(self._workspace)):
            if isinstance(verdict, RecordError):
                bad.append(BadVerdict(place=place, fault=verdict))
            elif not is_known(verdict.pair_id):
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


def judge(candidates: Sequence[Candidate], config: FilterConfig) -> Outcome[Verdict]:
    """Decide about all pairs of one video."""
    kept: list[tuple[InstructionPair, Verdict]] = []
    rejected: list[tuple[str, RecordError]] = []
    for candidate in candidates:
        verdict, pair, doubt = candidate.verdict, candidate.pair, None
        if verdict is not None and verdict.decision == Decision.REJECT:
            fault: RecordError | None = RecordError(Reason.REVIEWER_REJECTED, f"rejected by {verdict.reviewer}")
        else:
            if verdict is not None and verdict.edited_answer is not None:
                pair = dataclasses.replace(pair, answer=verdict.edited_answer)
            reading = _SOUND
            if not candidate.is_sound:
                reading = _read(pair, candidate.caption, candidate.clip_s, config, is_decided=verdict is not None)
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


def _tables(workspace: Workspace) -> tuple[Table[Any], ...]:
    return workspace.pairs, workspace.captions, workspace.clips, *workspace.tables_of_levels


class _Told:
    """What the tables tell of the clips that pairs are about, found pair by pair in the order of their table."""

    def __init__(self, workspace: Workspace) -> None:
        self._pairs = workspace.pairs
        self._clip_table = workspace.clips
        self._clips = workspace.clips.lookup("clip_id")
        self._captions = workspace.all_captions.lookup("clip_id")

    def pairs(self) -> Iterator[InstructionPair]:
        """Yield all pairs; what is asked about them is at hand."""
        for batch in self._pairs.batches():
            pairs = list(from_arrow(InstructionPair, [batch]))
            self.expect(pairs)
            yield from pairs

    def expect(self, pairs: Sequence[InstructionPair]) -> None:
        """Have at hand what will be asked about some pairs."""
        clip_ids = list(dict.fromkeys(pair.clip_id for pair in pairs))
        self._clips.expect(clip_ids)
        self._captions.expect(clip_ids)

    def has_pair(self, pair_id: str) -> bool:
        return self._by_id.get(pair_id) is not None

    @functools.cached_property
    def _by_id(self) -> Lookup[InstructionPair]:
        # Without decisions of people nobody asks.
        return self._pairs.lookup("pair_id")

    @functools.cached_property
    def videos_of_pairs(self) -> NDArray[np.int64]:
        """A hash of the video of each pair."""
        videos = hash_keys(self._clip_table.values("video_id"))
        of_batches = [
            videos[self._clips.places.last(hash_keys(batch.column(0).to_pylist()))]
            for batch in self._pairs.batches(["clip_id"])
        ]
        return np.concatenate([*of_batches, np.empty(0, np.int64)])

    def pairs_of_videos(self) -> _Counts:
        """Count the pairs of each video."""
        return _Counts(*np.unique(self.videos_of_pairs, return_counts=True))

    def clip_of(self, pair: InstructionPair) -> EventClip:
        clip = self._clips.get(pair.clip_id)
        if clip is None:
            raise RuntimeError(f"{pair.pair_id}: its clip is gone; run the build again")
        return clip

    def caption_of(self, pair: InstructionPair) -> Caption:
        caption = self._captions.get(pair.clip_id)
        if caption is None:
            raise RuntimeError(f"{pair.pair_id}: its caption is gone; run the build again")
        return caption


@dataclass(frozen=True, slots=True)
class _Counts:
    hashes: NDArray[np.int64]
    counts: NDArray[np.int64]

    def of(self, key: str) -> int:
        return int(self.counts[np.searchsorted(self.hashes, hash(key))])


class _Crowded:
    """What was found crowded, asked for by the numbers of pairs."""

    def __init__(self, found: pa.Table) -> None:
        self.found = found
        self._numbers = found.column("number").to_numpy()

    def fault_of(self, number: int) -> RecordError | None:
        at = int(np.searchsorted(self._numbers, number))
        if at == len(self._numbers) or self._numbers[at] != number:
            return None
        reason, detail = (self.found.column(name)[at].as_py() for name in ("reason", "detail"))
        return RecordError(Reason(reason), detail)


class _CrowdSearch:
    """Looks once for crowded answers, or takes what an earlier run found in the very same ones."""

    def __init__(
        self, workspace: Workspace, config: FilterConfig, fingerprint: str, told: _Told, verdicts: Mapping[str, Verdict]
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._told = told
        # What people decided is kept, so the answers count as they are before people edit them.
        self._answers = PairAnswers(
            workspace, config.near_duplicate, decided=verdicts.keys(),
            videos=lambda: told.videos_of_pairs, expect=told.expect, keeps_rules=self._keeps_rules,
        )  # fmt: skip
        self._sound = np.zeros(workspace.pairs.num_rows, bool)
        self._made_from = digest(fingerprint, [table.digest() for table in _tables(workspace)], sorted(verdicts))

    @functools.cache  # noqa: B019 - as long-lived as the stage
    def found(self) -> _Crowded:
        stored = self._workspace.storage.read(_CROWDED)
        if stored is not None:
            found = pq.read_table(pa.BufferReader(stored), use_threads=False)
            if found.schema.metadata.get(b"made_from") == self._made_from.encode():
                return _Crowded(found)
        return _Crowded(find_crowded(self._answers, self._config))

    def is_sound(self, number: int) -> bool:
        """Tell whether the answer was read in the search, and nothing was said against it."""
        return bool(self._sound[number])

    def store(self) -> None:
        """Keep what was found for the next run."""
        self._answers.store_hashes()
        found = self.found().found.replace_schema_metadata({"made_from": self._made_from})
        self._workspace.storage.write(_CROWDED, to_parquet(found))

    def _keeps_rules(self, number: int, pair: InstructionPair) -> bool:
        clip = self._told.clip_of(pair)
        reading = _read(pair, self._told.caption_of(pair), clip.end_s - clip.start_s, self._config)
        self._sound[number] = reading == _SOUND
        return reading.fault is None
