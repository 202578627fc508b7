"""A video model answers questions that differ from clip to clip; what it said is kept, and said once."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline.config import LoraConfig, VideoConfig
from pipeline.errors import DataError, HolmesError, RecordError, SetupError
from pipeline.evaluate.answers_file import answer_questions
from pipeline.models.answering import VideoQuestion
from pipeline.models.clip_files import ClipJob, read_file_clip
from pipeline.models.hf import answerer as hf_answerer
from pipeline.models.hf import model as hf_model
from pipeline.models.hf.adapter import AdapterFacts
from pipeline.models.hf.answerer import AnswerSettings, HfAnswerer
from pipeline.models.hf.chat import VideoChat
from pipeline.models.hf.model import VideoModel, find_source, load_weights
from pipeline.models.hf.model_parts import probe_weights
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import Message
from pipeline.records import Reason
from pipeline.train.adapter import insert_lora, save_adapter

QUESTIONS = ("Is anything abnormal?", "Describe in many words what can be seen from left to right.", "What moves?")

Film = Callable[[str], Path]


def ask(film: Path, number: int, span_s: tuple[float, float] | None = None) -> VideoQuestion:
    return VideoQuestion(id=f"q{number}", question=QUESTIONS[number % len(QUESTIONS)], path=film, span_s=span_s)


def answerer(model: str, **settings: Any) -> HfAnswerer:
    given = {"num_frames": 4, "max_new_tokens": 6, "device": "cpu", "video": VideoConfig(workers=1), **settings}
    return HfAnswerer(AnswerSettings(model_path=model, **given))


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_a_batch_of_questions_is_answered_as_each_of_them_alone(
    family: str, film: Film, video_model: Callable[[str], str]
) -> None:
    path, model = film("h264.mp4"), video_model(family)
    questions = [ask(path, number, (number * 0.5, number * 0.5 + 2)) for number in range(5)]
    together = list(answerer(model).answer(questions))
    assert [question for question, _ in together] == questions
    alone = [answer for _, answer in answerer(model, batch_size=1).answer(questions)]
    assert [answer for _, answer in together] == alone
    assert len(set(alone)) > 1


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_a_clip_is_decoded_and_seen_once_for_all_its_questions(
    family: str, film: Film, video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read, seen = film("h264.mp4"), hf_answerer.read_ahead, Counter[str]()

    def counting(items: Any, *rest: Any) -> Any:
        for asked, clip in read(items, *rest):
            seen["decoded"] += 1
            yield asked, clip

    def watched(*given: Any) -> Any:
        model, *rest = load(*given)
        [tower] = {module for name, module in model.named_modules() if name in ("model.visual", "model.vision_tower")}
        tower.register_forward_hook(lambda _, args, out: seen.update(seen=1))
        return model, *rest

    load = hf_model.load_weights
    monkeypatch.setattr(hf_answerer, "read_ahead", counting)
    monkeypatch.setattr(hf_model, "load_weights", watched)
    questions = [ask(path, number, (0.0, 2.0)) for number in range(3)] + [ask(path, 0, (1.0, 3.0))]
    together = [answer for _, answer in answerer(video_model(family)).answer(questions)]
    assert (seen["decoded"], seen["seen"]) == (2, 1), "one batch of two clips"
    odds = [found for _, found in answerer(video_model(family)).odds(questions)]
    assert (seen["decoded"], seen["seen"]) == (4, 3)
    alone = [answerer(video_model(family), batch_size=1) for _ in questions]
    assert together == [
        answer for one, asked in zip(alone, questions, strict=True) for _, answer in one.answer([asked])
    ]
    apart = [found for one, asked in zip(alone, questions, strict=True) for _, found in one.odds([asked])]
    assert np.allclose(odds, apart, rtol=1e-4)


def test_the_question_is_what_the_model_is_asked(film: Film, video_model: Callable[[str], str]) -> None:
    path, model = film("h264.mp4"), video_model("llava_onevision")
    one_prompt = VideoModel(find_source(model), "cpu", (), Generation(max_new_tokens=6))
    questions = [ask(path, 0), ask(path, 1, (1.0, 2.0)), ask(path, 2)]
    for question, answer in answerer(model).answer(questions):
        job = ClipJob(
            file=path, content=None, span_s=question.span_s, num_frames=4, max_side=448, reader="auto"
        )  # fmt: skip
        turns = (Message(role="user", content=question.question),)
        assert one_prompt.answer([replace(read_file_clip(job), turns=turns)]) == [answer]


def test_a_fault_stays_with_its_question(film: Film, video_model: Callable[[str], str], tmp_path: Path) -> None:
    path = film("h264.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    questions = [
        ask(tmp_path / "broken.mp4", 0),
        ask(path, 1),
        ask(path, 2, (60.0, 61.0)),
        ask(tmp_path / "gone.mp4", 3),
    ]
    outcomes = [answer for _, answer in answerer(video_model("llava_onevision")).answer(questions)]
    assert isinstance(outcomes[1], str)
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, RecordError)]
    assert reasons == [Reason.NOT_A_VIDEO, Reason.FRAME_OUT_OF_RANGE, Reason.FILE_MISSING]


def test_no_questions_load_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert list(answerer(str(tmp_path / "empty")).answer([])) == []


class Canned:
    """Answers with the id; `ends_after` answers it is killed."""

    name = "canned"

    def __init__(self, version: int = 1, ends_after: int = 1000, fails: tuple[str, ...] = ()) -> None:
        self.asked: list[str] = []
        self._version = version
        self._ends_after = ends_after
        self._fails = fails

    def identity(self) -> Mapping[str, object]:
        return {"version": self._version}

    def answer(self, questions: Iterable[VideoQuestion]) -> Iterator[tuple[VideoQuestion, str | RecordError]]:
        for number, question in enumerate(questions):
            if number == self._ends_after:
                raise KeyboardInterrupt
            self.asked.append(question.id)
            if question.id in self._fails:
                yield question, RecordError(Reason.FILE_MISSING, "gone")
            else:
                yield question, f"Yes, {question.id}\n\u2028\u00e9"


def test_answers_outlast_a_killed_run_and_are_given_once(tmp_path: Path) -> None:
    questions = [ask(tmp_path / "v.mp4", number) for number in range(6)]
    path = tmp_path / "out/predictions.jsonl"
    with pytest.raises(KeyboardInterrupt):
        list(answer_questions(Canned(ends_after=3), questions, path))
    with path.open("a") as file:
        file.write('{"id": "q3", "predic')
    second = Canned()
    answers = {one.id: answer for one, answer in answer_questions(second, questions, path)}
    assert second.asked == ["q3", "q4", "q5"]
    assert answers == {f"q{number}": f"Yes, q{number}\n\u2028\u00e9" for number in range(6)}
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert [json.loads(line)["id"] for line in lines] == [f"q{number}" for number in range(6)]
    third = Canned()
    assert len(list(answer_questions(third, questions, path))) == 6
    assert third.asked == []


def test_what_failed_is_asked_again(tmp_path: Path) -> None:
    questions = [ask(tmp_path / "v.mp4", number) for number in range(3)]
    path = tmp_path / "predictions.jsonl"
    first = {one.id: answer for one, answer in answer_questions(Canned(fails=("q1",)), questions, path)}
    assert isinstance(first["q1"], RecordError)
    second = Canned()
    assert {one.id for one, answer in answer_questions(second, questions, path) if isinstance(answer, str)} == {
        "q0", "q1", "q2",
    }  # fmt: skip
    assert second.asked == ["q1"]


def test_answers_of_another_model_or_to_another_question_are_refused(tmp_path: Path) -> None:
    questions = [ask(tmp_path / "v.mp4", number) for number in range(2)]
    path = tmp_path / "predictions.jsonl"
    list(answer_questions(Canned(), questions, path))
    with pytest.raises(SetupError, match=r"predictions\.jsonl: the answer to 'q0' is of another model"):
        list(answer_questions(Canned(version=2), questions, path))
    other = VideoQuestion(id="q0", question="Another?", path=tmp_path / "v.mp4")
    with pytest.raises(SetupError, match="another model, setting or question"):
        list(answer_questions(Canned(), [other, questions[1]], path))
    path.write_text('{"id": "q0", "prediction": "Yes"}\n')
    with pytest.raises(SetupError, match=r"predictions\.jsonl:1: no answer of a model"):
        list(answer_questions(Canned(), questions, path))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    questions = [ask(tmp_path / "v.mp4", number) for number in range(2)]
    path = tmp_path / "predictions.jsonl"
    running = answer_questions(Canned(), questions, path)
    next(running)
    with pytest.raises(SetupError, match="in use by another process"):
        list(answer_questions(Canned(), questions, path))
    running.close()
    assert len(list(answer_questions(Canned(), questions, path))) == 2


def test_identity_tells_what_decides(video_model: Callable[[str], str]) -> None:
    model = video_model("llava_onevision")
    base = answerer(model).identity()
    assert answerer(model, batch_size=1, device="auto").identity() == base
    for change in ({"num_frames": 5}, {"max_side": 64}, {"max_new_tokens": 7}, {"dtype": "float32"}):
        assert answerer(model, **change).identity() != base


def test_a_full_disk_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [ask(tmp_path / "v.mp4", number) for number in range(4)]
    path = tmp_path / "predictions.jsonl"
    write, lines = os.write, []

    def full(file: int, data: bytes) -> int:
        lines.append(data)
        return write(file, data if len(lines) < 3 else data[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SetupError, match=r"predictions\.jsonl: no space left; what was finished is kept"):
        list(answer_questions(Canned(), questions, path))
    monkeypatch.undo()
    assert path.read_bytes() == b"".join(lines[:2])
    second = Canned()
    assert len(list(answer_questions(second, questions, path))) == 4
    assert second.asked == ["q2", "q3"]


def test_an_adapter_answers_on_its_base(film: Film, video_model: Callable[[str], str], tmp_path: Path) -> None:
    import torch
    from transformers import AutoProcessor

    base = video_model("llava_onevision")
    model, _, _ = load_weights(find_source(base), "cpu")
    facts = AdapterFacts(base=base, architecture=type(model).__name__, probe=probe_weights(model), num_frames=3)
    adapted = insert_lora(model, LoraConfig(rank=2, alpha=4))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2)
    save_adapter(adapted, AutoProcessor.from_pretrained(base), facts, tmp_path)

    questions = [ask(film("h264.mp4"), number) for number in range(3)]
    settings = {"num_frames": None, "model_base": base}
    tuned = answerer(str(tmp_path), **settings)
    assert tuned.identity()["num_frames"] == 3
    assert tuned.identity()["adapter"] is not None
    answers = [answer for _, answer in tuned.answer(questions)]
    assert answers == [answer for _, answer in answerer(str(tmp_path), **settings).answer(questions)]
    assert answers != [answer for _, answer in answerer(base, num_frames=3).answer(questions)]
    with pytest.raises(SetupError, match=r"--model-path=.*no adapter there"):
        answerer(base, model_base=base)


def run(*arguments: object) -> Any:
    done = CliRunner().invoke(app, ["eval", "answers", *map(str, arguments), "--json"])
    if done.exception is not None:
        assert isinstance(done.exception, HolmesError), done.output
        raise done.exception
    return json.loads(done.stdout)


def test_the_command_asks_a_model_and_measures_again_without_it(
    film: Film, video_model: Callable[[str], str], tmp_path: Path
) -> None:
    rows = [
        {
            "id": number, "type": "event", "task": task, "video": video, "prompt": QUESTIONS[number],
            "anwser": "An anomaly exists.",
        }
        for number, (task, video) in enumerate([("judgement", "h264.mp4"), ("analysis", "h264"), ("caption", "gone")])
    ]  # fmt: skip
    references = tmp_path / "test.jsonl"
    references.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = ["--model-path", video_model("llava_onevision"), "--max-new-tokens", 4, "--device", "cpu"]
    given = ["--references", references, "--videos", film("h264.mp4").parent, "--out", tmp_path / "out"]
    with pytest.raises(DataError, match="1 of 3 references have no prediction: '2'"):
        run(*model, *given)
    found = run(*model, *given, "--allow-missing")
    assert (found["num"], found["missing"]) == (2, 1)
    assert found["unanswered"]["2"].startswith("file_missing: ")
    again = run(
        "--predictions", tmp_path / "out/predictions.jsonl", "--references", references, "--allow-missing",
    )  # fmt: skip
    assert again["judgement"] == found["judgement"]
    assert again["groups"] == found["groups"]
    for arguments, message in (
        ([*model, "--references", references], "--model-path and --judge-model need --out"),
        ([*model, "--references", references, "--out", tmp_path / "o"], "--videos FOLDER is needed"),
        ([*model, "--predictions", references, *given], "either --predictions FILE or --model-path"),
        (["--model-path", tmp_path / "nothing", *given], "no such folder"),
    ):
        with pytest.raises(SetupError, match=message):
            run(*arguments)


def test_the_command_probes_every_clip_of_a_known_class_once(
    film: Film, video_model: Callable[[str], str], tmp_path: Path
) -> None:
    names = ("Fighting001_x264.mp4", "Normal_Videos_003_x264.mp4", "Arson004_x264.mp4", "other.mp4")
    for name in names[:2]:
        (tmp_path / name).symlink_to(film("h264.mp4"))
    asked = [(name, "judgement") for name in names] + [(names[0], "analysis")]
    rows = [
        {"id": i, "type": "video", "task": task, "video": name, "prompt": "?",
         "anwser": "No anomaly." if "Normal" in name else "An anomaly exists."} for i, (name, task) in enumerate(asked)
    ]  # fmt: skip
    references, out = tmp_path / "test.jsonl", tmp_path / "out"
    references.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--references", references, "--videos", tmp_path, "--out", out, "--allow-missing"]
    model = ["--model-path", video_model("llava_onevision"), "--max-new-tokens", 4, "--device", "cpu"]
    found = run(*model, *given, "--probes")["probes"]
    assert (found["num"], found["pairs"]["num"], found["calm"]["num"]) == (2, 1, 1)
    assert found["per_class"].keys() == {"Fighting", "Normal"}
    assert found["unanswered"].keys() == {"2"}
    with (out / "probes.csv").open(newline="") as file:
        probes = list(csv.DictReader(file))
    assert [probe["id"] for probe in probes] == ["0", "0", "1", "1"]
    assert [probe["happens"] for probe in probes] == ["yes", "no", "no", "no"]
    assert probes[0]["question"] == "Does this video show a fight between people? Answer Yes or No."
    fresh = VideoChat(find_source(video_model("llava_onevision")), "cpu", 4)
    job = ClipJob(file=tmp_path / names[0], content=None, span_s=None, num_frames=16, max_side=448, reader="auto")
    odds = fresh.odds(read_file_clip(job), probes[1]["question"])
    assert (float(probes[1]["yes"]), float(probes[1]["no"])) == pytest.approx(odds, abs=1e-4)
    with pytest.raises(SetupError, match="--probes asks a model"):
        run("--predictions", out / "predictions.jsonl", *given, "--probes")
    references.write_text(json.dumps(rows[3]) + "\n")
    (tmp_path / "other.mp4").symlink_to(film("h264.mp4"))
    with pytest.raises(DataError, match="--probes: no reference has a label"):
        run(*model, "--references", references, "--videos", tmp_path, "--out", tmp_path / "other", "--probes")


def test_embedded_clips_are_answered_like_clip_files(
    film: Film, video_model: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.dataset.layout import schema, shard_name

    content = film("h264.mp4").read_bytes()
    clips = tmp_path / "files/clips"
    clips.mkdir(parents=True)
    (clips / "c.mp4").write_bytes(content)
    found = {}
    for name, video in (
        ("files", {"bytes": None, "path": "../clips/c.mp4"}),
        ("embedded", {"bytes": content, "path": "c.mp4"}),
    ):
        rows = [
            {
                "id": f"p{number}", "video": video, "source_video": "cam", "start_s": 90.0, "end_s": 94.0,
                "label": "Normal", "is_anomaly": False, "task": "judge_explain", "question": question,
                "answer": "No, calm.", "messages": [],
            }
            for number, question in enumerate(QUESTIONS)
        ]  # fmt: skip
        data = tmp_path / name / "dataset/data"
        data.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema()), data / shard_name("test", 0, 1))
        out = tmp_path / name / "out"
        monkeypatch.chdir(tmp_path)
        run(
            "--model-path", video_model("llava_onevision"), "--max-new-tokens", 4, "--device", "cpu", "--no-text",
            "--dataset", name, "--out", out,
        )  # fmt: skip
        lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        found[name] = {entry["id"]: entry["prediction"] for entry in map(json.loads, lines)}
    assert found["embedded"] == found["files"]
    assert len(found["files"]) == len(QUESTIONS)
    assert (tmp_path / "embedded/out/clips/c.mp4").read_bytes() == content
