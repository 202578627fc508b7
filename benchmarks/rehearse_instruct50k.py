"""VAD-Instruct50k rehearsed at its full size with stand-ins: what a run does and takes, before anything is paid.

Files under the published names of UCF-Crime and XD-Violence, of tiny pictures, long enough for the published
clicks; a server in the place of both 7B models and the 70B one that answers within milliseconds; noise that rises at
the clicks in the place of encoded frames. `holmes build -c datasets/vad-instruct50k.yaml` runs on that, is killed with
SIGKILL in the middle of the synthesis, runs again to the end, and once more with nothing to do. Lists and clicks of
XD-Violence that are not in `--annotations` are stand-ins of the same form and size.

    python benchmarks/rehearse_instruct50k.py [--annotations FOLDER] [--share 0.05] [--folder OUT] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import io
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
FPS, SIDE, GOP = 30, 32, 32
STILLS = 16
"""Pictures that films are made up of: enough for captions to differ, few enough to be encoded once."""

XD_CLASSES = {"B1": 600, "B2": 470, "B4": 330, "B5": 25, "B6": 240, "G": 240}
XD_TRAIN, XD_NORMAL, XD_CLICKS, XD_TEST = 3954, 2049, 4278, 800
LEFT_OUT = 17
"""As many normal videos of XD-Violence as Holmes-VAD left out for their quality are cut short here."""
PAST_END = 3
"""As many clicks lie one frame past the end of their video."""


# Lists and clicks


def write_xd_stand_ins(folder: Path) -> None:
    """Write lists and clicks of the form and size of XD-Violence's."""
    rng = random.Random(0)
    codes = [code for code, count in XD_CLASSES.items() for _ in range(count)]

    def name(number: int, label: str) -> str:
        span = f"#{number % 3:02d}-{number % 60:02d}-00_{number % 3:02d}-{number % 60:02d}-45" if number % 4 else "#1"
        film = f"Stand.In {number}.{1990 + number % 30}" if number % 3 == 0 else f"v=st-{number:04d}_Iq"
        return f"{film}__{span}_label_{label}"

    train = [name(number, f"{code}-0-0") for number, code in enumerate(codes)]
    train += [name(number, "A") for number in range(len(codes), XD_TRAIN)]
    test = [name(XD_TRAIN + number, "B1-0-0" if number < 500 else "A") for number in range(XD_TEST)]
    clicks = [(video, rng.randrange(20, 400)) for video in train[: len(codes)]]
    clicks += [(rng.choice(train[: len(codes)]), rng.randrange(400, 5000)) for _ in range(XD_CLICKS - len(clicks))]
    write_csv(folder / "xd-violence.training.csv", ["video-id"], [[video] for video in train])
    write_csv(folder / "xd-violence.testing.csv", ["video-id"], [[video] for video in test])
    write_csv(folder / "xd_glance_annotations.csv", ["video-id", "glance"], sorted(map(list, clicks)))


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    """Write a table with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def read_column(path: Path) -> list[str]:
    """Return the first column of a table below its header."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row[0] for row in csv.reader(file)][1:]


def make_annotations(given: Path | None, folder: Path, share: float) -> bool:
    """Put lists and clicks into `folder`, of a share of the videos; return whether XD-Violence's are stand-ins."""
    folder.mkdir(parents=True)
    names = ["training.csv", "testing.csv"]
    ucf = [*(f"ucf-crime.{name}" for name in names), "ucf_glance_annotations.csv"]
    xd = [*(f"xd-violence.{name}" for name in names), "xd_glance_annotations.csv"]
    if given is None or not all((given / name).is_file() for name in ucf):
        sys.exit(f"--annotations: a folder with {', '.join(ucf)} is needed, of the GlanceVAD repository")
    is_stand_in = not all((given / name).is_file() for name in xd)
    for name in ucf if is_stand_in else [*ucf, *xd]:
        shutil.copyfile(given / name, folder / name)
    if is_stand_in:
        write_xd_stand_ins(folder)
    if share < 1:
        for prefix, glances in (("ucf-crime", ucf[2]), ("xd-violence", xd[2])):
            kept: set[str] = set()
            for name in names:
                listed = read_column(folder / f"{prefix}.{name}")
                some = [
                    video for number, video in enumerate(listed) if int(number * share) != int((number + 1) * share)
                ]
                kept |= set(some)
                write_csv(folder / f"{prefix}.{name}", ["video-id"], [[video] for video in some])
            with (folder / glances).open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row[0] in kept]
            write_csv(folder / glances, ["video-id", "glance"], rows)
    return is_stand_in


# Films and features


