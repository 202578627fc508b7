"""`holmes eval answers` from end to end: tables, JSON, files, comparison, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline.dataset.layout import schema, shard_name
from pipeline.errors import DataError, HolmesError, SetupError

ROWS = [
    ("p0", "Fighting", "judge_explain", "Yes, the video shows a fight. This is abnormal because people are hurt."),
    ("p1", "Fighting", "description", "Two men fight near a car."),
    ("p2", "Normal", "judge_explain", "No, people walk by. This is normal because nobody is hurt."),
    ("p3", "Arson", "judge_explain", "Yes, the video shows a fire. This is abnormal because things burn."),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [
        {
            "id": name, "video": {"bytes": None, "path": f"../clips/{name}.mp4"}, "source_video": "cam", "start_s": 0.0,
            "end_s": 2.0, "label": label, "is_anomaly": label != "Normal", "task": task, "question": "Anything?",
            "answer": answer, "messages": [], "verdict": "accept",
        }
        for name, label, task, answer in ROWS
    ]  # fmt: skip
    folder = tmp_path / "ws/dataset"
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema()), folder / "data" / shard_name("test", 0, 1))
    return folder


def predict(path: Path, answers: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"id": name, "prediction": text}) + "\n" for name, text in answers.items()))
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["eval", "answers", *map(str, arguments)])
    if done.exception is not None:
        assert isinstance(done.exception, HolmesError), done.output
        raise done.exception
    return done.stdout


GOOD = {name: answer for name, _, _, answer in ROWS}


def test_table_and_files(dataset: Path, tmp_path: Path) -> None:
    given = predict(tmp_path / "p.jsonl", GOOD | {"p2": "Yes, a fight.", "p3": "Flames."})
    table = run("--predictions", given, "--dataset", dataset, "--out", tmp_path / "out")
    assert "all                            3       1           1    0.3333" in table
    assert "always the larger class" in table
    assert table.count("  right answers about others  ") == 2
    assert "METEOR: exact and stem matches, no synonyms (NLTK)" in table
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["judgement"]["overall"]["correct"] == 1
    with (tmp_path / "out/answers.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert [(rows[name]["expected"], rows[name]["verdict"], rows[name]["correct"]) for name in GOOD] == [
        ("abnormal", "abnormal", "yes"), ("", "", ""), ("normal", "abnormal", "no"), ("abnormal", "unreadable", "no"),
    ]  # fmt: skip
    assert rows["p3"]["prediction"] == "Flames."
    assert rows["p3"]["reference"] == GOOD["p3"]


def test_what_answers_tell_is_held_against_the_labels(dataset: Path, tmp_path: Path) -> None:
    told = {
        "p0": GOOD["p0"],
        "p2": "Yes, the video shows a fight. The video shows everyday activity.",
        "p3": "Yes, two men fight.",
    }
    given = predict(tmp_path / "p.jsonl", GOOD | told)
    lines = run("--predictions", given, "--dataset", dataset, "--no-text", "--out", tmp_path / "out").splitlines()
    found = json.loads((tmp_path / "out/metrics.json").read_text())["explanation"]
    assert found["num"] == 3
    shares = {key: (found[key]["right"], found[key]["num"]) for key in (
        "explanations", "verdicts", "events", "contradictions", "unseen_claims", "invented",
    )}  # fmt: skip
    assert shares == {
        "explanations": (1, 3), "verdicts": (2, 3), "events": (1, 3), "contradictions": (1, 3), "unseen_claims": (2, 3),
        "invented": (1, 1),
    }  # fmt: skip
    assert 0 < found["explanations"]["low"] < 1 / 3 < found["explanations"]["high"] < 1
    assert found["confusion"] == {"Arson": {"violence": 1}, "Fighting": {"violence": 1}, "Normal": {"violence": 1}}
    assert [(one["id"], one["answer"]) for one in found["worst"]] == [("p2", told["p2"]), ("p3", told["p3"])]
    assert "true explanations                  3       1    0.3333   0.0615 to 0.7923" in lines
    assert lines[lines.index("the worst answers") + 1].startswith("p2: Normal; the verdict is abnormal, the video is")
    assert lines[lines.index("the worst answers") + 2] == f"  {told['p2']}"
    with (tmp_path / "out/answers.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert [(rows[name]["claimed"], rows[name]["explanation"]) for name in GOOD] == [
        ("violence", "true"), ("", ""), ("violence", "false"), ("violence", "false"),
    ]  # fmt: skip
    assert rows["p3"]["faults"] == "it tells of violence: 'fight'; it does not tell of fire setting"


def test_json_is_one_object(dataset: Path, tmp_path: Path) -> None:
    given = predict(tmp_path / "p.jsonl", GOOD)
    found = json.loads(run("--predictions", given, "--dataset", dataset.parent, "--json"))
    assert found["judgement"]["overall"]["accuracy"] == 1.0
    assert found["judgement"]["per_class"].keys() == {"Arson", "Fighting", "Normal"}
    assert [(group["level"], group["task"]) for group in found["groups"]] == [
        ("clip", None), ("clip", "description"), ("clip", "judge_explain"),
    ]  # fmt: skip
    assert found["groups"][2]["text"]["bleu"] == pytest.approx(4.0)
    assert found["groups"][2]["text"]["cider"] == pytest.approx(10.0)
    assert 0 < found["groups"][2]["text_by_chance"]["bleu"] < 3
    assert found["groups"][1]["text_by_chance"] is None
    assert found["judge"] is None


def test_judgements_alone(dataset: Path, tmp_path: Path) -> None:
    found = json.loads(
        run("--predictions", predict(tmp_path / "p.jsonl", GOOD), "--dataset", dataset, "--no-text", "--json")
    )
    assert all(group["text"] is None for group in found["groups"])


def test_runs_side_by_side(dataset: Path, tmp_path: Path) -> None:
    answers = {
        "training-free": dict.fromkeys(GOOD, "A man walks."),
        "projector only": GOOD | {"p0": "No, nothing."},
        "projector + LoRA": GOOD,
    }
    named = []
    for name, given in answers.items():
        file = predict(tmp_path / "p.jsonl", given)
        run("--predictions", file, "--dataset", dataset, "--out", tmp_path / name)
        named.append(f"{name}={tmp_path / name / 'metrics.json'}")
    lines = run("--compare", *named).splitlines()
    assert lines[1].split()[-4:-3] + lines[2].split()[-4:-3] + lines[3].split()[-4:-3] == ["0.0000", "0.6667", "1.0000"]
    assert lines[3].startswith("projector + LoRA")
    fighting = next(line for line in lines if line.startswith("Fighting"))
    assert fighting.split() == ["Fighting", "1", "0.0000", "0.0000", "1.0000"]
    assert lines[lines.index(next(line for line in lines if line.startswith("true explanations"))) + 3].split() == [
        "projector", "+", "LoRA", "3", "2", "0.6667", "0.2077", "to", "0.9385",
    ]  # fmt: skip
    assert any(line.startswith("texts, clip") for line in lines)
    assert json.loads(run("--compare", *named, "--json")).keys() == answers.keys()


def test_runs_on_other_references_are_not_compared(dataset: Path, tmp_path: Path) -> None:
    run("--predictions", predict(tmp_path / "p.jsonl", GOOD), "--dataset", dataset, "--out", tmp_path / "a")
    part = predict(tmp_path / "q.jsonl", {"p0": "Yes."})
    run("--predictions", part, "--dataset", dataset, "--allow-missing", "--out", tmp_path / "b")
    with pytest.raises(DataError, match="cannot be compared, their references differ"):
        run("--compare", f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(DataError, match=r"c\.json: not the metrics"):
        run("--compare", f"c={tmp_path / 'c.json'}")
    changed = json.loads((tmp_path / "a/metrics.json").read_text())
    for group in changed["groups"]:
        assert group["text"] is not None
        group["text"]["meteor_variant"] = "java"
    (tmp_path / "java.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="their METEOR differ: a: stem, java: java"):
        run("--compare", f"a={tmp_path / 'a'}", f"java={tmp_path / 'java.json'}")
    run("--predictions", tmp_path / "p.jsonl", "--dataset", dataset, "--no-text", "--out", tmp_path / "d")
    assert "texts, clip" in run("--compare", f"a={tmp_path / 'a'}", f"d={tmp_path / 'd'}")
    with pytest.raises(DataError, match="two runs have one name"):
        run("--compare", f"a={tmp_path / 'a'}", f"a={tmp_path / 'a'}")


def test_missing_and_unknown_predictions(dataset: Path, tmp_path: Path) -> None:
    part = predict(tmp_path / "p.jsonl", {"p0": "Yes."})
    with pytest.raises(DataError, match="3 of 4 references have no prediction: 'p1', 'p2', 'p3'; --allow-missing"):
        run("--predictions", part, "--dataset", dataset)
    found = json.loads(run("--predictions", part, "--dataset", dataset, "--allow-missing", "--json"))
    assert (found["num"], found["missing"]) == (1, 3)
    with pytest.raises(DataError, match="1 of 5 predictions belong to no reference: 'zz'"):
        run("--predictions", predict(tmp_path / "p.jsonl", GOOD | {"zz": "No."}), "--dataset", dataset)


def test_splits(dataset: Path, tmp_path: Path) -> None:
    given = predict(tmp_path / "p.jsonl", GOOD)
    with pytest.raises(DataError, match="the split 'validation' is empty"):
        run("--predictions", given, "--dataset", dataset, "--split", "validation")
    with pytest.raises(DataError, match="split 'dev' is none of train, validation, test"):
        run("--predictions", given, "--dataset", dataset, "--split", "dev")
    with pytest.raises(DataError, match="neither a dataset"):
        run("--predictions", given, "--dataset", tmp_path)


def test_calls_that_say_too_little_or_too_much(dataset: Path, tmp_path: Path) -> None:
    given = predict(tmp_path / "p.jsonl", GOOD)
    for arguments, message in (
        (["--dataset", dataset], "name the answers"),
        (["--predictions", given], "either --dataset FOLDER or --references FILE"),
        (["--predictions", given, "--dataset", dataset, "--references", given], "either --dataset"),
        (["--compare"], "--compare needs runs"),
        (["a=b.json", "--predictions", given], "with --compare alone"),
    ):
        with pytest.raises(SetupError, match=message):
            run(*arguments)


def test_hivau_references(tmp_path: Path) -> None:
    row = {
        "id": 3, "type": "event", "task": "judgement", "video": "x.mp4", "prompt": "?", "anwser": "No anomaly exists.",
    }  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    given = predict(tmp_path / "p.jsonl", {"3": "No, calm."})
    found = json.loads(run("--predictions", given, "--references", tmp_path / "test.jsonl", "--json"))
    assert found["groups"][0]["level"] == "event"
    assert found["judgement"]["overall"]["accuracy"] == 1.0
    assert found["published"] == {}


def test_answers_about_the_papers_footage_stand_above_the_published_rows(tmp_path: Path) -> None:
    row = {
        "id": 3, "type": "event", "task": "judgement", "video": "events/Abuse028_x264_E0.mp4", "prompt": "?",
        "anwser": "No anomaly exists.",
    }  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    given = predict(tmp_path / "p.jsonl", {"3": "No, calm."})
    told = run("--predictions", given, "--references", tmp_path / "test.jsonl")
    assert "judgement, accuracy of the verdict in % (published on 86 clips)" in told
    lines = [line.split() for line in told.splitlines()]
    assert ["here", "100.0", "1", "answers"] in lines
    assert ["Holmes-VAD,", "projector", "and", "LoRA", "86.0", "arXiv", "2406.12235"] in lines
    event = lines.index(["event"])
    assert lines[event + 1][0] == "here"
    assert lines[event + 2][:3] == ["Holmes-VAU", "0.804", "1.519"]
