"""The repository's prompts/ and datasets/: links in a checkout, files of the package where it is installed."""

from importlib.resources import files
from pathlib import Path

PROMPTS = Path(str(files(__name__) / "prompts"))
DATASETS = Path(str(files(__name__) / "datasets"))
