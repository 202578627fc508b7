"""`holmes plan`, and what `holmes status` tells of the work that is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import DataError, SetupError

if TYPE_CHECKING:
    from flows.forecast.footage import Footage
    from flows.forecast.forecast import Forecast, StageForecast
    from pipeline.config import BuildConfig
    from pipeline.models.hf.outlook import Outlook
    from pipeline.workspace import Workspace

_NAMED = 3


def plan(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="YAML file of settings")] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="folder of the build; overrides the config")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override one setting")] = None,
    *,
    probe: Annotated[bool, typer.Option("--probe", help="time the model that captions here on a few clips")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")] = False,
) -> None:
    """Tell what a build will take before it is begun: videos, clips, requests, tokens, hours, disk, cost."""
    from flows.forecast.forecast import forecast
    from flows.plan import check_inputs
    from pipeline.config import load_config
    from pipeline.workspace import Workspace

    settings = load_config(config, set_ or [], workspace)
    check_inputs(settings)
    outlook = _captioning(settings) if probe else None
    found = forecast(settings, Workspace(settings.workspace), {} if outlook is None else _of_a_clip(settings, outlook))
    if as_json:
        tried = {} if outlook is None else {"captioner": asdict(outlook)}
        typer.echo(json.dumps(found.as_json() | tried, ensure_ascii=False))
        return
    for line in (*footage_lines(found), *left_lines(found), *disk_lines(found, settings.workspace)):
        typer.echo(line)
    if outlook is not None:
        typer.echo(f"captioner {outlook.told_memory(f'caption.batch_size={settings.caption.batch_size}')}")
        if outlook.clips_per_s is None:
            typer.echo(f"          not tried: {outlook.reason}")


def _captioning(config: BuildConfig) -> Outlook:
    """Try the captioner. Raises: SetupError where none runs in this process, or as `caption_outlook`."""
    from pipeline.models.hf.outlook import caption_outlook

    if config.caption.backend != "hf":
        raise SetupError(f"--probe: caption.backend={config.caption.backend} loads no model here; it times that of hf")
    return caption_outlook(config.caption, probes=True)


def _of_a_clip(config: BuildConfig, outlook: Outlook) -> dict[str, float]:
    """Return the seconds that a caption takes with one model on each of the devices."""
    from pipeline.models.hf.devices import list_devices

    if outlook.clips_per_s is None:
        return {}
    return {"caption": 1 / (outlook.clips_per_s * len(list_devices(config.caption.device)))}


def footage_lines(found: Forecast) -> Iterator[str]:
    """Yield what is there, what is missing, and what a build makes of it."""
    footage, expected = found.footage, found.expected
    yield f"videos    {len(footage.items):,} found, {footage.hours:,.2f} hours{_lengths(footage)}"
    if footage.missing:
        yield f"missing   {footage.num_missing:,} named and not there: {_some(footage.missing)}"
    if footage.clicked_missing:
        absent = footage.clicked_missing
        yield f"missing   {len(absent):,} videos with clicks that are not there: {_some(absent)}"
    yield from (f"note      {remark}" for remark in footage.remarks)
    yield f"clicks    {footage.clicks:,} on {footage.clicked:,} videos"
    if footage.faults:
        told = ", ".join(f"{count:,} {reason}" for reason, count in footage.faults.items())
        yield f"no use    clicks and annotations: {told}"
    how = "made" if expected.counted else "expected"
    levels = f", {expected.spans:,} events and videos of them" if expected.spans else ""
    hours = f"{expected.clip_hours:,.2f} hours"
    yield f"clips     {expected.clips:,} {how}, {hours}{levels}; {expected.answers:,} answers"


def left_lines(found: Forecast) -> Iterator[str]:
    """Yield a table of what is left, and its sums: time, GPU hours, tokens, cost."""
    left = [stage for stage in found.stages if stage.work.left]
    if not left:
        yield "left      nothing"
        return
    yield ""
    head = f"{'stage':<12}{'left':>9} {'of':>9} {'':<9}{'time':>10}  {'figure':<9}"
    asks = any(stage.asking is not None for stage in left)
    yield (head + (f"{'requests':>10}{'tokens in':>14}{'out':>12}  figure" if asks else "")).rstrip()
    yield from map(_stage_line, left)
    yield ""
    yield from _sums(found, left)


def left_of(config: BuildConfig, workspace: Workspace) -> Iterator[str]:
    """Yield what is left of a build that may be running, or why that is not known."""
    from flows.forecast.forecast import forecast

    try:
        yield from left_lines(forecast(config, workspace))
    except DataError as fault:
        yield f"left      not known: {fault}"


def disk_lines(found: Forecast, workspace: str) -> Iterator[str]:
    """Yield the room that is needed and the room that is there."""
    needed = f"disk      {found.disk_bytes / 1e9:,.1f} GB to be written"
    if "://" in workspace:
        yield needed
        return
    place = Path(workspace).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    short = ": too little" if free < found.disk_bytes else ""
    yield f"{needed}, {free / 1e9:,.1f} GB free at {place}{short}"


def _stage_line(stage: StageForecast) -> str:
    work, asking = stage.work, stage.asking
    line = (
        f"{work.stage:<12}{work.left:>9,} {work.expected:>9,} {work.unit:<9}{_duration(stage.seconds):>10}  "
        f"{stage.basis:<9}"
    )
    if asking is None:
        return line.rstrip()
    return f"{line}{asking.requests:>10,}{asking.prompt_tokens:>14,}{asking.completion_tokens:>12,}  {asking.basis}"


def _or_probe(stage: StageForecast) -> str:
    # Whatever asks an endpoint is no model of this process.
    return ", or --probe" if stage.work.stage == "caption" and stage.asking is None else ""


def _sums(found: Forecast, left: Sequence[StageForecast]) -> Iterator[str]:
    days = found.seconds / 86400
    machines = f"{found.machines} {'machine' if found.machines == 1 else 'machines'} of {found.cores} cores"
    gpus = "" if found.gpus is None else f", {found.gpus} GPUs"
    in_days = f" ({days:,.1f} days)" if days >= 1 else ""
    yield f"time      {_duration(found.seconds)}{in_days} on {machines}{gpus}"
    yield from (f"          {note}" for note in found.expected.notes)
    for stage in left:
        if stage.missing is not None:
            told = f"set {stage.missing}{_or_probe(stage)}"
            yield f"          without {stage.work.stage}, whose model tells no size: {told}"
    if found.gpu_hours:
        price = " (no price: set plan.gpu_price_per_hour)" if found.gpu_cost is None else ""
        at_hand = "; none at hand: plan.gpus=N counts with N" if found.gpus == 0 else ""
        yield f"GPU       {found.gpu_hours:,.1f} hours{price}{at_hand}"
    if found.cost is not None:
        yield f"cost      {found.cost:,.2f} in the currency of the prices"
    for stage in left:
        asking = stage.asking
        if asking is None:
            continue
        if asking.cost is None:
            price = f"{asking.setting}={{{asking.model}: {{input: PRICE, output: PRICE}}}}"
            yield f"          {stage.work.stage}: the price of {asking.model} is not known: set {price}"
        elif asking.max_cost is not None and asking.cost > asking.max_cost:
            limit = f"{asking.setting.replace('prices', 'max_cost')}={asking.max_cost:g}"
            yield f"          {stage.work.stage}: {asking.cost:,.2f} is more than {limit}, what one run may cost"


def _lengths(footage: Footage) -> str:
    return f", {len(footage.guessed):,} lengths by bytes" if footage.guessed else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _duration(seconds: float | None) -> str:
    """Return a duration for people: 40 s, 12 min, 3.4 h; a dash where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