def encode_stills() -> list[list[bytes]]:
    """Return the packets of groups of pictures, each of another still tiny picture."""
    return [[bytes(packet) for packet in encode_still(number)[1]] for number in range(STILLS)]


def encode_still(number: int) -> tuple[bytes, list[Any]]:
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
    content = target.getvalue()
    with av.open(io.BytesIO(content)) as source:
        return content, [packet for packet in source.demux(source.streams.video[0]) if packet.size]


def write_film(path: Path, model: bytes, groups: list[list[bytes]], frames: int, rng: random.Random) -> None:
    """Write a film of `frames` frames in the way of `model`: groups of packets in an order of its own."""
    import av

    with av.open(io.BytesIO(model)) as source, av.open(str(path), "w", format="mp4") as target:
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


@dataclass
class StandIns:
    """What was laid out: frames and bytes in all, and what a build of it should find."""

    frames: int = 0
    size: int = 0
    files: int = 0
    videos: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    clicks: Counter[str] = field(default_factory=Counter)


def lay_out(root: Path, share: float) -> StandIns:
    """Write the files of both datasets as they unpack, the features, and human sentences on UCF-Crime."""
    import numpy as np

    from pipeline.config import SourcesConfig
    from pipeline.sources.catalogue import load_catalogue

    rng = random.Random(1)
    noise = np.random.default_rng(1)
    catalogue = load_catalogue(
        SourcesConfig(datasets=["ucf-crime", "xd-violence"], annotations=[str(root / "annotations")])
    )
    clicks: defaultdict[str, list[int]] = defaultdict(list)
    for file in catalogue.glances:
        with Path(file).open(newline="", encoding="utf-8") as lines:
            for row in list(csv.reader(lines))[1:]:
                clicks[row[0]].append(int(row[1]))
    model, groups = encode_still(0)[0], encode_stills()
    (root / "features").mkdir()
    laid = StandIns()
    sentences = {}
    left_out = math.ceil(LEFT_OUT * share)
    past_end = PAST_END
    for dataset in catalogue.datasets.values():
        for number, video in enumerate(dataset.videos.values()):
            last = max(clicks[video.name], default=0)
            wanted = last + rng.randrange(2, 300) if last else min(20_000, int(rng.lognormvariate(7.3, 0.8)) + 60)
            if past_end and dataset.name == "ucf-crime" and 300 < last < 3000:
                frames, past_end = last, past_end - 1
            else:
                frames = wanted
            write_film(root / "film.mp4", model, groups, frames, rng)
            # a box that players pass over makes every file another one
            mark = video.name.encode()
            content = (root / "film.mp4").read_bytes() + (len(mark) + 8).to_bytes(4, "big") + b"free" + mark
            is_cut = (
                bool(left_out) and dataset.name == "xd-violence" and (video.split, video.label) == ("train", "Normal")
            )
            if is_cut:
                left_out -= 1
                content = content[: len(content) // 3]
            else:
                laid.videos[dataset.name, video.split, str(video.label)] += 1
                laid.frames += frames
            laid.clicks[dataset.name] += len(clicks[video.name])
            folders = folders_of(dataset.name, video.split, str(video.label), number, share)
            for folder in folders:
                (root / folder).mkdir(parents=True, exist_ok=True)
                (root / folder / f"{video.name}.mp4").write_bytes(content)
                laid.size += len(content)
                laid.files += 1
            snippets = noise.normal(size=(math.ceil(frames / 16), 32)).astype(np.float16)
            for click in clicks[video.name]:
                snippets[max(0, click // 16 - 6) : click // 16 + 7, :8] += 2
            np.save(root / "features" / f"{video.name}.npy", snippets)
            if dataset.name == "ucf-crime" and video.split == "train" and number % 2:
                spans = [(max(0, click / FPS - 5), min(frames, click + 150) / FPS) for click in clicks[video.name][:4]]
                spans = spans or [(0.0, min(frames / FPS, 20.0))]
                sentences[video.name] = {
                    "duration": frames / FPS,
                    "timestamps": spans,
                    "sentences": [
                        say("A", hashlib.sha256(f"{video.name}{span}".encode()).hexdigest()) for span in spans
                    ],
                }
    (root / "film.mp4").unlink()
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

WHO = [
    "man",
    "woman",
    "guard",
    "cyclist",
    "driver",
    "customer",
    "clerk",
    "courier",
    "visitor",
    "worker",
    "student",
    "couple",
]
LOOK = ["red coat", "blue shirt", "white hat", "dark jacket", "yellow vest", "grey hood", "green scarf", "striped top"]
DOES = ["stands", "walks", "waits", "turns round", "looks about", "sits down", "steps aside", "leans over", "comes in"]
WHERE = ["counter", "gate", "parked van", "shop door", "bus stop", "stairway", "bench", "crossing", "garage", "fence"]
WHEN = ["at dusk", "in bright light", "in the rain", "at night", "in the morning", "under lamps", "in fog", "at noon"]


def say(article: str, name: str) -> str:
    """Return a sentence of plain words that follow from `name`, hexadecimal digits."""
    who, look, does, where, when, other = (
        words[int(name[4 * at : 4 * at + 4], 16) % len(words)]
        for at, words in enumerate([WHO, LOOK, DOES, WHERE, WHEN, WHO])
    )
    return f"{article} {who} in a {look} {does} by the {where} {when}, and a {other} passes."


def answer(body: dict[str, Any], name: str) -> str:
    """Return what a good model would say to a request of the engine's prompts."""
    text = str(body["messages"])
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties")
    if schema is None:
        return say("A", name)
    found = re.search(r"<label>\\n(.*?)\\n</label>", text)
    label = found[1] if found else "Normal"
    event = "" if label == "Normal" else f" There is {label.partition(': ')[2]}."
    opening = ["The video shows a", "A", "In this video, a", "At first the video shows a"][int(name[0], 16) % 4]
    reason = (
        "nobody disturbs anyone" if label == "Normal" else "it does not belong to the ordinary course of this place"
    )
    judgement = "normal" if label == "Normal" else "abnormal"
    said = {
        "judgement": judgement,
        "description": say(opening, name) + event,
        "analysis": f"This is {judgement} because {reason}, where {say('a', name[::-1])}",
        "caption": say("A", name) + event,
    }
    return json.dumps({key: said[key] for key in schema})


def serve(port: int) -> None:
    """Answer chat completions for ever."""
    sys.path.insert(0, str(REPOSITORY / "tests/helpers"))
    from http_server import Call, HttpServer, Reply

    def handle(call: Call) -> Reply:
        body = json.loads(call.body)
        name = hashlib.sha256(call.body).hexdigest()
        text = answer(body, name)
        usage = {"prompt_tokens": len(call.body) // 4, "completion_tokens": len(text) // 4}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        reply = {"id": name, "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        return Reply(body=json.dumps(reply | {"usage": usage}).encode(), delay_s=0.003)

    async def main() -> None:
        http = HttpServer(handle, port)
        server = await http.start()
        print(http.url, flush=True)
        await server.serve_forever()

    asyncio.run(main())


# The run


@dataclass
class Measured:
    """Wall time, processor time and peak memory by stage, over the runs of a rehearsal, without the server."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak_mb: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


def settings(root: Path, url: str, workers: int) -> Iterator[str]:
    """Yield what the rehearsal sets beside the recipe."""
    endpoint = f"base_url={url}/v1"
    yield from (
        f"videos=[{root}/UCF_Crimes,{root}/XD-Violence]", f"sources.annotations=[{root}/annotations]",
        f"workspace={root}/w", "features.encoder=npy", f"features.folders=[{root}/features]", "sampler.cpu_minutes=0.1",
        "sampler.search='off'", "sampler.folds=1",
        "clips.files=reference", "caption.backend=openai", "caption.model=stand-in", f"caption.{endpoint}",
        "caption.num_frames=2", "caption.dtype=auto", "caption.concurrency=16", f"synthesize.{endpoint}",
        f"video.workers={workers}",
    )  # fmt: skip


def build(root: Path, url: str, workers: int, measured: Measured, kill_in: str | None = None) -> list[str]:
    """Run the recipe, measuring by its log; return the log. With `kill_in`, kill it amid that stage."""
    import psutil

    command = [sys.executable, "-m", "flows.cli", "build", "-c", "datasets/vad-instruct50k.yaml"]
    for one in settings(root, url, workers):
        command += ["--set", one]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OPENAI_API_KEY": "none"}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    stage, log, seen = "start", [], 0.0
    is_over = threading.Event()

    def watch() -> None:
        nonlocal seen
        while not is_over.wait(0.2):
            try:
                parent = psutil.Process(process.pid)
                tree = [parent, *parent.children(recursive=True)]
                used = sum(one.memory_info().rss for one in tree)
                spent = sum(sum(one.cpu_times()[:2]) for one in tree) + sum(parent.cpu_times()[2:4])
            except psutil.Error:
                continue
            measured.peak_mb[stage] = max(measured.peak_mb[stage], used / 2**20)
            measured.cpu_s[stage] += max(0.0, spent - seen)
            seen = max(seen, spent)

    def kill() -> None:
        os.killpg(process.pid, signal.SIGKILL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line.rstrip())
        if begun := re.search(r" (\w+): to do=(\d+)", line):
            now = time.monotonic()
            measured.seconds[stage] += now - began
            began, stage = now, begun[1]
            if stage == kill_in:
                threading.Timer(max(1.0, int(begun[2]) / 2000), kill).start()
        elif " filter: made=" in line:
            now = time.monotonic()
            measured.seconds[stage] += now - began
            began, stage = now, "export"
    is_over.set()
    watcher.join()
    measured.seconds[stage] += time.monotonic() - began
    code = process.wait()
    if code not in ((-signal.SIGKILL,) if kill_in else (0,)):
        sys.exit("\n".join([*log[-20:], f"holmes build ended with {code}"]))
    return log


def check(root: Path, laid: StandIns) -> dict[str, Any]:
    """Compare what was built with the lists, and return the figures."""
    from pipeline.config import SourcesConfig
    from pipeline.sources.catalogue import load_catalogue
    from pipeline.workspace import Workspace

    workspace = Workspace(str(root / "w"))
    catalogue = load_catalogue(
        SourcesConfig(datasets=["ucf-crime", "xd-violence"], annotations=[str(root / "annotations")])
    )
    source_of = {name: key for key, dataset in catalogue.datasets.items() for name in dataset.videos}
    splits = {row.video_id: row.split for row in workspace.splits.records()}
    videos = Counter(
        (source_of[video.video_id], splits[video.video_id], str(video.label)) for video in workspace.videos.records()
    )
    assert videos == laid.videos, (videos - laid.videos, laid.videos - videos)
    clicks = Counter(source_of[glance.video_id] for glance in workspace.glances.records())
    assert clicks == laid.clicks, (clicks, laid.clicks)
    clips = list(workspace.clips.records())
    assert all(splits[clip.video_id] == "train" for clip in clips)
    captions = Counter(caption.captioner for caption in workspace.captions.records())
    stats = json.loads((root / "w/dataset/stats.json").read_text())
    return {
        "videos": {
            f"{source} {split}": sum(count for key, count in videos.items() if key[:2] == (source, split))
            for source, split in sorted({key[:2] for key in videos})
        },
        "classes": {" ".join(key): count for key, count in sorted(videos.items())},
        "clicks": dict(clicks),
        "clips": len(clips),
        "captions": dict(captions),
        "rows": stats["rows"],
        "rejected": {
            table: dict(Counter(row.reason for row in getattr(workspace, table).rejected()))
            for table in ("videos", "glances", "clips", "captions", "pairs", "verdicts")
        },
    }


def main() -> None:
    """Lay out, build, kill, build again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, help="folder of the published lists and clicks")
    parser.add_argument("--share", type=float, default=1.0, help="share of the videos, for a try")
    parser.add_argument("--folder", type=Path, help="folder for everything, kept; default: a temporary one")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode; 0: one a core")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        serve(chosen.serve)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = (chosen.folder or Path(temporary) / "rehearsal").absolute()
        root.mkdir(parents=True)
        measured = Measured()
        began, spent = time.monotonic(), time.process_time()
        is_stand_in = make_annotations(chosen.annotations, root / "annotations", chosen.share)
        laid = lay_out(root, chosen.share)
        measured.seconds["stand-ins"] = time.monotonic() - began
        measured.cpu_s["stand-ins"] = time.process_time() - spent
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", "0"], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            build(root, url, chosen.workers, measured, kill_in="synthesize")
            log = build(root, url, chosen.workers, measured)
            figures = check(root, laid)
            again = Measured()
            idle = build(root, url, chosen.workers, again)
        finally:
            server.terminate()
        made = sum(int(count) for line in idle for count in re.findall(r": made=(\d+)", line))
        figures |= {
            "xd_violence_is_stand_in": is_stand_in,
            "files": laid.files,
            "frames": laid.frames,
            "stand_in_mb": laid.size / 2**20,
            "seconds": dict(measured.seconds),
            "cpu_s": dict(measured.cpu_s),
            "peak_mb": dict(measured.peak_mb),
            "second_run": {"made": made, "seconds": sum(again.seconds.values())},
            "after_the_kill": [line for line in log if "synthesize: to do" in line],
            "said": [line for line in log if "ucf-crime" in line or "xd-violence" in line or "past the end" in line],
        }
        print(json.dumps(figures, indent=1))
        print("| stage | seconds | of the processor | peak memory, MB |\n|---|---:|---:|---:|")
        for stage, seconds in measured.seconds.items():
            print(f"| {stage} | {seconds:.0f} | {measured.cpu_s[stage]:.0f} | {measured.peak_mb[stage]:.0f} |")
        if chosen.json:
            chosen.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
