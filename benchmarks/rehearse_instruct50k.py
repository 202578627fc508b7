"""VAD-Instruct50k rehearsed at its full size with stand-ins: what a run does and takes, before anything is paid.

Files under the published names of UCF-Crime and XD-Violence, of tiny pictures, long enough for the published
clicks; a server in the place of both 7B models and the 70B one that answers within milliseconds; noise that rises at
the clicks in the place of encoded frames. `holmes build -c datasets/vad-instruct50k.yaml` runs on that, is killed with
SIGKILL in the middle of the synthesis, runs again to the end, and once more with nothing to do. Lists and clicks of
XD-Violence that are not in `--annotations` are stand-ins of the same form and size.

    python benchmarks/rehearse_instruct50k.py --annotations FOLDER [--share 0.05] [--folder OUT] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = "datasets/vad-instruct50k.yaml"
FPS, SIDE, GOP = 30, 32, 32
STILLS = 16
"""Pictures that films are made up of: enough for captions to differ, few enough to be encoded once."""

XD_CLASSES = {"B1": 600, "B2": 470, "B4": 330, "B5": 25, "B6": 240, "G": 240}
XD_TRAIN, XD_CLICKS, XD_TEST = 3954, 4278, 800
LEFT_OUT = 17
"""As many normal videos of XD-Violence as Holmes-VAD left out for their quality are cut short here."""
PAST_END = 3
"""As many clicks lie one frame past the end of their video."""
NORMAL_CLIPS = 3.2
"""Segments of a normal video: so many that the rows are about as many as the published ones."""
FILMS_OF_UCF = ["ucf-crime.training.csv", "ucf-crime.testing.csv"]
FILMS_OF_XD = ["xd-violence.training.csv", "xd-violence.testing.csv"]


# Lists and clicks

Rows = list[list[Any]]


def xd_stand_ins() -> dict[str, Rows]:
    """Return lists and clicks of the form and size of XD-Violence's."""
    rng = random.Random(0)

    def name(number: int, label: str) -> str:
        span = f"#{number % 3:02d}-{number % 60:02d}-00_{number % 3:02d}-{number % 60:02d}-45" if number % 4 else "#1"
        film = f"Stand.In {number}.{1990 + number % 30}" if number % 3 == 0 else f"v=st-{number:04d}_Iq"
        return f"{film}__{span}_label_{label}"

    codes = [f"{code}-0-0" for code, count in XD_CLASSES.items() for _ in range(count)]
    train = [name(number, codes[number] if number < len(codes) else "A") for number in range(XD_TRAIN)]
    test = [name(XD_TRAIN + number, "B1-0-0" if number < 500 else "A") for number in range(XD_TEST)]
    clicks: Rows = [[video, rng.randrange(20, 400)] for video in train[: len(codes)]]
    clicks += [[rng.choice(train[: len(codes)]), rng.randrange(400, 5000)] for _ in range(XD_CLICKS - len(clicks))]
    lists = ([["video-id"], *([video] for video in videos)] for videos in (train, test))
    return dict(zip(FILMS_OF_XD, lists, strict=True)) | {
        "xd_glance_annotations.csv": [["video-id", "glance"], *sorted(clicks)]
    }


def make_annotations(given: Path, folder: Path, share: float) -> bool:
    """Put lists and clicks into `folder`, of a share of the videos; return whether XD-Violence's are stand-ins."""
    folder.mkdir(parents=True)
    is_stand_in = not all((given / name).is_file() for name in [*FILMS_OF_XD, "xd_glance_annotations.csv"])
    stand_ins = xd_stand_ins() if is_stand_in else {}

    def read(name: str) -> Rows:
        if name in stand_ins:
            return stand_ins[name]
        with (given / name).open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def write(name: str, rows: Rows) -> None:
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    for names, clicks in ((FILMS_OF_UCF, "ucf_glance_annotations.csv"), (FILMS_OF_XD, "xd_glance_annotations.csv")):
        kept: set[str] = set()
        for name in names:
            header, *videos = read(name)
            some = [row for place, row in enumerate(videos) if int(place * share) != int((place + 1) * share)]
            kept |= {row[0] for row in some}
            write(name, [header, *some])
        header, *rows = read(clicks)
        write(clicks, [header, *(row for row in rows if row[0] in kept)])
    return is_stand_in


