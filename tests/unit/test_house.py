"""The house rules: import directions, traps of folder names, a command that answers at once."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    "pipeline", "flows", "annotation", "prompts", "datasets", "tests", "pyproject.toml", "README.md", "LICENSE",
    "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "prefect.yaml", "requirements.lock", ".ci", "docs", "benchmarks",
    ".gitignore", "mkdocs.yml",
}  # fmt: skip


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def test_hugging_face_datasets_is_not_shadowed_at_the_root() -> None:
    done = python("-c", "from datasets import load_dataset; import datasets; print(datasets.__file__)")
    assert done.returncode == 0, done.stderr
    assert str(REPOSITORY / "datasets") not in done.stdout


def test_datasets_and_prompts_hold_data_only() -> None:
    assert [name for name in tracked() if name.startswith(("datasets/", "prompts/")) and name.endswith(".py")] == []


def test_tests_are_no_packages() -> None:
    assert [name for name in tracked() if name.startswith("tests/") and name.endswith("__init__.py")] == []


def test_top_level_is_what_was_agreed() -> None:
    assert {name.split("/", 1)[0] for name in tracked()} <= TOP_LEVEL


def test_no_flow_file_is_named_like_an_importable_package() -> None:
    # Prefect puts flows/ on sys.path, where such a name would shadow the package.
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() not in {REPOSITORY, REPOSITORY / "flows"}]
    finder = importlib.machinery.PathFinder()
    for file in (REPOSITORY / "flows").glob("*.py"):
        assert finder.find_spec(file.stem, elsewhere) is None, file.name


def test_help_loads_nothing_heavy() -> None:
    """What --help takes is what it imports: none of the libraries that take seconds."""
    done = python("-X", "importtime", "-m", "flows.cli", "--help")
    assert done.returncode == 0, done.stderr
    imported = set(re.findall(r"\|\s+(\S+)$", done.stderr, flags=re.MULTILINE))
    assert "flows.cli" in done.stdout or "build" in done.stdout
    assert imported & {"torch", "transformers", "cv2", "av", "pandas", "pyarrow", "numpy", "prefect", "openai"} == set()


def test_library_needs_no_prefect() -> None:
    """`holmes build` runs where Prefect is broken or absent."""
    code = "import sys; sys.modules['prefect'] = None; import flows.plan, flows.cli, annotation.stage"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_lock_pins_every_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[<>=;~! ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    pinned = dict(
        line.split("==") for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if "==" in line
    )
    assert names - {"holmes-engine"} <= pinned.keys()
    assert pinned["torch"] == "2.13.0"
