"""The generated sample world: CCTV-like scenes with known events."""

from pipeline.sample.plan import DURATION_S, FPS
from pipeline.sample.world import SampleSummary, make_sample

__all__ = ["DURATION_S", "FPS", "SampleSummary", "make_sample"]