def read_catalogue(root: Path) -> Any:
    """Return the official videos of both datasets."""
    from pipeline.config import SourcesConfig
    from pipeline.sources.catalogue import load_catalogue

    datasets = ["ucf-crime", "xd-violence"]
    return load_catalogue(SourcesConfig(datasets=datasets, annotations=[str(root / "annotations")]))


# Films and features


def encode_still(number: int) -> tuple[bytes, list[bytes]]:
    """Return an MP4 file of `GOP` frames of one still tiny picture, and its packets."""
    import av
    import numpy as np

    target = io.BytesIO()
    picture = np.random.default_rng(number).integers(40, 200, (4, 4, 3)).astype(np.uint8)
    picture = picture.repeat(SIDE // 4, axis=0).repeat(SIDE // 4, axis=1)
    with av.open(target, "w", format="mp4") as container:
        options = {"preset": "ultrafast", "g": str(GOP), "bf": "0", "threads": "1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for _ in range(GOP):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    with av.open(io.BytesIO(target.getvalue())) as source:
        return target.getvalue(), [bytes(packet) for packet in source.demux(source.streams.video[0]) if packet.size]


def film_of(model: bytes, groups: list[list[bytes]], frames: int, rng: random.Random, mark: str) -> bytes:
    """Return a film of `frames` frames in the way of `model`: groups of packets in an order of its own."""
    import av

    film = io.BytesIO()
    with av.open(io.BytesIO(model)) as source, av.open(film, "w", format="mp4") as target:
        template = source.streams.video[0]
        first, second = (packet.pts for packet, _ in zip(source.demux(template), range(2), strict=False))
        stream = target.add_stream_from_template(template)
        for number in range(frames):
            if number % GOP == 0:
                group = rng.choice(groups)
            packet = av.Packet(group[number % GOP])
            packet.pts = packet.dts = number * (second - first)
            packet.duration = second - first
            packet.time_base = template.time_base
            packet.stream = stream
            packet.is_keyframe = number % GOP == 0
            target.mux(packet)
    # a box that players pass over makes every file another one
    return film.getvalue() + (len(mark.encode()) + 8).to_bytes(4, "big") + b"free" + mark.encode()


@dataclass
class StandIns:
    """What was laid out, and what a build of it should find: videos by dataset, split and class, clicks by dataset."""

    frames: int = 0
    size: int = 0
    files: int = 0
    videos: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    clicks: Counter[str] = field(default_factory=Counter)


def lay_out(root: Path, share: float) -> StandIns:
    """Write the files of both datasets as they unpack, the features, and human sentences on UCF-Crime."""
    import numpy as np

    rng, noise = random.Random(1), np.random.default_rng(1)
    catalogue = read_catalogue(root)
    clicks: defaultdict[str, list[int]] = defaultdict(list)
    for file in catalogue.glances:
        with Path(file).open(newline="", encoding="utf-8") as lines:
            for video_id, frame in list(csv.reader(lines))[1:]:
                clicks[video_id].append(int(frame))
    encoded = [encode_still(number) for number in range(STILLS)]
    groups = [packets for _, packets in encoded]
    (root / "features").mkdir()
    laid, sentences = StandIns(), {}
    left_out, past_end = math.ceil(LEFT_OUT * share), PAST_END
    for dataset in catalogue.datasets.values():
        for number, video in enumerate(dataset.videos.values()):
            label, on = str(video.label), clicks[video.name]
            last = max(on, default=0)
            frames = last + rng.randrange(2, 300) if last else min(20_000, int(rng.lognormvariate(7.6, 0.8)) + 60)
            if past_end and dataset.name == "ucf-crime" and 300 < last < 3000:
                frames, past_end = last, past_end - 1
            content = film_of(encoded[0][0], groups, frames, rng, video.name)
            if left_out and (dataset.name, video.split, label) == ("xd-violence", "train", "Normal"):
                left_out -= 1
                content = content[: len(content) // 3]
            else:
                laid.videos[dataset.name, video.split, label] += 1
                laid.frames += frames
            laid.clicks[dataset.name] += len(on)
            for folder in folders_of(dataset.name, video.split, label, number, share):
                (root / folder).mkdir(parents=True, exist_ok=True)
                (root / folder / f"{video.name}.mp4").write_bytes(content)
                laid.size += len(content)
                laid.files += 1
            snippets = noise.normal(size=(math.ceil(frames / 16), 32)).astype(np.float16)
            for click in on:
                snippets[max(0, click // 16 - 2) : click // 16 + 3] += 5
            np.save(root / "features" / f"{video.name}.npy", snippets)
            if dataset.name == "ucf-crime" and video.split == "train" and number % 2:
                spans = [(max(0, click / FPS - 5), min(frames, click + 150) / FPS) for click in on[:4]]
                spans = spans or [(0.0, min(frames / FPS, 20.0))]
                said = [say("A", hashlib.sha256(f"{video.name}{span}".encode()).hexdigest()) for span in spans]
                sentences[video.name] = {"duration": frames / FPS, "timestamps": spans, "sentences": said}
    (root / "annotations" / "UCFCrime_Train.json").write_text(json.dumps(sentences))
    return laid


def folders_of(dataset: str, split: str, label: str, number: int, share: float) -> list[str]:
    """Return the folders in which a dataset's owners hand out a video."""
    if dataset == "xd-violence":
        parts = ["1-1004", "1005-2004", "2005-2804", "2805-3319", "3320-3954"]
        return ["XD-Violence/videos" if split == "test" else f"XD-Violence/{parts[number % 5]}"]
    if label != "Normal":
        return [f"UCF_Crimes/Anomaly-Videos-Part-{number % 4 + 1}/{label}"]
    if split == "train":
        return [f"UCF_Crimes/Training-Normal-Videos-Part-{number % 2 + 1}"]
    # the lists begin with the test videos, normal ones last: fifty of them are handed out twice
    again = [] if number < 240 * share else ["UCF_Crimes/Normal_Videos_event"]
    return ["UCF_Crimes/Testing_Normal_Videos_Anomaly", *again]


# The server

WHO = "man woman guard cyclist driver customer clerk courier visitor worker student couple"
LOOK = "red_coat blue_shirt white_hat dark_jacket yellow_vest grey_hood green_scarf striped_top"
DOES = "stands walks waits turns_round looks_about sits_down steps_aside leans_over comes_in"
WHERE = "counter gate parked_van shop_door bus_stop stairway bench crossing garage fence"
WHEN = "at_dusk in_bright_light in_the_rain at_night in_the_morning under_lamps in_fog at_noon"


def say(article: str, name: str) -> str:
    """Return a sentence of plain words that follow from `name`, hexadecimal digits."""
    chosen = []
    for at, words in enumerate(map(str.split, (WHO, LOOK, DOES, WHERE, WHEN, WHO))):
        chosen.append(words[int(name[4 * at : 4 * at + 4], 16) % len(words)].replace("_", " "))
    who, look, does, where, when, other = chosen
    return f"{article} {who} in a {look} {does} by the {where} {when}, and a {other} passes."


def answer(body: dict[str, Any], name: str) -> str:
    """Return what a good model would say to a request of the engine's prompts."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties")
    if schema is None:
        return say("A", name)
    found = re.search(r"<label>\\n(.*?)\\n</label>", str(body["messages"]))
    is_normal = found is None or found[1] == "Normal"
    event = "" if found is None or is_normal else f" There is {found[1].partition(': ')[2]}."
    opening = ["The video shows a", "A", "In this video, a", "At first the video shows a"][int(name[0], 16) % 4]
    judgement = "normal" if is_normal else "abnormal"
    reason = "nobody disturbs anyone" if is_normal else "it does not belong to the ordinary course of this place"
    said = {
        "judgement": judgement,
        "description": say(opening, name) + event,
        "analysis": f"This is {judgement} because {reason}, where {say('a', name[::-1])}",
        "caption": say("A", name) + event,
    }
    return json.dumps({key: said[key] for key in schema})


@contextmanager
def serving(asked: Counter[str]) -> Iterator[str]:
    """Answer chat completions, counting each request in `asked`; yield the address."""
    sys.path.insert(0, str(REPOSITORY / "tests/helpers"))
    from http_server import Call, HttpServer, Reply

    def handle(call: Call) -> Reply:
        body, name = json.loads(call.body), hashlib.sha256(call.body).hexdigest()
        asked[name] += 1
        text = answer(body, name)
        usage = {"prompt_tokens": len(call.body) // 4, "completion_tokens": len(text) // 4}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        reply = {"id": name, "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        return Reply(body=json.dumps(reply | {"usage": usage}).encode(), delay_s=0.003)

    with HttpServer(handle) as server:
        yield server.url


# The run


@dataclass
class Taken:
    """Wall time, processor time and peak memory of a stage, over the runs of a rehearsal, without the server."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0


def command_of(root: Path, url: str, workers: int) -> list[str]:
    """Return the build of the recipe with what the rehearsal sets beside it."""
    settings = [
        f"videos=[{root}/UCF_Crimes,{root}/XD-Violence]", f"sources.annotations=[{root}/annotations]",
        f"workspace={root}/w", "features.encoder=npy", f"features.folders=[{root}/features]",
        "sampler.cpu_minutes=0.1", "sampler.search='off'", "sampler.folds=1", "clips.files=reference",
        f"clips.normal_per_video={NORMAL_CLIPS}",
        "caption.backend=openai", "caption.model=stand-in", f"caption.base_url={url}", "caption.num_frames=2",
        "caption.dtype=auto", "caption.concurrency=16", f"synthesize.base_url={url}", f"video.workers={workers}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "flows.cli", "build", "-c", RECIPE]
    return [*command, *(word for setting in settings for word in ("--set", setting))]


def build(
    command: list[str], taken: defaultdict[str, Taken], kill_when: Callable[[str, int], bool] | None = None
) -> list[str]:
    """Run a build, measuring by its log; return the log. With `kill_when`, kill it once that is true.

    `kill_when` is asked five times a second, with the stage that runs and how many units it found to do.
    """
    import psutil

    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OPENAI_API_KEY": "none"}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    stage, to_do, seen = "start", 0, 0.0
    log: list[str] = []
    is_over = threading.Event()

    def watch() -> None:
        nonlocal seen
        while not is_over.wait(0.2):
            if kill_when is not None and kill_when(stage, to_do):
                os.killpg(process.pid, signal.SIGKILL)
                return
            try:
                parent = psutil.Process(process.pid)
                tree = [parent, *parent.children(recursive=True)]
                used = sum(one.memory_info().rss for one in tree)
                spent = sum(sum(one.cpu_times()[:2]) for one in tree) + sum(parent.cpu_times()[2:4])
            except psutil.Error:
                continue
            taken[stage].peak_mb = max(taken[stage].peak_mb, used / 2**20)
            taken[stage].cpu_s += max(0.0, spent - seen)
            seen = max(seen, spent)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        log.append(line.rstrip())
        begun = re.search(r" (\w+): (?:to do=(\d+)|nothing has changed)", line)
        if begun or " filter: made=" in line:
            now = time.monotonic()
            taken[stage].seconds += now - began
            began, stage, to_do = now, begun[1] if begun else "export", int(begun[2] or 0) if begun else 0
    is_over.set()
    watcher.join()
    taken[stage].seconds += time.monotonic() - began
    if process.wait() != (-signal.SIGKILL if kill_when else 0):
        sys.exit(f"holmes build ended with {process.returncode}")
    return log


def check(root: Path, laid: StandIns) -> dict[str, Any]:
    """Compare what was built with the lists, and return the figures."""
    from pipeline.workspace import Workspace

    workspace = Workspace(str(root / "w"))
    datasets = read_catalogue(root).datasets
    source_of = {name: key for key, dataset in datasets.items() for name in dataset.videos}
    splits = {row.video_id: row.split for row in workspace.splits.records()}
    videos = Counter(
        (source_of[video.video_id], splits[video.video_id], str(video.label)) for video in workspace.videos.records()
    )
    assert videos == laid.videos, (videos - laid.videos, laid.videos - videos)
    clicks = Counter(source_of[glance.video_id] for glance in workspace.glances.records())
    assert clicks == laid.clicks, (clicks, laid.clicks)
    clips = list(workspace.clips.records())
    assert all(splits[clip.video_id] == "train" for clip in clips)
    tables = ("videos", "glances", "clips", "captions", "pairs", "verdicts")
    return {
        "videos": dict(Counter(f"{source} {split}" for source, split, _ in videos.elements())),
        "classes": {" ".join(key): count for key, count in sorted(videos.items())},
        "clicks": dict(clicks),
        "clips": len(clips),
        "captions": dict(Counter(caption.captioner for caption in workspace.captions.records())),
        "rows": json.loads((root / "w/dataset/stats.json").read_text())["rows"],
        "rejected": {
            table: dict(Counter(row.reason for row in getattr(workspace, table).rejected())) for table in tables
        },
    }


def rehearse(root: Path, laid: StandIns, workers: int, taken: defaultdict[str, Taken]) -> dict[str, Any]:
    """Build, kill, build on, build again; return the figures."""
    asked: Counter[str] = Counter()
    before: list[int] = []

    def is_midway(stage: str, to_do: int) -> bool:
        if stage == "synthesize" and not before:
            before.append(asked.total())
        return bool(before) and asked.total() - before[0] > to_do / 2

    with serving(asked) as url:
        command = command_of(root, url, workers)
        log = build(command, taken, is_midway)
        at_kill = len(asked) - before[0]
        log += build(command, taken)
        figures = check(root, laid)
        again: defaultdict[str, Taken] = defaultdict(Taken)
        idle = build(command, again)
    return figures | {
        "requests": {"sent": asked.total(), "different": len(asked), "answers_at_the_kill": at_kill},
        "second_run": {
            "made": sum(int(count) for line in idle for count in re.findall(r": made=(\d+)", line)),
            "seconds": sum(one.seconds for one in again.values()),
        },
        "said": [line for line in log if re.search(r"ucf-crime|xd-violence|past the end|synthesize: to do", line)],
    }


def main() -> None:
    """Lay out, rehearse, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the published lists and clicks")
    parser.add_argument("--share", type=float, default=1.0, help="share of the videos, for a try")
    parser.add_argument("--folder", type=Path, help="folder for everything, kept; default: a temporary one")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode; 0: one a core")
    parser.add_argument("--json", type=Path, help="file for the figures")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (chosen.folder or Path(temporary) / "rehearsal").absolute()
        root.mkdir(parents=True)
        taken: defaultdict[str, Taken] = defaultdict(Taken)
        began, spent = time.monotonic(), time.process_time()
        is_stand_in = make_annotations(chosen.annotations, root / "annotations", chosen.share)
        laid = lay_out(root, chosen.share)
        taken["stand-ins"] = Taken(time.monotonic() - began, time.process_time() - spent)
        figures = rehearse(root, laid, chosen.workers, taken) | {
            "xd_violence_is_stand_in": is_stand_in,
            "files": laid.files,
            "frames": laid.frames,
            "stand_in_mb": laid.size / 2**20,
            "stages": {stage: vars(one) for stage, one in taken.items()},
        }
    print(json.dumps(figures, indent=1))
    print("| stage | seconds | of the processor | peak memory, MB |\n|---|---:|---:|---:|")
    for stage, one in taken.items():
        print(f"| {stage} | {one.seconds:.0f} | {one.cpu_s:.0f} | {one.peak_mb:.0f} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
