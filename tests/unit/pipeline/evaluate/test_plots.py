"""Plots of an evaluation show what a recording lost."""

from __future__ import annotations

import numpy as np

from pipeline.evaluate.detector import EvaluatedVideo
from pipeline.evaluate.plots import draw_scores
from pipeline.sampler.curve import ScoreCurve


def test_what_is_lost_is_hatched_and_a_long_loss_has_no_scores() -> None:
    scores = np.full(10, 0.5, np.float32)
    curve = ScoreCurve(scores, 10, 100, 10.0, ((40, 60),))
    whole = EvaluatedVideo(video_id="whole", curve=ScoreCurve(scores, 10, 100, 10.0), events=())
    parted = EvaluatedVideo(video_id="parted", curve=curve, events=(), lost=((20, 21), (40, 60)))
    for video, hatched in ((whole, 0), (parted, 2)):
        axes = draw_scores(video, {}, 0.8, 0.5).axes[0]
        assert len([patch for patch in axes.patches if patch.get_hatch()]) == hatched
        drawn = np.asarray(axes.lines[0].get_ydata(), dtype=float)
        assert np.isnan(drawn[40:60]).all() == bool(hatched)
        assert np.isfinite(drawn[:40]).all()
        told = [text.get_text() for text in axes.get_legend().get_texts()]
        assert ("no picture" in told) == bool(hatched)
