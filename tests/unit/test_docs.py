"""The documentation: its generated pages are complete, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.config import describe_config

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
GENERATED = {"reference/commands.md", "reference/config.md", "notebooks/from_clips_to_sampler.md"}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_commands_page_has_every_group_and_its_options(hooks: ModuleType) -> None:
    page = "\n".join(hooks.commands_page())
    for heading in ("## holmes build", "## holmes detect", "### holmes labelstudio pull", "### holmes train lora"):
        assert f"\n{heading}\n" in page
    assert "| `-c`, `--config` | YAML file of settings |  |" in page
    assert "`--poll-every SECONDS`" in page
    assert "`--max-mb` | largest video in MB | `500` |" in page
    assert re.search(r"`--workspace` \|[^\n]*\(required\) \|", page)


def test_config_page_has_every_setting_with_its_limits(hooks: ModuleType) -> None:
    page = "\n".join(hooks.config_page())
    tables = page.partition("## As a file")[0]
    settings = [line.strip().partition(":")[0] for line in describe_config() if not re.match(r"\s*\w+:  #", line)]
    assert len(settings) > 150
    assert [name for name in settings if f"| `{name}`" not in tables] == []
    assert "| `lr` | `0.0002` |" in tables
    assert "`workers`&nbsp;†" in tables
    assert "*(at least 2, at most 512)*" in tables.replace("; ", ", ")
    assert "\n## clips.proposal\n" in tables


def test_notebook_page_shows_code_outputs_and_pictures(hooks: ModuleType, tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {
            "cell_type": "code",
            "source": ["print('a|b')"],
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["a|b\n"]},
                {"output_type": "stream", "name": "stderr", "text": ["log"]},
                {"output_type": "execute_result", "data": {"image/png": "iVBORw0K", "text/plain": ["<Image>"]}},
            ],
        },
    ]
    (tmp_path / "tour.ipynb").write_text(json.dumps({"cells": cells}))
    pages = hooks.notebook_page(tmp_path / "tour.ipynb")
    assert pages["notebooks/tour-1.png"] == b"\x89PNG\r\n"
    page = pages["notebooks/tour.md"]
    assert page.startswith("# Title\n")
    assert "```python\nprint('a|b')\n```" in page
    assert "```text\na|b\n```" in page
    assert "(tour-1.png)" in page
    assert "log" not in page
    assert "<Image>" not in page


def pages() -> list[Path]:
    at_the_root = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*at_the_root, *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    missing = []
    for link in LINK.findall(text):
        target = (page.parent / link).resolve()
        made = target.is_relative_to(DOCS) and target.relative_to(DOCS).as_posix() in GENERATED
        if not made and not target.exists():
            missing.append(link)
    assert missing == []
