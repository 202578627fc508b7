"""`holmes review`: the way of pairs to reviewers and back, the rows that are refused, and what a build makes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dataset_fixtures import _no_figures_unasked
from review_space import ITEMS, fill_review_space, pair_of
from typer.testing import CliRunner

from flows.cli import app
from flows.plan import build
from pipeline.config import BuildConfig, parse_config
from pipeline.dataset.layout import read_rows
from pipeline.dataset.validate import validate_dataset
from pipeline.errors import ConfigError, DataError, HolmesError, RecordError, SetupError
from pipeline.records import (
    NORMAL,
    Reason,
    ReviewItem,
    Verdict,
    digest,
)
from pipeline.review.items import ReviewItems, Selection, export_items, select_pairs
from pipeline.review.store import (
    ReviewImport,
    file_verdicts,
    keep_reviews,
    rows_of_files,
    stored_reviews,
    stored_verdicts,
)
from pipeline.schema import field_names
from pipeline.stages.base import to_rejected
from pipeline.workspace import Workspace

__all__ = ["_no_figures_unasked"]

Rows = list[dict[str, Any]]


@pytest.fixture
def space(workspace: Workspace) -> Workspace:
    """Eight pairs of four clips of two videos, of which the rules have dropped the last."""
    return fill_review_space(workspace)


def rows_of(path: Path) -> Rows:
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return pd.read_parquet(path).to_dict("records")


def write_rows(path: Path, rows: Rows) -> Path:
    if path.suffix == ".csv":
        # As a spreadsheet leaves it: byte order mark and the line ends of Windows.
        pd.DataFrame(rows).to_csv(path, index=False, encoding="utf-8-sig", lineterminator="\r\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


def exported(space: Workspace, path: Path, selection: Selection | None = None) -> Rows:
    export_items(space, selection or Selection(), path)
    return rows_of(path)


def imported(space: Workspace, *paths: Path) -> ReviewImport:
    return keep_reviews(space, rows_of_files(paths), ReviewItems(space).get)


@pytest.fixture
def review(space: Workspace, tmp_path: Path) -> Callable[..., ReviewImport]:
    """Import one row about the first pair, with the given values."""

    def import_row(**values: object) -> ReviewImport:
        item = ReviewItems(space).get("pair_0")
        assert item is not None
        row = {name: getattr(item, name) for name in field_names(ReviewItem)} | values
        return imported(space, write_rows(tmp_path / "row.jsonl", [row]))

    return import_row


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_items_go_out_in_order_and_come_back_as_verdicts(space: Workspace, tmp_path: Path, suffix: str) -> None:
    rows = exported(space, tmp_path / f"out{suffix}")
    assert tuple(rows[0]) == field_names(ReviewItem)
    # By video, place and task; pair_7 was dropped by the rules.
    assert [row["pair_id"] for row in rows] == [f"pair_{number}" for number in (0, 1, 4, 5, 2, 3, 6)]
    first = rows[0]
    assert (first["video_id"], first["clip_path"], first["label"]) == ("cam_0", "/footage/0.mp4", "Fighting")
    assert (first["answer"], first["answer_hash"]) == (pair_of(0).answer, digest(pair_of(0).answer))
    assert all(not row[name] or row[name] != row[name] for row in rows for name in ("decision", "edited_answer"))
    export_items(space, Selection(), tmp_path / f"again{suffix}")
    assert (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / f"out{suffix}").read_bytes()

    rows[0] |= {"decision": " Accept ", "reviewer": "ada", "reviewed_at": "2026-01-02T03:04:05Z", "rating": "4"}
    rows[1] |= {"decision": "reject", "reason": "too vague"}
    rows[2] |= {"decision": "edit", "edited_answer": "Yes, a person says so."}
    back = write_rows(tmp_path / f"back{suffix}", rows)
    done = imported(space, back)
    assert (done.added, done.known, done.undecided, done.faults) == (3, 0, 4, ())
    stored = [item for _, item in stored_reviews(space)]
    assert [(item.decision, item.reviewer, item.rating, item.reason) for item in stored] == [
        ("accept", "ada", 4, None), ("reject", "unknown", None, "too vague"), ("edit", "unknown", None, None),
    ]  # fmt: skip
    verdicts = [verdict for _, verdict in stored_verdicts(space)]
    assert verdicts[2] == Verdict(
        pair_id="pair_4", decision="edit", edited_answer="Yes, a person says so.", original_answer=pair_of(4).answer,
        reviewer="unknown", reviewed_at=None,
    )  # fmt: skip

    again = imported(space, back)
    assert (again.added, again.known) == (0, 3)
    assert [item for _, item in stored_reviews(space)] == stored
    left = exported(space, tmp_path / f"left{suffix}", Selection(only_undecided=True))
    assert [row["pair_id"] for row in left] == ["pair_5", "pair_2", "pair_3", "pair_6"]


def test_a_clip_with_a_file_of_its_own_is_shown_by_it(space: Workspace) -> None:
    space.storage.write(space.clip_file("clip_0"), b"")
    item = ReviewItems(space).get("pair_1")
    assert item is not None
    assert item.clip_path == space.storage.path("clips/clip_0.mp4")


def test_a_sample_is_drawn_by_seed_and_stays_while_it_is_worked_off(
    space: Workspace, review: Callable[..., ReviewImport]
) -> None:
    everything = select_pairs(space, Selection(unchecked=True))
    assert len(everything) == ITEMS
    samples = [select_pairs(space, Selection(sample_percent=30, seed=seed)) for seed in range(8)]
    assert {len(sample) for sample in samples} == {3}
    assert len({tuple(sample) for sample in samples}) > 1
    assert all(sample == [pair_id for pair_id in everything if pair_id in sample] for sample in samples)
    seed = next(seed for seed, sample in enumerate(samples) if "pair_0" in sample)
    review(decision="accept")
    left = select_pairs(space, Selection(sample_percent=30, seed=seed, only_undecided=True))
    assert left == [pair_id for pair_id in samples[seed] if pair_id != "pair_0"]


def test_what_files_of_verdicts_decided_is_not_asked_again(space: Workspace) -> None:
    by_ann = Verdict(
        pair_id="pair_7", decision="accept", edited_answer=None, original_answer=pair_of(7).answer, reviewer="ann",
        reviewed_at=None,
    )  # fmt: skip
    fault = RecordError(Reason.REVIEWER_REJECTED, "rejected by ann")
    space.verdicts.drop(["unit_0"])
    rejected = to_rejected("filter", "pair_0", fault)
    space.verdicts.commit(["a", "b"], [("a", by_ann)], [("b", rejected)], "f")
    everything = {f"pair_{number}" for number in range(ITEMS)}
    assert set(select_pairs(space, Selection())) == everything
    assert set(select_pairs(space, Selection(only_undecided=True))) == everything - {"pair_0", "pair_7"}


@pytest.mark.parametrize(
    ("values", "reason", "message"),
    [
        ({"pair_id": None}, Reason.MALFORMED_ROW, "no pair_id"),
        ({"pair_id": "nobody", "decision": "accept"}, Reason.MISSING_PAIR, "no pair nobody"),
        ({"decision": "maybe"}, Reason.MALFORMED_ROW, "'maybe' is none of accept, edit, reject"),
        ({"edited_answer": "Yes, new."}, Reason.MALFORMED_ROW, "an edited_answer without a decision"),
        ({"decision": "edit"}, Reason.MALFORMED_ROW, "changes nothing"),
        ({"decision": "edit", "edited_answer": pair_of(0).answer + " "}, Reason.MALFORMED_ROW, "changes nothing"),
        ({"decision": "accept", "answer": "Yes, new."}, Reason.MALFORMED_ROW, "answer was changed to 'Yes, new.'"),
        ({"decision": "accept", "edited_answer": "Yes, new."}, Reason.MALFORMED_ROW, "is it an edit?"),
        ({"decision": "accept", "answer_hash": None}, Reason.MALFORMED_ROW, "no answer_hash"),
        ({"decision": "accept", "answer_hash": "1f"}, Reason.STALE_ANSWER, "made anew since the export"),
        ({"decision": "accept", "reviewed_at": "yesterday"}, Reason.MALFORMED_ROW, "no ISO 8601 time"),
        ({"decision": "accept", "rating": 9}, Reason.MALFORMED_ROW, "rating='9' is no whole number from 1 to 5"),
        ({"decision": "edit", "edited_answer": "\ud800"}, Reason.MALFORMED_ROW, "no Unicode text"),
    ],
)
def test_a_wrong_row_is_named_and_not_kept(
    space: Workspace, review: Callable[..., ReviewImport], values: dict[str, object], reason: Reason, message: str
) -> None:
    done = review(**values)
    assert (done.added, [fault.reason for fault in done.faults]) == (0, [reason])
    assert "row.jsonl: row 1: " in done.faults[0].detail
    assert message in done.faults[0].detail
    assert list(stored_reviews(space)) == []


def test_the_latest_decision_counts_across_zones_and_files(
    space: Workspace, review: Callable[..., ReviewImport]
) -> None:
    review(decision="accept", reviewer="ada", reviewed_at="2026-01-02T10:00:00+02:00")
    assert review(decision="reject", reviewer="bob", reviewed_at="2026-01-02T09:00:00Z").outvoted == 0
    assert review(decision="accept", reviewer="cyd", reviewed_at="2026-01-02T08:30:00").outvoted == 1
    assert review(decision="accept", reviewer="dan").outvoted == 1


def test_without_times_the_last_import_counts_also_when_it_comes_back_to_an_earlier_one(
    space: Workspace, review: Callable[..., ReviewImport]
) -> None:
    assert [review(decision=decision).added for decision in ("accept", "reject", "accept", "accept")] == [1, 1, 1, 0]
    assert [item.decision for _, item in stored_reviews(space)] == ["accept", "reject", "accept"]


def test_a_review_of_an_answer_made_anew_is_told_until_the_new_one_is_reviewed(
    space: Workspace, review: Callable[..., ReviewImport]
) -> None:
    review(decision="accept", reviewer="ada")
    space.pairs.drop(["unit_0"])
    space.pairs.commit(["new"], [("new", pair_of(0, "Yes, made anew."))], [], "f")
    [(_, fault)] = stored_verdicts(space)
    assert isinstance(fault, RecordError)
    assert fault.reason is Reason.STALE_ANSWER
    assert "pair_0" in select_pairs(space, Selection(only_undecided=True))
    review(decision="reject")
    [(_, verdict)] = stored_verdicts(space)
    assert isinstance(verdict, Verdict)
    assert (verdict.decision, verdict.original_answer) == ("reject", "Yes, made anew.")


def test_the_command_lists_what_is_wrong_and_keeps_the_rest(space: Workspace, tmp_path: Path) -> None:
    rows = exported(space, tmp_path / "out.jsonl")
    rows[0]["decision"], rows[1]["decision"] = "accept", "perhaps"
    back = write_rows(tmp_path / "back.jsonl", rows)
    back.write_text("{not json\n" + back.read_text())
    done = CliRunner().invoke(app, ["review", "import", space.url, str(tmp_path / "gone.csv"), str(back)])
    assert done.exit_code == 1
    assert "gone.csv: cannot be read" in done.stderr
    assert "back.jsonl: row 1: not JSON" in done.stderr
    assert "back.jsonl: row 3: pair pair_1: decision='perhaps'" in done.stderr
    assert "1 decisions added (0 outvoted by later ones), 0 known before, 5 undecided, 3 faults" in done.stdout
    assert [item.pair_id for _, item in stored_reviews(space)] == ["pair_0"]


def test_export_never_writes_over_decisions_and_says_what_it_cannot(space: Workspace, tmp_path: Path) -> None:
    (tmp_path / "kept.csv").write_text("work")
    for name, selection, fault, message in (
        ("kept.csv", Selection(), SetupError, "may hold decisions"),
        ("a.xlsx", Selection(), ConfigError, "written as .csv, .jsonl, .parquet"),
        ("a.csv", Selection(sample_percent=101), ConfigError, "sample=101"),
    ):
        with pytest.raises(fault, match=message):
            export_items(space, selection, tmp_path / name)
    assert (tmp_path / "kept.csv").read_text() == "work"
    space.verdicts.drop([f"unit_{number}" for number in range(ITEMS)])
    with pytest.raises(DataError, match="none of 8 pairs has passed the rules"):
        export_items(space, Selection(), tmp_path / "a.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.csv", "workspace"]


def test_reviews_stored_before_they_were_timed_are_read(space: Workspace, review: Callable[..., ReviewImport]) -> None:
    review(decision="accept", lead_time_s="7.5")
    [name] = space.storage.list("reviews")
    path = space.storage.local_path(f"reviews/{name}")
    assert [item.lead_time_s for _, item in stored_reviews(space)] == [7.5]
    pd.read_parquet(path).drop(columns="lead_time_s").to_parquet(path)
    assert [(item.decision, item.lead_time_s) for _, item in stored_reviews(space)] == [("accept", None)]


def test_a_damaged_review_file_is_named(space: Workspace, review: Callable[..., ReviewImport]) -> None:
    review(decision="accept")
    [name] = space.storage.list("reviews")
    space.storage.write(f"reviews/{name}", b"no parquet")
    with pytest.raises(HolmesError, match=name):
        list(stored_reviews(space))


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory, film: Callable[[str], Path]) -> BuildConfig:
    home = tmp_path_factory.mktemp("built")
    (home / "videos").mkdir()
    lines = ["video_id,file,label"]
    for number, label in enumerate(("Fighting", NORMAL, "Explosion", NORMAL)):
        shutil.copy(film("h264.mp4"), home / f"videos/{number}.mp4")
        lines.append(f"cam_{number},videos/{number}.mp4,{label}")
    (home / "videos.csv").write_text("\n".join(lines))
    (home / "glances.csv").write_text("video-id,glance\ncam_0,10\ncam_2,30\n")
    config = parse_config(
        {
            "videos": [str(home / "videos.csv")],
            "glances": [str(home / "glances.csv")],
            "workspace": str(home / "w"),
            "clips": {"window_s": 3.0},
        }
    )
    build(config)
    return config


@pytest.fixture
def built(built_once: BuildConfig, tmp_path: Path) -> BuildConfig:
    """A copy of a build, to be changed."""
    shutil.copytree(built_once.workspace, tmp_path / "w")
    return built_once.model_copy(update={"workspace": str(tmp_path / "w")})


def test_a_build_takes_edits_and_rejections_and_remakes_only_those_videos(built: BuildConfig, tmp_path: Path) -> None:
    space = Workspace(built.workspace)
    rows = exported(space, tmp_path / "out.csv")
    of_one = [row for row in rows if row["video_id"] == "cam_0"]
    edit, reject = of_one[:2]
    accept = next(row for row in rows if row["video_id"] == "cam_1")
    edit |= {"decision": "edit", "edited_answer": "Yes, two persons have looked at this at length and agreed."}
    reject |= {"decision": "reject", "reviewer": "ada"}
    accept |= {"decision": "accept", "reviewer": "ada", "reviewed_at": "2026-01-02"}
    assert imported(space, write_rows(tmp_path / "back.csv", rows)).added == 3
    made = {report.stage: report.made for report in build(built).stages}
    assert {stage: count for stage, count in made.items() if count} == {"filter": 2, "export": len(rows) - 1}
    dataset = {row["id"]: row for row in read_rows(space.dataset_folder)}
    assert reject["pair_id"] not in dataset
    assert dataset[edit["pair_id"]]["answer"] == edit["edited_answer"]
    assert dataset[edit["pair_id"]]["verdict"] == "edit"
    assert dataset[accept["pair_id"]]["verdict"] == "accept"
    verdicts = {verdict.pair_id: verdict for verdict in space.verdicts.records()}
    assert verdicts[edit["pair_id"]].original_answer == edit["answer"]
    assert {verdict.reviewer for verdict in verdicts.values()} == {"rules", "unknown", "ada"}
    assert validate_dataset(Path(built.workspace)) == []
    assert len(select_pairs(space, Selection(only_undecided=True))) == len(rows) - 3
    assert set(select_pairs(space, Selection())) == {row["pair_id"] for row in rows}
    assert {report.made for report in build(built).stages} == {0}
    imported(space, tmp_path / "back.csv")
    assert {report.made for report in build(built).stages} == {0}


EXCEL_FORMS = {
    "semicolons": (";", "utf-8-sig"),
    "tabs": ("\t", "utf-16"),
    "Windows-1252": (";", "cp1252"),
}


@pytest.mark.parametrize("form", EXCEL_FORMS)
def test_a_table_that_a_spreadsheet_saved_is_read(space: Workspace, tmp_path: Path, form: str) -> None:
    rows = exported(space, tmp_path / "out.csv")
    rows[0] |= {"decision": "Accept ", "rating": "4,0", "lead_time_s": "12,5", "reviewed_at": "31.01.2026 9:30"}
    rows[1] |= {"decision": "edit", "edited_answer": "Yes, a für; a Schlägerei.", "reviewed_at": "1.2.2026"}
    rows[2] |= {"decision": "reject", "reviewed_at": "1/2/2026"}
    rows[3] |= {"decision": "accept", "reviewed_at": "2026/01/01 10:00"}
    delimiter, encoding = EXCEL_FORMS[form]
    path = tmp_path / "back.csv"
    pd.DataFrame(rows).to_csv(path, index=False, sep=delimiter, encoding=encoding, lineterminator="\r\n")
    done = imported(space, path)
    assert (done.added, done.undecided, len(done.faults)) == (3, len(rows) - 4, 1)
    assert "reviewed_at='1/2/2026' is no ISO 8601 time" in done.faults[0].detail
    stored = {review.pair_id: review for _, review in stored_reviews(space)}
    first, second = stored[rows[0]["pair_id"]], stored[rows[1]["pair_id"]]
    assert stored[rows[3]["pair_id"]].reviewed_at == "2026-01-01T10:00"
    assert (first.rating, first.lead_time_s, first.reviewed_at) == (4, 12.5, "2026-01-31T09:30")
    assert (second.edited_answer, second.reviewed_at) == ("Yes, a für; a Schlägerei.", "2026-02-01")


def test_a_row_with_a_cell_too_many_is_named_and_the_others_count(space: Workspace, tmp_path: Path) -> None:
    rows = exported(space, tmp_path / "out.csv")
    rows[0]["decision"] = rows[1]["decision"] = "accept"
    path = write_rows(tmp_path / "back.csv", rows[:2])
    path.write_text(path.read_text(encoding="utf-8") + "pair_1,a,b" + "," * 40 + "what\n", encoding="utf-8")
    done = imported(space, path)
    assert done.added == 2
    assert "row 3: more cells than the" in done.faults[0].detail


def test_verdicts_of_a_file_are_about_the_answer_that_was_reviewed(space: Workspace, tmp_path: Path) -> None:
    rows = exported(space, tmp_path / "out.csv")
    for row in rows[:3]:
        row["decision"] = "Reject"
    path = write_rows(tmp_path / "back.csv", rows)
    assert [verdict.decision for _, verdict in file_verdicts(space, [str(path)])] == ["reject"] * 3  # type: ignore[union-attr]
    anew = rows[0]["pair_id"]
    number = int(anew.removeprefix("pair_"))
    space.pairs.drop([f"unit_{number}"])
    space.pairs.commit(["anew"], [("anew", pair_of(number, "Yes, the answer was made anew."))], [], "f")
    said = dict(file_verdicts(space, [str(path)]))
    faults = [fault for fault in said.values() if isinstance(fault, RecordError)]
    assert [fault.reason for fault in faults] == [Reason.STALE_ANSWER]
    assert f"the answer of {anew} was made anew since it was reviewed" in faults[0].detail
    assert len(said) == 3


def test_a_verdict_by_its_text_or_by_nothing(
    space: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"pair_id": "pair_0", "decision": "reject", "original_answer": pair_of(0).answer.replace("\n", "\r\n")},
        {"pair_id": "pair_1", "decision": "reject", "original_answer": "Yes, another answer."},
        {"pair_id": "pair_2", "decision": "reject", "original_answer": ""},
    ]
    path = write_rows(tmp_path / "v.jsonl", rows)
    said = [verdict for _, verdict in file_verdicts(space, [str(path)])]
    assert [isinstance(one, RecordError) and one.reason for one in said] == [False, Reason.STALE_ANSWER, False]
    assert "1 verdict(s) do not say which answer they are about" in caplog.text


@pytest.mark.parametrize(
    ("change", "reason", "way"),
    [
        ({"synthesize": {"seed": 5}}, Reason.STALE_ANSWER, "file"),
        ({"caption": {"backend": "human"}}, Reason.STALE_ANSWER, "import"),
        ({"clips": {"window_s": 2.0}}, Reason.MISSING_PAIR, "file"),
    ],
    ids=["answers", "captions", "clips"],
)
def test_no_decision_about_another_text_is_ever_applied(
    built: BuildConfig, tmp_path: Path, change: dict[str, dict[str, Any]], reason: Reason, way: str
) -> None:
    space = Workspace(built.workspace)
    said = "".join(f"cam_{n},0,4,One thing crosses the square number {n} without any haste.\n" for n in range(4))
    (tmp_path / "said.csv").write_text("video_id,start_s,end_s,sentence\n" + said)
    rows = exported(space, tmp_path / "out.csv")
    for number, row in enumerate(rows):
        row |= {"decision": "edit", "edited_answer": f"{row['answer']} People looked at this, number {number}."}
    path = write_rows(tmp_path / "back.csv", rows)
    settings: dict[str, Any] = built.model_dump(mode="json")
    if way == "import":
        assert imported(space, path).added == len(rows)
    else:
        settings["filter"]["verdicts"] = [str(path)]
    build(parse_config(settings))
    assert {verdict.decision for verdict in space.verdicts.records()} == {"edit"}
    for section, values in change.items():
        settings[section] |= values
    settings["caption"]["files"] = [str(tmp_path / "said.csv")]
    build(parse_config(settings))
    now = {pair.pair_id: pair.answer for pair in space.pairs.records()}
    kept = {row["pair_id"] for row in rows if now.get(row["pair_id"]) == row["answer"]}
    assert len(kept) < len(rows)
    dataset = {row["id"]: row["answer"] for row in read_rows(space.dataset_folder)}
    assert dataset
    assert {name for name, answer in dataset.items() if "People looked at this" in answer} == kept & dataset.keys()
    told = [rejected.reason for rejected in space.verdicts.rejected() if rejected.reason == reason]
    assert len(told) == len(rows) - len(kept)
