"""`holmes prompts`: list the prompts, show their files, and render what a model would be sent."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import DataError, SetupError

if TYPE_CHECKING:
    from pipeline.prompts import Message

prompts_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See the prompts as a model sees them.")

PromptArgument = Annotated[str, typer.Argument(metavar="PROMPT", help="id of a prompt")]


@prompts_app.command("list")
def list_() -> None:
    """List id, hash, variables and purpose of every prompt."""
    from pipeline.prompts import list_prompts, load_prompt

    for prompt_id in list_prompts():
        prompt = load_prompt(prompt_id)
        typer.echo(f"{prompt.id:<24}{prompt.hash[:12]}  {','.join(prompt.variables) or '-':<32}  {prompt.purpose}")


@prompts_app.command()
def show(prompt_id: PromptArgument) -> None:
    """Print the file of a prompt."""
    from pipeline.prompts import load_prompt
    from pipeline.resources import PROMPTS

    prompt = load_prompt(prompt_id)
    typer.echo((PROMPTS / f"{prompt.id}.md").read_text(encoding="utf-8"), nl=False)


@prompts_app.command()
def render(
    *,
    prompt_id: Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="id of a prompt, with --set")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="value of a variable")] = None,
    clip: Annotated[str | None, typer.Option("--clip", help="id of a clip; its prompt is chosen as in a build")] = None,
    workspace: Annotated[str | None, typer.Option("--workspace", help="workspace of the clip")] = None,
    task: Annotated[str, typer.Option("--task", help="task of the clip's prompt")] = "judge_explain",
    as_json: Annotated[bool, typer.Option("--json", help="print the messages as JSON")] = False,
) -> None:
    """Print the messages a model would receive: a prompt with values, or the prompt of a clip in a workspace."""
    from pipeline.prompts import load_prompt

    if clip is None:
        if prompt_id is None:
            raise SetupError("name a prompt, with --set NAME=VALUE for its variables, or --clip and --workspace")
        messages = load_prompt(prompt_id).render(**_values(set_ or []))
    elif workspace is None or prompt_id is not None or set_:
        raise SetupError("--clip needs --workspace, and neither a prompt nor --set: task and label choose the prompt")
    else:
        messages = _messages_of_clip(workspace, clip, task)
    if as_json:
        typer.echo(json.dumps(messages, indent=2, ensure_ascii=False))
        return
    typer.echo("\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages))


def _values(settings: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name:
            raise SetupError(f"--set {setting}: expected NAME=VALUE")
        values[name] = value
    return values


def _messages_of_clip(url: str, clip_id: str, task_name: str) -> list[Message]:
    from flows.plan import read_run_config
    from pipeline.models.base import SynthesisRequest, TimedEvent
    from pipeline.models.chat.drafts import write_messages
    from pipeline.questions import LEVEL_QUESTIONS, LEVEL_TASKS, QUESTIONS, choose_question
    from pipeline.records import Level, Task
    from pipeline.stages.levels import events_within, spans_with_members
    from pipeline.workspace import Workspace

    if task_name not in set(Task):
        raise SetupError(f"--task {task_name}: expected one of {', '.join(Task)}")
    if "://" not in url and not Path(url).is_dir():
        raise SetupError(f"{url}: no such folder")
    task = Task(task_name)
    workspace = Workspace(url)
    config, _ = read_run_config(workspace)
    clip = workspace.clips.lookup("clip_id").get(clip_id)
    if clip is None:
        known = workspace.clips.arrow(["clip_id"]).column("clip_id").to_pylist()
        near = difflib.get_close_matches(clip_id, known, n=1, cutoff=0.0)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise DataError(f"{url}: no clip {clip_id!r} in it{hint}")
    caption = workspace.all_captions.lookup("clip_id").get(clip_id)
    if caption is None:
        raise DataError(f"{url}: clip {clip_id} has no caption; run the build, or see why in holmes status")
    events: tuple[TimedEvent, ...] = ()
    folder = QUESTIONS
    if clip.level is not Level.CLIP:
        if task not in LEVEL_TASKS:
            raise SetupError(f"--task {task_name}: asked of clips alone; {clip_id} is of level {clip.level}")
        folder, gap_s = LEVEL_QUESTIONS, config.synthesize.event_gap_s
        found = (members for span, members in spans_with_members(workspace, gap_s) if span.clip_id == clip_id)
        events = events_within(clip, next(found), gap_s)
    question = choose_question(task, clip_id, config.synthesize.seed, folder)
    request = SynthesisRequest(clip=clip, caption=caption, task=task, question=question, events=events)
    return write_messages(request)[1]
