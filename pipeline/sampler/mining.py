"""From clicks to targets: mining of snippets around clicks and rendering of Gaussians (GlanceVAD, Algorithm 1).

All functions work on a batch of videos of different lengths, padded to one, without a loop over videos or clicks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mine_events(scores: Tensor, glances: Tensor, lengths: Tensor, alpha: float) -> Tensor:
    """Mark the snippets around each click that score like it.

    From each click one walks left and right, marking snippets while their score exceeds `alpha` times that of the
    click, and stops at the first that does not, at the neighbouring click, or at the end of the video.

    Args:
        scores: in [0, 1], shape (B, T).
        glances: bool, shape (B, T): snippets that hold a click.
        lengths: snippets of each video, shape (B,); what lies beyond is padding and never marked.
        alpha: share of the click's score.

    Returns:
        Bool, shape (B, T); the clicks themselves are always marked.
    """
    inside = valid_mask(lengths, scores.shape[1])
    glances = glances & inside
    rightward = _walk(scores, glances, alpha)
    leftward = _walk(scores.flip(1), glances.flip(1), alpha).flip(1)
    return (rightward | leftward) & inside


def _walk(scores: Tensor, glances: Tensor, alpha: float) -> Tensor:
    """Mark what is reached from the nearest click before each snippet."""
    index = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    click = torch.where(glances, index, -1).cummax(dim=1).values
    threshold = alpha * scores.gather(1, click.clamp(min=0))
    stops = (scores <= threshold) & ~glances
    last_stop = torch.where(stops, index, -1).cummax(dim=1).values
    return (click >= 0) & (click > last_stop)


def render(marks: Tensor, lengths: Tensor, sigma: float) -> Tensor:
    """Turn marks into soft targets: the maximum of a Gaussian around every mark.

    A video is the interval [-1, 1], its first snippet -1 and its last 1, whatever its length. Every Gaussian is scaled
    to span [0, 1] over the video, and so is the maximum of them.

    Args:
        marks: bool, shape (B, T).
        lengths: snippets of each video, shape (B,).
        sigma: width of the Gaussians on that axis.

    Returns:
        float32 in [0, 1], shape (B, T); 0 beyond a video's end and in videos without a mark.
    """
    count = marks.shape[1]
    inside = valid_mask(lengths, count)
    # Videos longer than the training sequence all have its length, and one table of kernels then serves the batch.
    alike = bool((lengths == lengths[:1]).all())
    kernels = _kernels(lengths[:1] if alike else lengths, count, sigma)
    rendered = torch.where((marks & inside)[:, :, None], kernels, 0.0).amax(dim=1)
    return _spread(rendered, inside)


def _kernels(lengths: Tensor, count: int, sigma: float) -> Tensor:
    """Return the scaled Gaussian around every snippet m at every snippet t, shape (len(lengths), m, t)."""
    index = torch.arange(count, device=lengths.device, dtype=torch.float32)
    unit = 2.0 / (lengths - 1).clamp(min=1).to(torch.float32)
    distance = (index[None, :] - index[:, None]).abs() * unit[:, None, None]
    kernel = torch.exp(-(distance**2) / (2 * sigma**2))
    inside = valid_mask(lengths, count)[:, None, :]
    return _spread(kernel, inside.expand_as(kernel))


def _spread(values: Tensor, inside: Tensor) -> Tensor:
    """Scale the last axis to span [0, 1] inside; rows of one value keep it."""
    low = values.masked_fill(~inside, torch.inf).amin(dim=-1, keepdim=True)
    high = values.masked_fill(~inside, -torch.inf).amax(dim=-1, keepdim=True)
    flat = high <= low
    scaled = torch.where(flat, values, (values - low) / (high - low).masked_fill(flat, 1.0))
    return scaled.masked_fill(~inside, 0.0)


def valid_mask(lengths: Tensor, count: int) -> Tensor:
    """Return True where a snippet belongs to its video, shape (B, count)."""
    return torch.arange(count, device=lengths.device)[None, :] < lengths[:, None]
