"""The wheel in an environment of its own, far from the repository: what `pip install` gives works, and plug-ins do."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from acme_package import write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[2]


class Environment:
    """A fresh environment that sees the libraries of this one, but not the engine that is installed in it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder)
        self._bin = folder / "bin"
        # a plain line in a .pth file puts the libraries on the path without starting the editable install among them
        libraries = Path(pytest.__file__).parents[1]
        (site,) = (folder / "lib").glob("python3*/site-packages")
        (site / "libraries.pth").write_text(f"{libraries}\n")

    def run(self, *arguments: str | Path, cwd: Path) -> str:
        return self._done([self._bin / str(arguments[0]), *arguments[1:]], cwd)

    def install(self, wheel: Path, cwd: Path) -> None:
        # by the pip of the tests: an environment without one of its own is made in no time
        pip = [sys.executable, "-m", "pip", "--python", self._bin / "python", "install", "--quiet"]
        self._done([*pip, "--no-deps", "--no-index", wheel], cwd)

    def _done(self, command: list[str | Path], cwd: Path) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


def build_wheel(project: Path, out: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, project],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("installed")
    environment = Environment(folder / "venv")
    environment.install(build_wheel(REPOSITORY, folder / "wheel"), folder)
    return environment


@pytest.fixture(scope="module")
def world(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample world, rendered by the installed command."""
    folder = tmp_path_factory.mktemp("sample")
    installed.run("holmes", "sample", "world", "--videos", "2", cwd=folder)
    return folder / "world"


def test_the_wheel_makes_and_checks_a_dataset(installed: Environment, world: Path, tmp_path: Path) -> None:
    where = installed.run("python", "-c", "import pipeline; print(pipeline.__file__)", cwd=tmp_path)
    assert str(REPOSITORY) not in where
    assert "caption" in installed.run("holmes", "prompts", "list", cwd=tmp_path)
    inputs = f"videos: [{world}/videos.csv]\nglances: [{world}/label_studio.json]\n"
    (tmp_path / "c.yaml").write_text(f"{inputs}workspace: w\n")
    installed.run("holmes", "build", "-c", "c.yaml", cwd=tmp_path)
    assert "valid" in installed.run("holmes", "validate", "w", cwd=tmp_path)
    # the recipes come along too, by the names that the documentation gives
    recipe = "datasets/training/holmes-tiny.yaml"
    assert "ok  inputs" in installed.run("holmes", "doctor", "-c", recipe, "--set", f"videos=[{world}]", cwd=tmp_path)


def test_a_plug_in_is_installed_and_used(installed: Environment, world: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "acme")
    installed.install(build_wheel(project, tmp_path / "wheel"), tmp_path)
    assert "acme-vad:words of acme-vad 1.2" in installed.run("holmes", "doctor", cwd=tmp_path)
    settings = ["--set", f"videos=[{world}/videos.csv]", "--set", f"glances=[{world}/label_studio.json]"]
    own = ["--set", "caption.backend=acme-vad:words", "--set", "caption.options={words: Two men meet.}"]
    installed.run("holmes", "build", *settings, *own, "--workspace", "w", cwd=tmp_path)
    read = "import pandas; print(set(pandas.read_parquet('w/tables/caption').captioner))"
    assert installed.run("python", "-c", read, cwd=tmp_path).strip() == "{'acme-vad:words'}"
