"""UR-DMU (Zhou et al., AAAI 2023): dual memory units with uncertainty regulation, for scores per snippet.

The mathematics is the published one, over sequences of different lengths. Three identities make it cheaper: a memory is
read by sigmoid attention without normalisation, so a linear map of what is read equals reading the mapped slots;
whatever follows a mean over chosen snippets and is linear may be applied to the mean; and the local branch of the
attention is linear all through, so that its two projections are one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name by which it is known
from torch import Tensor, nn

from pipeline.config import NetworkConfig
from pipeline.sampler.mining import valid_mask

_SHARE = 16  # one in so many snippets, and one more, make the top k of a video; of a memory's slots likewise
_HEAD_DIM = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOutput:
    """What the losses need of B normal and B abnormal videos, means over crops.

    Attributes:
        scores: in [0, 1], shape (2B, T), the normal videos first.
        normal_by_normal: attention of normal videos to the normal memory, in [0, 1], shape (B, T).
        normal_by_abnormal: of normal videos to the abnormal memory.
        abnormal_by_normal: of abnormal videos to the normal memory.
        abnormal_by_abnormal: of abnormal videos to the abnormal memory.
        anchor, positive, negative: embeddings of the most normal snippets of normal videos, of the most normal and of
            the most abnormal ones of abnormal videos, shape (B, hidden_dim).
        anchor_latent, negative_latent: the latents of the first and the last, shape (B, hidden_dim).
        kl: divergence of the normal memory's latent from the unit Gaussian, summed over time, shape ().
    """

    scores: Tensor
    normal_by_normal: Tensor
    normal_by_abnormal: Tensor
    abnormal_by_normal: Tensor
    abnormal_by_abnormal: Tensor
    anchor: Tensor
    positive: Tensor
    negative: Tensor
    anchor_latent: Tensor
    negative_latent: Tensor
    kl: Tensor


class UrDmu(nn.Module):
    """Scores sequences of snippet features.

    Args:
        dim: width of the features.
        config: size of the network.
    """

    def __init__(self, dim: int, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden_dim
        self.embed = nn.Conv1d(dim, width, kernel_size=3, padding=1)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.normal_memory = _Memory(config.memory_slots, width)
        self.abnormal_memory = _Memory(config.memory_slots, width)
        self.latent_mean = nn.Linear(width, width)
        self.latent_log_variance = nn.Linear(width, width)
        self.head_in = nn.Linear(2 * width, _HEAD_DIM)
        self.head_out = nn.Linear(_HEAD_DIM, 1)
        self.shortcut = nn.Linear(dim, 1, bias=False) if config.shortcut else None
        if self.shortcut is not None:
            nn.init.zeros_(self.shortcut.weight)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the scores of videos, mean over their crops.

        Args:
            features: shape (B, crops, T, dim).
            lengths: snippets of each video, shape (B,); None where nothing is padding.

        Returns:
            In [0, 1], shape (B, T).
        """
        videos, crops, count, _ = features.shape
        flat, mask = _by_crop(features, lengths)
        hidden = self._encode(flat, mask)
        by_normal, by_abnormal = self._attend(hidden)
        latent = self._latent_part(self.normal_memory, by_normal) + self._latent_part(self.abnormal_memory, by_abnormal)
        return self._score(flat, hidden, latent).view(videos, crops, count).mean(dim=1)

    def training_output(self, features: Tensor, lengths: Tensor | None = None) -> TrainingOutput:
        """Score as many normal as abnormal videos, the normal ones first, and return what the losses need.

        Args:
            features: shape (2B, crops, T, dim).
            lengths: shape (2B,), or None.
        """
        videos, crops, count, _ = features.shape
        half, rows = videos // 2, videos // 2 * crops
        flat, mask = _by_crop(features, lengths)
        normal_mask, abnormal_mask = (None, None) if mask is None else (mask[:rows], mask[rows:])
        hidden = self._encode(flat, mask)
        by_normal, by_abnormal = self._attend(hidden)
        normal_level, abnormal_level = slot_mean(by_normal), slot_mean(by_abnormal)
        anchors = top_weights(normal_level[:rows].detach(), normal_mask).to(hidden.dtype)
        positives = top_weights(normal_level[rows:].detach(), abnormal_mask).to(hidden.dtype)
        negatives = top_weights(abnormal_level[rows:].detach(), abnormal_mask).to(hidden.dtype)

        def per_video(level: Tensor) -> Tensor:
            return level.view(-1, crops, count).mean(dim=1)

        def over_crops(vectors: Tensor) -> Tensor:
            return vectors.view(half, crops, -1).mean(dim=1)

        # One product for all that is chosen of the embeddings; of a normal video that is the anchor alone.
        wanted = torch.cat([torch.stack([anchors, anchors], dim=1), torch.stack([positives, negatives], dim=1)])
        embeddings = torch.bmm(wanted, hidden)

        mean = self._mapped_read(by_normal[:rows], self.latent_mean)
        log_variance = self._mapped_read(by_normal[:rows], self.latent_log_variance)
        sampled = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        latent = self._latent_part(self.abnormal_memory, by_abnormal) + torch.cat(
            [F.linear(sampled, self._head_halves()[1]), self._latent_part(self.normal_memory, by_normal[rows:])]
        )
        negative_attention = torch.einsum("bt,btk->bk", negatives.to(by_abnormal.dtype), by_abnormal[rows:])
        negative_latent = self.latent_mean(negative_attention @ self.abnormal_memory.slots)
        scores = self._score(flat, hidden, latent)
        level_of_normal, level_of_abnormal = per_video(normal_level), per_video(abnormal_level)
        return TrainingOutput(
            scores=per_video(scores),
            normal_by_normal=level_of_normal[:half],
            normal_by_abnormal=level_of_abnormal[:half],
            abnormal_by_normal=level_of_normal[half:],
            abnormal_by_abnormal=level_of_abnormal[half:],
            anchor=over_crops(embeddings[:rows, 0]),
            positive=over_crops(embeddings[rows:, 0]),
            negative=over_crops(embeddings[rows:, 1]),
            anchor_latent=over_crops(torch.einsum("bt,btd->bd", anchors.to(sampled.dtype), sampled)),
            negative_latent=over_crops(negative_latent),
            kl=_divergence(mean, log_variance, normal_mask),
        )

    def _encode(self, flat: Tensor, mask: Tensor | None) -> Tensor:
        # Only on a CPU do the products outweigh what passes through memory for them.
        embedded = _conv3(flat, self.embed) if flat.is_cpu else self.embed(flat.transpose(1, 2)).transpose(1, 2)
        hidden = F.relu(embedded)
        if self.layers:
            nearness = _nearness(hidden.shape[1], mask, hidden)
            for layer in self.layers:
                hidden = layer(hidden, nearness, mask)
        return hidden

    def _attend(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return attention in [0, 1] to the slots of the normal and of the abnormal memory, each (..., slots)."""
        slots = torch.cat([self.normal_memory.slots, self.abnormal_memory.slots])
        attention = torch.sigmoid(F.linear(hidden, slots / math.sqrt(slots.shape[1])))
        by_normal, by_abnormal = attention.chunk(2, dim=-1)
        return by_normal, by_abnormal

    def _mapped_read(self, attention: Tensor, linear: nn.Linear) -> Tensor:
        """Read the normal memory and map what is read."""
        return F.linear(attention, F.linear(linear.weight, self.normal_memory.slots), linear.bias)

    def _head_halves(self) -> tuple[Tensor, Tensor]:
        """Return the head's weights for embeddings and for latents."""
        of_hidden, of_latent = self.head_in.weight.chunk(2, dim=1)
        return of_hidden, of_latent

    def _latent_part(self, memory: _Memory, attention: Tensor) -> Tensor:
        """Return what the latent of a memory's read adds inside the head, shape (..., _HEAD_DIM)."""
        of_latent = self._head_halves()[1]
        mapped = of_latent @ F.linear(self.latent_mean.weight, memory.slots)
        return F.linear(attention, mapped, of_latent @ self.latent_mean.bias)

    def _score(self, flat: Tensor, hidden: Tensor, latent: Tensor) -> Tensor:
        """Return scores from embeddings and the latents' part in the head."""
        inner = F.linear(hidden, self._head_halves()[0], self.head_in.bias) + latent
        logit = self.head_out(F.relu(inner)).squeeze(-1).float()
        if self.shortcut is not None:
            logit = logit + self.shortcut(flat).squeeze(-1).float()
        return torch.sigmoid(logit)


class _Memory(nn.Module):
    """Slots that snippets attend to, each on its own: sigmoid attention, not normalised over the slots."""

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.slots = nn.Parameter(torch.empty(slots, width).uniform_(-bound, bound))


class _Layer(nn.Module):
    """Pre-norm attention with a global and a local branch, then a feed-forward block."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, inner = config.hidden_dim, config.heads * config.head_dim
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width)
        self.project_in = nn.Linear(width, 4 * inner, bias=False)
        self.project_out = nn.Linear(2 * inner, width)
        self.block = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            _Dropout(config.dropout),
            nn.Linear(width, width),
            _Dropout(config.dropout),
        )
        self.dropout = _Dropout(config.dropout)

    def forward(self, hidden: Tensor, nearness: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        batch, count, width = hidden.shape
        inner = self.project_in.weight.shape[0] // 4
        # A head's columns of project_out: what it attended to, then what is near.
        of_attended, of_nearby = self.project_out.weight.view(width, self.heads, 2, -1).unbind(dim=2)
        local_weight = of_nearby.reshape(width, inner) @ self.project_in.weight[3 * inner :]
        weight = torch.cat([self.project_in.weight[: 3 * inner], local_weight])
        projected = F.linear(self.attention_norm(hidden), weight)
        query, key, value, local = projected.split([inner] * 3 + [width], dim=-1)  # type: ignore[no-untyped-call]

        def by_head(projected: Tensor) -> Tensor:
            return projected.view(batch, count, self.heads, -1).transpose(1, 2)

        key_mask = None if mask is None else mask[:, None, None, :]
        attended = F.scaled_dot_product_attention(by_head(query), by_head(key), by_head(value), attn_mask=key_mask)
        attended = attended.transpose(1, 2).reshape(batch, count, inner)
        # The local branch weighs by distance alone: the same matrix for all heads and videos.
        weights, sums = nearness
        if mask is not None:
            local = local * mask[..., None]
        nearby = torch.matmul(weights, local) / sums
        both = F.linear(attended, of_attended.reshape(width, inner), self.project_out.bias) + nearby
        hidden = hidden + self.dropout(both)
        return hidden + self.block(hidden)  # type: ignore[no-any-return]


class _Dropout(nn.Module):
    """Dropout in steps of 1/256, from a byte of randomness a value: on a CPU drawing numbers is what dropout costs."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropped = round(256 * probability)

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return values
        count = values.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64, device=values.device)
        # The full range of a word: its bytes are then uniform and independent.
        words.random_(-(2**63), None)
        kept = words.view(torch.uint8)[:count].view(values.shape) >= self.dropped
        return values * (kept.to(values.dtype) * (256 / (256 - self.dropped)))


