"""Synthesis against a server that takes 200 ms for every answer: requests per second, and memory at 50,000 requests.

The server is a process of its own, and so is each client, so that times and peak memory are its own. The ideal of 64
requests in flight is 320 a second; bare sockets, which read nothing but lengths, show what the machine gives of it at
that moment. Beside the engine stands what one writes first: the openai client in `asyncio.gather` behind a semaphore;
and distilabel, where the Python of an environment that has it is named.

    python benchmarks/bench_synthesis.py [--requests 12800] [--memory 5000,50000] [--distilabel PYTHON] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

CONCURRENCY = 64
LATENCY_S = 0.2
IDEAL = CONCURRENCY / LATENCY_S
SERVER = Path(__file__).resolve().parents[1] / "tests/helpers/chat_server.py"


def make_requests(count: int) -> Iterator[object]:
    """Yield requests that all differ."""
    from pipeline.models.base import SynthesisRequest
    from pipeline.records import Caption, EventClip, Task

    for number in range(count):
        clip = EventClip(
            clip_id=f"clip{number}", video_id="v", start_s=0.0, end_s=4.0, start_frame=0, end_frame=100,
            glance_time_s=2.0, label="Fighting", anomaly_score=None, method="window",
        )  # fmt: skip
        text = f"Two men push each other beside a parked car, and a third one runs away. This is clip number {number}."
        caption = Caption(clip_id=clip.clip_id, text=text, captioner="human", prompt_hash=None)
        yield SynthesisRequest(clip=clip, caption=caption, task=Task.JUDGE_EXPLAIN, question="Is anything abnormal?")


def run_engine(url: str, count: int) -> int:
    """Synthesize through the engine, journal and all, and return how many drafts came."""
    from pipeline.config import SynthesizeConfig
    from pipeline.models.base import Draft
    from pipeline.models.chat.synthesizer import OpenAISynthesizer

    config = SynthesizeConfig(
        backend="openai", model="m", base_url=url, concurrency=CONCURRENCY, tasks=["judge_explain"]
    )
    with tempfile.TemporaryDirectory() as folder:
        results = OpenAISynthesizer(config, Path(folder)).synthesize(make_requests(count))  # type: ignore[arg-type]
        return sum(isinstance(result, Draft) for result in results)


def run_plain(url: str, count: int) -> int:
    """Ask the same of the openai client alone, read the same JSON, and return how many replies came."""
    import openai

    from pipeline.models.chat.drafts import write_messages
    from pipeline.models.replies import REPLIES, parse_object, response_format

    async def main() -> int:
        client = openai.AsyncOpenAI(api_key="none", base_url=url)
        slots = asyncio.Semaphore(CONCURRENCY)

        async def ask(request: object) -> object:
            async with slots:
                completion = await client.chat.completions.create(
                    model="m",
                    messages=write_messages(request)[1],  # type: ignore[arg-type]
                    response_format=response_format(request.task),  # type: ignore[attr-defined]
                    temperature=0.0,
                    max_tokens=400,
                )
            return parse_object(REPLIES[request.task], completion.choices[0].message.content or "")  # type: ignore[attr-defined]

        return len(await asyncio.gather(*map(ask, make_requests(count))))

    return asyncio.run(main())


def run_sockets(url: str, count: int) -> int:
    """Send one request over and over, read as many bytes as come back, and return how often."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "y" * 1500}]}).encode()
    call = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    turns = iter(range(count))

    async def ask() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        made = 0
        for _ in turns:
            writer.write(call)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r")[0]))
            made += 1
        return made

    async def main() -> int:
        return sum(await asyncio.gather(*(ask() for _ in range(CONCURRENCY))))

    return asyncio.run(main())


DISTILABEL = """
import json, resource, sys, time
from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps.tasks import TextGeneration
url, count, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if __name__ == "__main__":
    with Pipeline("bench") as pipeline:
        llm = OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 400})
        TextGeneration(llm=llm, input_batch_size=concurrency)
    text = "Two men push each other beside a parked car. " * 40
    rows = [{"instruction": f"Describe the street number {i}. {text}"} for i in range(count)]
    started = time.perf_counter()
    out = pipeline.run(dataset=rows, use_cache=False)
    seconds = time.perf_counter() - started
    peak_kb = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    made = sum(1 for row in out["default"]["train"] if row["generation"])
    print(json.dumps({"made": made, "seconds": seconds, "peak_mb": peak_kb / 1024}))
"""


def measure(client: str, url: str, count: int) -> None:
    """Run one client in this process and print its figures as JSON; imports are not counted."""
    import openai

    from pipeline.models import openai_synthesizer  # noqa: F401

    assert openai.AsyncOpenAI
    started, cpu = time.perf_counter(), time.process_time()
    made = {"engine": run_engine, "plain": run_plain, "sockets": run_sockets}[client](url, count)
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "made": made,
                "seconds": seconds,
                "cpu_ms": 1000 * (time.process_time() - cpu) / count,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def start(command: list[str], count: int) -> dict[str, float]:
    """Run a client against a fresh server, and return its figures."""
    server = subprocess.Popen(
        [sys.executable, str(SERVER), "--latency-s", str(LATENCY_S)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        done = subprocess.run(
            [*command, url, str(count), str(CONCURRENCY)], stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        server.kill()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert figures["made"] == count, figures
    figures["per_s"] = count / figures["seconds"]
    figures["share_of_ideal"] = figures["per_s"] / IDEAL
    return figures


def main() -> None:
    """Measure all clients and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=12_800)
    parser.add_argument("--memory", default="5000,50000", help="numbers of requests to compare the peak memory of")
    parser.add_argument("--distilabel", help="the Python of an environment that has distilabel[openai]")
    parser.add_argument("--json", type=Path)
    parser.add_argument("client", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        client, url, count, _ = arguments.client
        measure(client, url, int(count))
        return
    this = [sys.executable, str(Path(__file__))]
    runs = {
        "engine": ([*this, "engine"], arguments.requests),
        "bare sockets": ([*this, "sockets"], arguments.requests),
        "openai client, asyncio.gather": ([*this, "plain"], arguments.requests),
    }
    if arguments.distilabel:
        runs["distilabel"] = ([arguments.distilabel, "-c", DISTILABEL], arguments.requests)
    for count in map(int, filter(None, arguments.memory.split(","))):
        runs[f"engine, {count:,} requests"] = ([*this, "engine"], count)
    print(f"{'':<34}{'requests/s':>11}{'of ideal':>10}{'CPU ms':>8}{'peak MB':>9}   load")
    results = {}
    for name, (command, count) in runs.items():
        results[name] = figures = start(command, count)
        print(
            f"{name:<34}{figures['per_s']:>11.1f}{figures['share_of_ideal']:>10.3f}"
            f"{figures.get('cpu_ms', float('nan')):>8.2f}{figures['peak_mb']:>9.1f}   {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
