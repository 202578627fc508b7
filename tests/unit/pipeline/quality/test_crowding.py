"""What is said too often over all videos, and how much of an answer its caption supports."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.config import FilterConfig
from pipeline.errors import RecordError
from pipeline.keys import hash_keys
from pipeline.quality import crowding
from pipeline.quality.answer_hashes import hash_answers, shingles_of
from pipeline.quality.support import support_of
from pipeline.records import NORMAL, Caption, EventClip, InstructionPair, Reason, Record, Task
from pipeline.stages import filter as filter_stage
from pipeline.stages import pair_answers
from pipeline.stages.filter import Candidate, FilterStage, judge
from pipeline.stages.run import run_stage
from pipeline.tables import Table
from pipeline.workspace import Workspace

WORDS = "car van bus cart dog man woman child guard clerk door wall road shop gate lamp bench stair leaves".split(" ")  # noqa: SIM905


def pair(
    number: int, answer: str, *, question: str = "", task: Task = Task.DESCRIPTION, label: str = NORMAL
) -> InstructionPair:
    return InstructionPair(
        pair_id=f"p{number:04d}", clip_id=f"c{number}", task=task, question=question or f"What is seen? ({number})",
        answer=answer, label=label, llm="x", prompt_hash="0" * 32, raw_response="",
    )  # fmt: skip


def find_crowded(
    pairs: list[InstructionPair],
    config: FilterConfig,
    *,
    keeps_rules: Callable[[InstructionPair], bool] = lambda _: True,
    video_of: Callable[[InstructionPair], str] = lambda pair: pair.clip_id,
) -> dict[str, RecordError]:
    """Look over pairs that keep the rules, each of a video of its own, unless told otherwise."""
    found = crowding.find_crowded(InMemory(pairs, config, keeps_rules, video_of), config)
    return {
        pairs[row["number"]].pair_id: RecordError(Reason(row["reason"]), row["detail"]) for row in found.to_pylist()
    }


@dataclass
class InMemory:
    """Pairs as the search asks for them."""

    given: list[InstructionPair]
    config: FilterConfig
    keeps: Callable[[InstructionPair], bool]
    video_of: Callable[[InstructionPair], str]

    def hashes(self) -> pa.Table:
        columns = ([getattr(one, name) for one in self.given] for name in ("task", "question", "answer"))
        return hash_answers(*columns, self.config.near_duplicate)

    def counted(self) -> NDArray[np.bool_]:
        return np.ones(len(self.given), bool)

    def videos(self) -> NDArray[np.int64]:
        return hash_keys(map(self.video_of, self.given))

    def pairs(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, InstructionPair]]:
        assert (np.diff(numbers) > 0).all()
        return ((number, self.given[number]) for number in numbers.tolist())

    def keeps_rules(self, number: int, pair: InstructionPair) -> bool:
        assert self.given[number] == pair
        return self.keeps(pair)


def own_answer(number: int) -> str:
    rng = random.Random(number)
    return " ".join(rng.choice(WORDS) for _ in range(30))


def test_copies_are_dropped_beyond_a_number_and_near_copies_count() -> None:
    same = "A man in a red coat walks slowly along the wall of the shop, stops at the door and looks in for a while."
    copies = [pair(n, same if n % 2 else same.replace("while", "moment")) for n in range(8)]
    others = [pair(100 + n, own_answer(n)) for n in range(30)]
    config = FilterConfig(max_copies=4, near_duplicate=0.8)
    found = find_crowded(copies + others, config)
    assert sorted(found) == ["p0004", "p0005", "p0006", "p0007"]
    assert {fault.reason for fault in found.values()} == {Reason.NEAR_DUPLICATE}
    assert "max_copies=4" in found["p0004"].detail
    shuffled = random.Random(1).sample(copies + others, len(copies) + len(others))
    assert find_crowded(shuffled, config).keys() == found.keys()
    assert not find_crowded(copies + others, FilterConfig(max_copies=20))


@pytest.mark.parametrize("max_copies", [1, 3, 5])
def test_a_wrong_answer_takes_no_place_from_a_right_one(max_copies: int) -> None:
    pairs = [pair(n, own_answer(0)) for n in range(12)]
    wrong = {f"p{n:04d}" for n in (0, 1, 3, 4, 7)}
    asked: list[str] = []

    def keeps_rules(one: InstructionPair) -> bool:
        asked.append(one.pair_id)
        return one.pair_id not in wrong

    config = FilterConfig(max_copies=max_copies)
    found = find_crowded(pairs, config, keeps_rules=keeps_rules)
    right = [one for one in pairs if one.pair_id not in wrong]
    assert [one.pair_id for one in right if one.pair_id not in found] == [one.pair_id for one in right[:max_copies]]
    assert found.keys() - wrong == find_crowded(right, config).keys()
    # each is asked once, and none where no place is short
    assert len(asked) == len(set(asked))
    asked.clear()
    assert not find_crowded(pairs, FilterConfig(max_copies=12), keeps_rules=keeps_rules)
    assert asked == []


def test_what_repeats_its_own_video_takes_no_place_from_another_video() -> None:
    pairs = [pair(n, own_answer(0)) for n in range(6)]
    found = find_crowded(pairs, FilterConfig(max_copies=3), video_of=lambda one: "v" if one.pair_id < "p0004" else "w")
    assert set(found) == {"p0001", "p0002", "p0003", "p0005"}
    assert found["p0001"].detail == "1.00 similar to p0000, the limit is 0.9"


def test_shares_are_those_of_the_answers_that_keep_the_rules() -> None:
    pairs = [pair(n, own_answer(n), question="Anything odd?" if n < 30 else "") for n in range(60)]
    config = FilterConfig(share_from=20, max_question_share=0.5)
    assert not find_crowded(pairs, config)
    # 30 of 40 are too many where 20 of the others break a rule, and 10 of 40 are not where 20 of the first ones do
    found = find_crowded(pairs, config, keeps_rules=lambda one: one.pair_id < "p0040")
    assert len(found) == 10
    assert "in 30 of 40 pairs" in next(iter(found.values())).detail
    assert not find_crowded(pairs, config, keeps_rules=lambda one: one.pair_id >= "p0020")
    assert not find_crowded(pairs, config, keeps_rules=lambda one: one.pair_id < "p0019")


def one_pass(
    pairs: list[InstructionPair],
    config: FilterConfig,
    keeps_rules: Callable[[InstructionPair], bool],
    video_of: Callable[[InstructionPair], str],
) -> dict[str, str]:
    """Return the near-copies that one pass over an index of all answers to a task finds."""
    from datasketch import MinHash, MinHashLSH

    faults = {}
    for task in {one.task for one in pairs}:
        index = MinHashLSH(threshold=min(config.near_duplicate, 0.95), num_perm=64)
        kept: dict[str, tuple[InstructionPair, set[int]]] = {}
        for one in sorted((one for one in pairs if one.task == task), key=lambda one: one.pair_id):
            shingles = set(shingles_of(one.answer).tolist())
            signature = MinHash(num_perm=64, hashfunc=int)
            signature.update_batch(shingles)
            likeness = {other: len(shingles & kept[other][1]) / len(shingles | kept[other][1])
                        for other in index.query(signature)}  # fmt: skip
            near = {other for other, share in likeness.items() if share >= config.near_duplicate}
            beside = {other for other in near if video_of(kept[other][0]) == video_of(one)}
            if beside or len(near) >= config.max_copies:
                for other in [other for other in near if not keeps_rules(kept[other][0])]:
                    index.remove(other)
                    near.discard(other)
                    del kept[other]
            if beside := beside & near:
                faults[one.pair_id] = f"similar to {min(beside)}"
            elif len(near) >= config.max_copies:
                faults[one.pair_id] = f"{len(near)} answers say the same, one of them {min(near)}"
            else:
                kept[one.pair_id] = one, shingles
                index.insert(one.pair_id, signature)
    return faults


@pytest.mark.parametrize("seed", range(6))
def test_decisions_are_those_of_one_pass_over_all_answers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # groups are worked on a few at a time
    monkeypatch.setattr(crowding, "_ANSWERS_AT_ONCE", 40)
    rng = random.Random(seed)
    pairs = []
    for number in range(300):
        words = own_answer(rng.choice([number, rng.randrange(12), 0])).split()
        for _ in range(rng.choice([0, 0, 1, 2])):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        pairs.append(pair(number, " ".join(words), task=rng.choice([Task.DESCRIPTION, Task.ANALYSIS])))
    rng.shuffle(pairs)
    config = FilterConfig(near_duplicate=rng.choice([0.5, 0.7, 0.9]), max_copies=rng.choice([1, 3, 8]))
    video_of = {one.pair_id: f"v{rng.randrange(100)}" for one in pairs}
    wrong = {one.pair_id for one in pairs if rng.random() < 0.2}
    told = (lambda one: one.pair_id not in wrong), (lambda one: video_of[one.pair_id])
    expected = one_pass(pairs, config, *told)
    found = find_crowded(pairs, config, keeps_rules=told[0], video_of=told[1])
    assert len(expected) > 20
    assert found.keys() == expected.keys()
    assert all(expected[pair_id] in found[pair_id].detail for pair_id in found)


def test_copies_of_another_task_do_not_count() -> None:
    pairs = [pair(n, own_answer(0), task=Task.DESCRIPTION if n % 2 else Task.ANALYSIS) for n in range(4)]
    assert not find_crowded(pairs, FilterConfig(max_copies=2))


def test_a_question_that_dominates_is_thinned_to_its_share() -> None:
    pairs = [pair(n, own_answer(n), question="Anything odd?" if n < 30 else "") for n in range(40)]
    found = find_crowded(pairs, FilterConfig(share_from=40, max_question_share=0.5))
    assert len(found) == 10
    assert {fault.reason for fault in found.values()} == {Reason.CROWDED_QUESTION}
    assert "in 30 of 40 pairs" in next(iter(found.values())).detail
    assert not find_crowded(pairs, FilterConfig(share_from=41, max_question_share=0.5))


def test_openings_count_without_the_look_that_all_answers_have() -> None:
    openings = ["Yes, the video shows one can see that", "No, one can see that", "Yes, the video shows"]
    pairs = [pair(n, f"{openings[n % 3]} {own_answer(n)}", task=Task.JUDGE_EXPLAIN) for n in range(60)]
    found = find_crowded(pairs, FilterConfig(share_from=10, max_opening_share=0.5))
    assert {fault.reason for fault in found.values()} == {Reason.CROWDED_OPENING}
    assert len(found) == 10
    assert all("'one can see that' in 40 of 60" in fault.detail for fault in found.values())


def test_the_filter_stores_support_and_drops_what_has_too_little_or_stands_too_often() -> None:
    good = pair(1, "A guard opens the gate and a van drives into the yard.")
    invented = pair(2, "Penguins juggle burning torches beneath enormous rainbows.")
    often = pair(3, "A guard opens the gate and a van leaves the yard again.")
    crowd = RecordError(Reason.CROWDED_QUESTION, "too often")
    candidates = [
        Candidate(
            pair=said, verdict=None, clip_s=5.0, crowd=crowd if said is often else None,
            caption=Caption(
                clip_id=said.clip_id, text="A guard opens a gate for a van.", captioner="x", prompt_hash=None
            ),
        )
        for said in (good, invented, often)
    ]  # fmt: skip
    outcome = judge(candidates, FilterConfig(min_support=0.3))
    assert [(row.pair_id, row.support is not None and row.support > 0.5) for row in outcome.rows] == [("p0001", True)]
    assert {pair_id: fault.reason for pair_id, fault in outcome.rejected} == {
        "p0002": Reason.UNSUPPORTED, "p0003": Reason.CROWDED_QUESTION,
    }  # fmt: skip
    assert {row.pair_id for row in judge(candidates, FilterConfig()).rows} == {"p0001", "p0002"}


def fill_with_copies(workspace: Workspace, endings: dict[int, str]) -> None:
    """Fill the tables with one sentence about each of several videos, and what follows it."""
    same = "A guard opens the gate and a van drives slowly into the yard of the shop by the road."
    pairs: list[Record] = [pair(number, f"{same} {ending}") for number, ending in endings.items()]
    clips: list[Record] = [
        EventClip(
            clip_id=f"c{number}", video_id=f"v{number}", start_s=0.0, end_s=5.0, start_frame=0, end_frame=50,
            glance_time_s=None, label=NORMAL, anomaly_score=None, method="random",
        )
        for number in range(3)
    ]  # fmt: skip
    captions: list[Record] = [
        Caption(clip_id=f"c{number}", text=same, captioner="x", prompt_hash=None) for number in range(3)
    ]
    for table, rows in ((workspace.clips, clips), (workspace.captions, captions), (workspace.pairs, pairs)):
        cast("Table[Any]", table).commit(["u0", "u1", "u2"], list(zip(["u0", "u1", "u2"], rows, strict=True)), [], "f")


def test_the_stage_counts_copies_over_all_videos(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_with_copies(workspace, dict.fromkeys(range(3), ""))
    run_stage(FilterStage(workspace, FilterConfig(max_copies=3)), workspace.verdicts)
    assert workspace.verdicts.num_rows == 3
    run_stage(FilterStage(workspace, FilterConfig(max_copies=2)), workspace.verdicts)
    assert [(row.record_id, row.reason) for row in workspace.verdicts.rejected()] == [("p0002", Reason.NEAR_DUPLICATE)]
    with monkeypatch.context() as patch:
        # the same answers are not looked over again
        patch.setattr(filter_stage, "find_crowded", None)
        report = run_stage(FilterStage(workspace, FilterConfig(max_copies=2)), workspace.verdicts)
        workspace.storage.remove("tables/filter/_complete.json")
        report = run_stage(FilterStage(workspace, FilterConfig(max_copies=2)), workspace.verdicts)
    assert report.made == 0


def test_answers_are_hashed_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_with_copies(workspace, dict.fromkeys(range(3), ""))
    hashed: list[int] = []
    hash_them = pair_answers.hash_answers
    monkeypatch.setattr(
        pair_answers, "hash_answers", lambda tasks, *rest: hashed.append(len(tasks)) or hash_them(tasks, *rest)
    )
    run_stage(FilterStage(workspace, FilterConfig(max_copies=3)), workspace.verdicts)
    assert hashed == [3]
    same = next(iter(workspace.pairs.records())).answer
    added = dataclasses.replace(pair(0, same), pair_id="p0000a")
    workspace.pairs.commit(["u9"], [("u9", added)], [], "f")
    run_stage(FilterStage(workspace, FilterConfig(max_copies=3)), workspace.verdicts)
    assert hashed == [3, 1]
    # of one video it repeats the other answer to the same clip, in whichever shard that stands
    assert [row.record_id for row in workspace.verdicts.rejected()] == ["p0000a"]
    before = workspace.storage.list("tables/filter/_hashes")
    workspace.pairs.drop(["u9"])
    run_stage(FilterStage(workspace, FilterConfig(max_copies=3)), workspace.verdicts)
    assert len(before) == 2
    assert workspace.storage.list("tables/filter/_hashes") == before[:1]
    assert hashed == [3, 1]


def test_the_stage_counts_only_what_keeps_the_rules(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_with_copies(workspace, {0: "Something abnormal happens at the gate of the yard.", 1: "", 2: ""})
    checked = []
    check = filter_stage.check_answer
    monkeypatch.setattr(
        filter_stage, "check_answer", lambda pair, *rest: checked.append(pair.pair_id) or check(pair, *rest)
    )
    run_stage(FilterStage(workspace, FilterConfig(max_copies=1, near_duplicate=0.6)), workspace.verdicts)
    assert [row.pair_id for row in workspace.verdicts.records()] == ["p0001"]
    rejected = {row.record_id: row.reason for row in workspace.verdicts.rejected()}
    assert rejected == {"p0000": Reason.WRONG_VERDICT, "p0002": Reason.NEAR_DUPLICATE}
    assert sorted(checked) == ["p0000", "p0001", "p0002"]


@pytest.mark.parametrize(
    ("answer", "low", "high"),
    [
        ("Yes, the video shows a man who punches another man in a parking lot. Fighting is abnormal.", 0.8, 1.0),
        ("Yes, a man is punching another. This is abnormal because violence endangers people.", 0.4, 0.8),
        ("Yes, a truck explodes on the highway and thick smoke hides a bridge.", 0.0, 0.2),
        ("Yes.", 1.0, 1.0),
    ],
)
def test_support_tells_what_the_caption_says_from_what_it_does_not(answer: str, low: float, high: float) -> None:
    caption = Caption(
        clip_id="c1", text="Two men in a parking lot: one man punches the other.", captioner="x", prompt_hash=None
    )
    said = pair(1, answer, question="Is anything abnormal here?", label="Fighting")
    assert low <= support_of(said, caption) <= high