def slot_mean(attention: Tensor) -> Tensor:
    """Return the mean of the most attended slots, shape (..., T)."""
    slots = attention.shape[-1]
    return attention.topk(slots // _SHARE + 1, dim=-1).values.mean(dim=-1)


def top_weights(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return 1/k at the k largest values of each row and 0 elsewhere, k being length // 16 + 1.

    Args:
        values: shape (B, T).
        mask: True inside the video, shape (B, T); None where all of it is.
    """
    count = values.shape[1]
    if mask is None:
        k = count // _SHARE + 1
        chosen = values.topk(k, dim=1).indices
        return torch.zeros_like(values).scatter_(1, chosen, 1.0 / k)
    k_of = mask.sum(dim=1, keepdim=True) // _SHARE + 1
    order = values.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True)
    rank_weights = (torch.arange(count, device=values.device) < k_of) / k_of
    return torch.zeros_like(values).scatter_(1, order, rank_weights.to(values.dtype))


def _by_crop(features: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Lay crops along the batch, and return the mask of what is no padding where there is any."""
    videos, crops, count, dim = features.shape
    flat = features.reshape(videos * crops, count, dim)
    if lengths is None:
        return flat, None
    return flat, valid_mask(lengths, count).repeat_interleave(crops, dim=0)


def _conv3(values: Tensor, conv: nn.Conv1d) -> Tensor:
    """Apply a convolution of width 3 with padding 1 along time, shape (B, T, dim) to (B, T, width).

    Winograd's F(2, 3) (Lavin and Gray, CVPR 2016): two outputs from four products instead of six.
    """
    batch, count, dim = values.shape
    pairs = F.pad(values, (0, 0, 1, 1 + count % 2)).view(batch, -1, 2, dim)
    first, second = pairs[:, :-1].unbind(dim=2)
    third, fourth = pairs[:, 1:].unbind(dim=2)
    before, here, after = conv.weight.unbind(dim=2)
    outer, inner = (before + after) / 2, here / 2
    both = F.linear(second + third, outer + inner, conv.bias)
    difference = F.linear(third - second, outer - inner)
    even = F.linear(first - third, before) + both + difference
    odd = both - difference - F.linear(second - fourth, after)
    return torch.stack([even, odd], dim=2).view(batch, -1, even.shape[-1])[:, :count]


def _nearness(count: int, mask: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights exp(-distance / e), shape (T, T), and what each row sums to inside the video, (T, 1) or (B, T, 1).

    One matrix serves all videos: padding is taken out of what it multiplies and out of the sums.
    """
    index = torch.arange(count, device=like.device, dtype=torch.float32)
    weights = torch.exp(-(index[:, None] - index[None, :]).abs() / math.e)
    inside = torch.ones(count, 1, device=like.device) if mask is None else mask[..., None].float()
    return weights.to(like.dtype), torch.matmul(weights, inside).clamp(min=1e-6).to(like.dtype)


def _divergence(mean: Tensor, log_variance: Tensor, mask: Tensor | None) -> Tensor:
    terms = 1 + log_variance - mean**2 - log_variance.exp()
    if mask is not None:
        terms = terms * mask[..., None]
    return (-0.5 * terms.sum(dim=1)).mean()
