from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config import BuildConfig, Recipe, SamplerConfig, describe_config, load_config, parse_config
from pipeline.errors import ConfigError


def test_smallest_config_has_defaults_for_all_else(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("videos: [a]\nglances: [b.csv]\nworkspace: runs/x\n")
    config = load_config(file)
    assert (config.videos, config.glances, config.workspace) == (["a"], ["b.csv"], "runs/x")
    assert (config.caption.backend, config.synthesize.backend) == ("motion", "template")


def test_overrides_win_over_the_file_and_are_typed(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("videos: [a]\nclips: {window_s: 8}\n")
    config = load_config(file, ["clips.window_s=6.5", "caption.files=[x.csv, y.json]", "export.embed_videos=true"], "w")
    assert config.clips.window_s == 6.5
    assert config.caption.files == ["x.csv", "y.json"]
    assert config.export.embed_videos is True
    assert config.workspace == "w"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vidoes": ["a"]}, "unknown key vidoes; the nearest valid key is videos"),
        (
            {"videos": ["a"], "clips": {"windows": 3}},
            "unknown key clips.windows; the nearest valid key is clips.window_s",
        ),
        ({"videos": ["a"], "clips": {"window_s": "long"}}, "clips.window_s = 'long': "),
        ({"videos": ["a"], "clips": {"window_s": -1}}, "clips.window_s = -1: Input should be greater than 0"),
        ({"videos": ["a"], "clips": {"min_s": 20, "window_s": 10}}, "min_s=20.0 exceeds window_s=10.0"),
        ({"videos": []}, "videos = []: "),
        ({}, "videos is required"),
        ({"videos": ["a"], "caption": {"backend": "magic"}}, "caption.backend = 'magic': "),
        ({"videos": ["a"], "synthesize": {"base_url": "http://me:secret@host/v1"}}, "OPENAI_API_KEY"),
    ],
)
def test_faults_name_key_value_and_limit(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(values, "my.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("my.yaml: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("videos: [a]\nclips: {\n", ":3:1: not valid YAML: "),
        ("- a\n", "a mapping of settings is expected"),
        ("", "videos is required"),
        (None, "no such config file"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file)
    assert str(file) in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"videos: [\xff]")
    with pytest.raises(ConfigError, match=r"config\.yaml: not UTF-8 text: byte 0xff"):
        load_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_a_section_without_settings_has_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("videos: [a]\nclips:\n  # window_s: 8\n")
    assert load_config(tmp_path / "config.yaml") == BuildConfig(videos=["a"])


@pytest.mark.parametrize("override", ["clips.window_s", "=3", "videos.x.y=1"])
def test_malformed_overrides_are_named(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(None, ["videos=[a]", override])


def test_described_config_is_the_default_config() -> None:
    text = "\n".join(describe_config())
    values = yaml.safe_load(text)
    values["videos"] = ["a"]
    assert parse_config(values) == BuildConfig(videos=["a"])
    assert all("#" in line for line in text.splitlines())


def test_operational_settings_stay_out_of_the_identity() -> None:
    quick = parse_config({"videos": ["a"], "synthesize": {"concurrency": 64, "base_url": "http://a/v1"}})
    slow = parse_config({"videos": ["a"], "synthesize": {"concurrency": 1, "base_url": "http://b/v1"}})
    other = parse_config({"videos": ["a"], "synthesize": {"temperature": 0.5}})
    assert quick.synthesize.identity() == slow.synthesize.identity()
    assert quick.synthesize.identity() != other.synthesize.identity()


def test_settings_added_later_stay_out_of_the_identity_at_their_defaults() -> None:
    recipe = SamplerConfig().identity()["recipe"]
    assert recipe.keys() == Recipe.model_fields.keys() - {"head", "part", "unit_length", "most_rows"}
    other = SamplerConfig(recipe=Recipe(head="trees")).identity()["recipe"]
    assert other == recipe | {"head": "trees"}
