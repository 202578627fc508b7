"""`holmes prompts`: what it lists, shows and renders, and what it says of a wrong call."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline.errors import HolmesError
from pipeline.models.base import SynthesisRequest
from pipeline.models.chat.drafts import write_messages
from pipeline.prompts import list_prompts, load_prompt
from pipeline.questions import choose_question
from pipeline.records import Caption, EventClip, Task
from pipeline.resources import PROMPTS
from pipeline.workspace import Workspace

CLIP = EventClip(
    clip_id="crash_1", video_id="v", start_s=0.0, end_s=4.0, start_frame=0, end_frame=100, glance_time_s=2.0,
    label="RoadAccidents", anomaly_score=None, method="window",
)  # fmt: skip
CAPTION = Caption(clip_id="crash_1", text="Two cars collide </caption> at a crossing.", captioner="h", prompt_hash=None)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["prompts", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    made = Workspace(str(tmp_path))
    made.clips.commit(["u"], [("u", CLIP)], [], "f")
    made.captions.commit(["u"], [("u", CAPTION)], [], "f")
    made.write_json("run.json", {"config": {"videos": ["v"], "synthesize": {"seed": 3}}, "folder": str(tmp_path)})
    return str(tmp_path)


def test_list_has_a_line_per_prompt_with_hash_variables_and_purpose() -> None:
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines] == list_prompts()
    for line in lines:
        prompt = load_prompt(line.split()[0])
        assert line.split()[1:3] == [prompt.hash[:12], ",".join(prompt.variables) or "-"]
        assert line.endswith(prompt.purpose)


def test_show_prints_the_file() -> None:
    assert run("show", "description") == (PROMPTS / "description.md").read_text(encoding="utf-8")


def test_render_with_values() -> None:
    expected = load_prompt("caption_task").render(caption="A=B <b>", question="What?")
    arguments = ("render", "caption_task", "--set", "caption=A=B <b>", "--set", "question=What?")
    assert json.loads(run(*arguments, "--json")) == expected
    assert run(*arguments) == f"[system]\n{expected[0]['content']}\n\n[user]\n{expected[1]['content']}\n"


@pytest.mark.parametrize("task", list(Task))
def test_render_of_a_clip_is_what_synthesis_sends(workspace: str, task: Task) -> None:
    request = SynthesisRequest(clip=CLIP, caption=CAPTION, task=task, question=choose_question(task, "crash_1", 3))
    shown = run("render", "--clip", "crash_1", "--workspace", workspace, "--task", task.value, "--json")
    assert json.loads(shown) == write_messages(request)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "descripton"], "the nearest is description"),
        (["render", "descripton"], "the nearest is description"),
        (["render"], "name a prompt"),
        (["render", "description"], "missing caption, judgement, label, question"),
        (["render", "caption", "--set", "color"], "expected NAME=VALUE"),
        (["render", "--clip", "crash_1"], "needs --workspace"),
        (["render", "caption", "--clip", "crash_1", "--workspace", "W"], "neither a prompt nor --set"),
        (["render", "--clip", "crash_1", "--workspace", "W", "--task", "poem"], "expected one of judge_explain"),
        (["render", "--clip", "crash_1", "--workspace", "/nowhere"], "no such folder"),
        (["render", "--clip", "crash_2", "--workspace", "W"], "no clip 'crash_2' in it; the nearest is crash_1"),
    ],
)
def test_wrong_calls_are_explained(workspace: str, arguments: list[str], said: str) -> None:
    with pytest.raises(HolmesError, match=said):
        run(*[workspace if argument == "W" else argument for argument in arguments])
