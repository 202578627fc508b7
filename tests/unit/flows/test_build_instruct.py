"""The flow `build-instruct` and its deployments, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from prefect.cache_policies import NO_CACHE
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Failed
from prefect.utilities.callables import parameter_schema

from flows import build_instruct as flow_module
from flows.build_instruct import build_instruct, choose_config, rejects_as_markdown, run_stage_task
from flows.plan import BuildSummary
from pipeline.config import BuildConfig
from pipeline.errors import ConfigError, DataError, SetupError, UnavailableError
from pipeline.stages.base import StageReport

REPOSITORY = Path(__file__).resolve().parents[3]
PREFECT_YAML = (REPOSITORY / "prefect.yaml").read_text()
DEPLOYMENTS = {deployment["name"]: deployment for deployment in yaml.safe_load(PREFECT_YAML)["deployments"]}


def report(stage: str, **rejected: int) -> StageReport:
    return StageReport(stage=stage, made=1, kept=0, dropped=0, rows=1, rejected=rejected, seconds=0.1)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_entrypoint_of_each_deployment_is_the_flow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    flow: Any = load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"], use_placeholder_flow=False)
    assert flow.name == name.removesuffix("-gpu")
    # Without this an interactive `prefect deploy --all` would stop and ask for a schedule.
    assert DEPLOYMENTS[name]["schedules"] == []


def test_deployments_go_to_two_pools_and_name_no_absolute_path() -> None:
    pools = {name: deployment["work_pool"]["name"] for name, deployment in DEPLOYMENTS.items()}
    assert pools.pop("build-instruct-gpu") == "holmes-gpu"
    assert set(pools.values()) == {"holmes"}
    assert not [word for word in PREFECT_YAML.split() if word.startswith("/")]


def test_parameters_of_the_gpu_deployment_make_a_valid_config() -> None:
    overrides = DEPLOYMENTS["build-instruct-gpu"]["parameters"]["overrides"]
    config = choose_config(None, BuildConfig(videos=["a.mp4"]), overrides, None)
    assert (config.caption.backend, config.synthesize.backend) == ("hf", "openai")
    assert DEPLOYMENTS["build-instruct-gpu"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_schema_of_the_parameters_holds_every_setting_with_its_limits() -> None:
    schema = parameter_schema(build_instruct).model_dump()
    assert list(schema["properties"]) == ["config", "settings", "overrides", "workspace"]
    assert not schema.get("required")
    definitions = schema["definitions"]
    assert set(definitions["BuildConfig"]["properties"]) == set(BuildConfig.model_fields)
    assert definitions["BuildConfig"]["additionalProperties"] is False
    assert definitions["ClipsConfig"]["properties"]["window_s"]["exclusiveMinimum"] == 0


def test_overrides_win_over_file_and_settings_and_workspace_over_all(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("videos: [a.mp4]\nclips: {window_s: 6}\nworkspace: runs/a\n")
    for given in ((file, None), (None, BuildConfig.model_validate(yaml.safe_load(file.read_text())))):
        assert choose_config(*given, [], None).clips.window_s == 6
        config = choose_config(*given, ["clips.window_s=4", "workspace=runs/b"], "runs/c")
        assert (config.clips.window_s, config.workspace) == (4, "runs/c")


def test_bad_parameters_are_named(tmp_path: Path) -> None:
    settings = BuildConfig(videos=["a.mp4"])
    with pytest.raises(ConfigError, match=r"unknown key clips\.windw_s; the nearest valid key is clips\.window_s"):
        choose_config(None, settings, ["clips.windw_s=3"], None)
    with pytest.raises(ConfigError, match="exclude each other"):
        choose_config(tmp_path / "site.yaml", settings, [], None)
    with pytest.raises(ConfigError, match="no such config file"):
        choose_config(tmp_path / "site.yaml", None, [], None)


@pytest.mark.parametrize(
    ("fault", "retried"),
    [
        (UnavailableError("no answer"), True),
        (OSError("stale file handle"), True),
        (RuntimeError("CUDA error"), True),
        (DataError("no readable video"), False),
        (SetupError("no model"), False),
        (ConfigError("unknown key"), False),
    ],
)
def test_only_what_may_heal_is_tried_again(fault: Exception, retried: bool) -> None:
    condition: Any = run_stage_task.retry_condition_fn
    assert condition(run_stage_task, None, Failed(data=fault)) is retried


def test_prefect_stores_no_results() -> None:
    """The rows of the workspace alone say what is done: a stored result would be a second, staler answer."""
    for task in (run_stage_task, flow_module.make_demo_config):
        assert task.cache_policy is NO_CACHE
        assert task.persist_result is False


def test_stage_goes_on_while_its_progress_cannot_be_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[float] = []

    def update(_artifact: UUID, percent: float) -> None:
        shown.append(percent)
        if percent < 100:
            raise httpx.ConnectError("server away")

    def run_step(name: str, _workspace: object, _config: object, on_progress: Any) -> StageReport:
        on_progress(name, 1, 4)
        return report(name)

    monkeypatch.setattr(flow_module, "create_progress_artifact", lambda *_args, **_named: uuid4())
    monkeypatch.setattr(flow_module, "update_progress_artifact", update)
    monkeypatch.setattr(flow_module, "get_run_logger", lambda: flow_module.logging.getLogger("flows"))
    monkeypatch.setattr(flow_module, "run_step", run_step)
    monkeypatch.setattr(flow_module, "PROGRESS_EVERY_S", 0.0)
    config = BuildConfig(videos=["a.mp4"], workspace=str(tmp_path / "workspace"))
    assert run_stage_task.fn("ingest", config) == report("ingest")
    assert shown == [25.0, 100.0]


def test_rejects_are_listed_by_stage_and_reason() -> None:
    assert rejects_as_markdown([report("ingest")]) == "Nothing was rejected."
    listed = rejects_as_markdown([report("ingest", truncated=2), report("clips"), report("filter", leaked_prompt=1)])
    assert listed.splitlines()[2:] == ["| ingest | truncated | 2 |", "| filter | leaked_prompt | 1 |"]


def test_sample_world_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flow_module, "DEMO_FOLDER", tmp_path)
    (tmp_path / "config.yaml").write_text("videos: [a.mp4]\n")
    assert flow_module.make_demo_config.fn() == tmp_path / "config.yaml"


def test_bare_run_builds_the_sample_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("videos: [a.mp4]\nworkspace: demo/workspace\n")
    built: list[BuildConfig] = []

    def run_plan(config: BuildConfig) -> BuildSummary:
        built.append(config)
        return BuildSummary(
            workspace=config.workspace, dataset=tmp_path, report=tmp_path, stages=(report("ingest"), report("export"))
        )

    monkeypatch.setattr(flow_module, "log_to_prefect", lambda: None)
    monkeypatch.setattr(flow_module, "make_demo_config", lambda: tmp_path / "config.yaml")
    monkeypatch.setattr(flow_module, "run_plan", run_plan)
    state = build_instruct.fn()
    assert state.is_completed()
    assert state.message == f"1 rows in {tmp_path}"
    assert built == [BuildConfig(videos=["a.mp4"], workspace="demo/workspace")]


def test_fault_becomes_the_message_of_a_failed_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flow_module, "log_to_prefect", lambda: None)
    monkeypatch.setattr(flow_module, "get_run_logger", lambda: flow_module.logging.getLogger("flows"))
    state = build_instruct.fn(config=tmp_path / "site.yaml")
    assert state.is_failed()
    assert state.message == f"{tmp_path}/site.yaml: no such config file"
