"""The labelling interface for clicks: one timeline of classes under a video, and what other interfaces say of a click.

Label Studio places a click by the frame rate that its interface names, and no export tells which that was. Here the
rate stands in each task (`fps`), and the interface takes it from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from annotation.formats.foreign import IGNORE
from annotation.label_studio.rate import effective_rate
from pipeline.errors import SetupError
from pipeline.records import ABNORMAL, NORMAL
from pipeline.taxonomy import AUTO, canonical, load_taxonomies, select_taxonomies

NOTHING_ABNORMAL = "Nothing abnormal"
NORMAL_CONTROL = "normal"
"""Name of the choice, which is the column of JSON_MIN and CSV."""

VIDEO_HEIGHT_PX = 360
"""What leaves the timeline in view in a window 1000 pixels high."""

DEFAULT_RATE = 24.0
"""Frames a second at which Label Studio counts where the interface or the task names none."""

RATE_KEY = "fps"

INSTRUCTION = (
    "Click one frame inside every abnormal event: move to it, choose the class, and click the timeline there. "
    f"Nothing abnormal in the whole video: choose '{NOTHING_ABNORMAL}'. "
    "A frame that looks odd but is not abnormal, or a click of somebody else that is wrong or superfluous: "
    f"'{IGNORE}'. Clicks that are there from the start are suggested by a sampler: delete or move what is wrong, add "
    f"what is missing, give a class to what is only '{ABNORMAL}', and submit."
)

_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
_HOTKEYS = "123456789qwertyuop"
_FIELD = re.compile(r"^\$\{?(\w+)\}?$")


@dataclass(frozen=True, slots=True)
class GlanceInterface:
    """What matters of a project's interface. `rate` is `$field`, a number as text, or empty.

    Attributes:
        labels: the classes on offer.
        rate: frames a second of the player.
        timeline: names of the timeline's labels and of the video that they are for.
    """

    labels: tuple[str, ...]
    rate: str
    timeline: tuple[str, str] = ("event", "video")

    def rate_of(self, data: Mapping[str, Any]) -> float:
        """Return the frames a second at which Label Studio counts the frames of a task with this data."""
        field = _FIELD.match(self.rate)
        value = data.get(field[1]) if field else self.rate
        try:
            rate = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return DEFAULT_RATE
        return effective_rate(rate) if 0 < rate < float("inf") else DEFAULT_RATE


def glance_classes(labels: Iterable[str], taxonomy: str = AUTO) -> list[str]:
    """Return the classes to choose from: those of a taxonomy, and what the videos are labelled.

    Normal is none of them, nor is `ABNORMAL`, which every interface offers last.

    `auto` takes the taxonomies that know a label of the videos, and all of them where none does.

    Raises:
        ConfigError: no such taxonomy.
    """
    borne = sorted({canonical(label, taxonomy) or label for label in labels} - {NORMAL, ABNORMAL})
    if taxonomy == AUTO:
        fitting = [entry for entry in load_taxonomies().values() if any(map(entry.find, borne))]
        chosen = fitting or list(load_taxonomies().values())
    else:
        chosen = list(select_taxonomies(taxonomy))
    names = dict.fromkeys(entry.name for one in chosen for entry in one.classes)
    return [name for name in dict.fromkeys([*names, *borne]) if name not in (NORMAL, ABNORMAL)]


def glance_config(classes: Iterable[str]) -> str:
    """Return the interface's XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value="$video_id")
    labels = ElementTree.SubElement(view, "TimelineLabels", name="event", toName="video")
    for number, name in enumerate(classes):
        look = {"value": name, "background": _COLOURS[number % len(_COLOURS)]}
        if number < len(_HOTKEYS):
            look["hotkey"] = _HOTKEYS[number]
        ElementTree.SubElement(labels, "Label", look)
    ElementTree.SubElement(labels, "Label", value=ABNORMAL, background="#4a4a4a", hotkey="a")
    ElementTree.SubElement(labels, "Label", value=IGNORE, background="#7f7f7f", hotkey="i")
    choices = ElementTree.SubElement(view, "Choices", name=NORMAL_CONTROL, toName="video", choice="multiple")
    ElementTree.SubElement(choices, "Choice", value=NOTHING_ABNORMAL, hotkey="n")
    video = {"name": "video", "value": "$video", "frameRate": f"${RATE_KEY}"}
    ElementTree.SubElement(view, "Video", video | {"timelineHeight": "120", "height": str(VIDEO_HEIGHT_PX)})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")


def read_interface(label_config: str, where: str) -> GlanceInterface:
    """Read a project's interface; `where` opens the message.

    Raises:
        SetupError: the project is not one for clicks: no TimelineLabels on a Video.
    """
    try:
        view = ElementTree.fromstring(label_config)  # noqa: S314 - expat resolves no external entities
    except ElementTree.ParseError as fault:
        raise SetupError(f"{where}: the labelling interface is not XML: {fault}") from None
    videos = {video.get("name"): video for video in view.iter("Video")}
    timelines = [tag for tag in view.iter("TimelineLabels") if tag.get("toName") in videos]
    if not timelines:
        tags = sorted({tag.tag for tag in view.iter() if tag.get("toName")}) or ["nothing to label with"]
        raise SetupError(
            f"{where}: not a project for clicks: TimelineLabels on a Video expected, found {', '.join(tags)}"
        )
    return GlanceInterface(
        labels=tuple(label.get("value", "") for tag in timelines for label in tag.iter("Label")),
        rate=videos[timelines[0].get("toName")].get("frameRate") or "",
        timeline=(timelines[0].get("name", ""), timelines[0].get("toName", "")),
    )
