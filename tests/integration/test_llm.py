"""A build and a judge with a small language model behind a real server, as `make llm` fetches them.

Takes some minutes on a free machine and shows with `-s` what it measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_server import needs_llm, running_llm

from flows.plan import build
from pipeline.config import BuildConfig, parse_config
from pipeline.records import CONFLICTS, Reason, Task
from pipeline.sample import make_sample
from pipeline.stages.base import StageReport
from pipeline.workspace import Workspace

pytestmark = [pytest.mark.llm, pytest.mark.timeout(7200), needs_llm]

PED2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "ped2"
TASKS = [Task.JUDGE_EXPLAIN, Task.DESCRIPTION, Task.ANALYSIS]
KEPT_SHARE = 0.95
MOST_CLIPS = 8


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_llm(tmp_path_factory.mktemp("llm")) as url:
        yield url


@pytest.fixture(scope="module", params=["ped2", "sample world"])
def footage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Ped2 with captions of its motion, and a small sample world with those of a video model."""
    if request.param == "ped2":
        if not PED2.is_dir():
            pytest.skip("Ped2 is not beside the repository")
        return {"videos": [str(PED2 / "videos.csv")], "glances": [str(PED2 / "glance_annotations.csv")]}
    world = tmp_path_factory.mktemp("world")
    make_sample(world, videos=4, seed=0)
    return {
        "videos": [str(world / "videos.csv")],
        "glances": [str(world / "label_studio.json")],
        "caption": {"backend": "hf", "model": "holmes-tiny"},
    }


def test_a_small_model_writes_rows_that_are_kept_and_judges_them(
    llm: str, footage: dict[str, Any], tmp_path: Path
) -> None:
    endpoint = {"backend": "openai", "model": "local", "base_url": llm, "concurrency": 2, "timeout_s": 600.0}
    settings: dict[str, Any] = {**footage, "workspace": str(tmp_path / "w"), "synthesize": {**endpoint, "tasks": TASKS}}
    config = parse_config(settings)
    reports = run(config)
    workspace = Workspace(config.workspace)
    asked = len(TASKS) * sum(1 for _ in workspace.clips.records())
    assert 0 < asked <= len(TASKS) * MOST_CLIPS
    synthesize, rules = reports["synthesize"], reports["filter"]
    assert synthesize.spent is not None
    assert synthesize.spent.requests <= 2 * asked, "more than one repair of an answer"
    rejected = Counter(synthesize.rejected) + Counter(rules.rejected)
    print(f"\nsynthesize: {rules.rows} of {asked} kept, rejected {dict(rejected)}; {speed_of(synthesize)}")
    for pair in workspace.pairs.records():
        print(f"  {pair.pair_id}: {pair.answer}")
    assert not rejected[Reason.WRONG_VERDICT]
    # A caption that tells of another event than the label is no fault of who writes the answers.
    asked -= rejected[Reason.EVENT_IN_NORMAL] + rejected[Reason.OTHER_EVENT]
    assert rules.rows >= KEPT_SHARE * asked, list(workspace.verdicts.rejected())

    settings["filter"] = {"judge": endpoint}
    judged = run(parse_config(settings))["filter"]
    print(f"judge: {judged.rows} of {rules.rows} kept, rejected {judged.rejected}; {speed_of(judged)}")
    assert judged.rows + sum(judged.rejected.values()) == rules.rows + sum(rules.rejected.values())
    decided = {Reason.JUDGED_POOR, *CONFLICTS}
    unread = sum(
        n for reason, n in (Counter(judged.rejected) - Counter(rules.rejected)).items() if reason not in decided
    )
    assert unread <= (1 - KEPT_SHARE) * rules.rows, list(workspace.verdicts.rejected())
    assert all(row.judge_score is not None for row in workspace.verdicts.records())


def run(config: BuildConfig) -> dict[str, StageReport]:
    return {report.stage: report for report in build(config).stages}


def speed_of(report: StageReport) -> str:
    spent = report.spent
    assert spent is not None
    rate = spent.completion_tokens / report.seconds
    return (
        f"{spent.requests} requests, {spent.prompt_tokens} prompt and {spent.completion_tokens} completion tokens in "
        f"{report.seconds:.0f} s, {rate:.1f} completion tokens a second"
    )
