"""Question pools: ten and more for each task, drawn by hash, evenly, whatever else is in the run."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import SetupError
from pipeline.questions import LEVEL_QUESTIONS, LEVEL_TASKS, QUESTIONS, choose_question, load_questions, questions_hash
from pipeline.records import Task


@pytest.mark.parametrize(
    ("task", "folder"),
    [*((task, QUESTIONS) for task in Task), *((task, LEVEL_QUESTIONS) for task in sorted(LEVEL_TASKS))],
)
def test_every_task_has_ten_questions_worded_differently(task: Task, folder: Path) -> None:
    pool = load_questions(task, folder)
    assert len(pool) >= 10
    openings = Counter(" ".join(question.split()[:2]).lower() for question in pool)
    assert max(openings.values()) <= 2
    for question in pool:
        assert question[0].isupper()
        assert question[-1] in ".?"
        assert "<" not in question


def test_there_is_no_pool_without_a_task() -> None:
    assert {path.stem for path in QUESTIONS.glob("*")} == set(Task)
    assert {path.stem for path in LEVEL_QUESTIONS.glob("*")} == LEVEL_TASKS


def test_the_choice_depends_on_key_seed_and_task_alone() -> None:
    keys = [f"clip{i}" for i in range(300)]
    chosen = {key: choose_question(Task.JUDGE_EXPLAIN, key, 0) for key in keys}
    assert {key: choose_question(Task.JUDGE_EXPLAIN, key, 0) for key in reversed(keys[::7])}.items() <= chosen.items()
    assert any(choose_question(Task.JUDGE_EXPLAIN, key, 1) != chosen[key] for key in keys)
    # pinned, so that no other machine or version draws differently
    assert choose_question(Task.CAPTION, "a", 0) == load_questions(Task.CAPTION)[7]


@pytest.mark.parametrize("task", list(Task))
def test_the_choice_is_even(task: Task) -> None:
    n = 6000
    counts = Counter(choose_question(task, f"clip{i}", 0) for i in range(n))
    expected = n / len(load_questions(task))
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert len(counts) == len(load_questions(task))
    assert chi_square < 40  # 13 degrees of freedom at most: p < 0.001


def test_the_hash_follows_the_pools_of_the_tasks_used(monkeypatch: pytest.MonkeyPatch) -> None:
    both = questions_hash([Task.CAPTION, Task.ANALYSIS])
    assert both == questions_hash([Task.ANALYSIS, Task.CAPTION])
    assert both != questions_hash([Task.CAPTION])
    monkeypatch.setattr("pipeline.questions.load_questions", lambda task, folder: ("Why?",))
    assert both != questions_hash([Task.CAPTION, Task.ANALYSIS])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("task: caption\nquestions: []", "at least 1"),
        ("task: caption\nquestions: ['Why?', 'why?']", "twice"),
        ("task: analysis\nquestions: ['Why?']", "of task analysis, not of caption"),
        ("task: capshun\nquestions: ['Why?']", "task"),
        ("task: caption\nquestions: ['  ']", "at least 1"),
        ("[", "not a pool"),
        ("task: caption\nquestions: [3]", "string"),
    ],
)
def test_a_malformed_pool_is_named_with_its_fault(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "caption.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SetupError, match=said) as caught:
        load_questions(Task.CAPTION, tmp_path)
    assert str(tmp_path / "caption.yaml") in str(caught.value)
