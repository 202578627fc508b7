"""A plain transcription of UR-DMU and GlanceVAD, as they are published: the baseline of `bench_sampler_step.py`.

Written from the papers (Zhou et al., AAAI 2023; arXiv 2403.06154) and the behaviour of their code: padding-free
sequences, attention weights materialised, the local branch's matrix repeated for every head and video, every latent
computed at full width, mining and rendering in Python loops over videos, clicks and snippets. The authors' defects that
change results rather than speed (see `pipeline.sampler`) are left out, so that both sides do the same work.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Memory(nn.Module):
    """A memory unit."""

    def __init__(self, slots: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.slots = slots
        bound = 1 / math.sqrt(dim)
        self.block = nn.Parameter(torch.empty(slots, dim).uniform_(-bound, bound))

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, T) attention of the top slots and (B, T, D) of what is read."""
        attention = torch.sigmoid(torch.einsum("btd,kd->btk", data, self.block) / self.dim**0.5)
        top = torch.topk(attention, self.slots // 16 + 1, dim=-1)[0].mean(-1)
        return top, torch.einsum("btk,kd->btd", attention, self.block)


class Attention(nn.Module):
    """Attention with a global and a local branch."""

    def __init__(self, dim: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.scale = head_dim**-0.5
        self.to_qkvt = nn.Linear(dim, inner * 4, bias=False)
        self.to_out = nn.Sequential(nn.Linear(2 * inner, dim), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each sequence of (B, T, D)."""
        b, n, _ = x.shape
        q, k, v, t = (
            part.reshape(b, n, self.heads, -1).permute(0, 2, 1, 3) for part in self.to_qkvt(x).chunk(4, dim=-1)
        )
        global_attention = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * self.scale, dim=-1)
        place = torch.linspace(1, n, n)
        distance = torch.abs(place * torch.ones(n) - place.view(-1, 1))
        local_attention = torch.exp(-distance / torch.exp(torch.tensor(1.0)))
        local_attention = (local_attention / local_attention.sum(-1, keepdim=True)).unsqueeze(0).unsqueeze(1)
        local_attention = local_attention.repeat(b, self.heads, 1, 1)
        out = torch.cat([torch.matmul(global_attention, v), torch.matmul(local_attention, t)], dim=-1)
        return self.to_out(out.permute(0, 2, 1, 3).reshape(b, n, -1))


class Block(nn.Module):
    """A transformer layer."""

    def __init__(self, dim: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D)."""
        x = self.attention(self.norm1(x)) + x
        return self.feed_forward(self.norm2(x)) + x


class PlainUrDmu(nn.Module):
    """UR-DMU in training mode."""

    def __init__(self, dim: int, slots: int = 60, width: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Sequential(nn.Conv1d(dim, width, kernel_size=3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(Block(width, 4, 128, 0.5), Block(width, 4, 128, 0.5))
        self.triplet = nn.TripletMarginLoss(margin=1)
        self.head = nn.Sequential(nn.Linear(2 * width, 128), nn.ReLU(), nn.Linear(128, 1), nn.Sigmoid())
        self.abnormal_memory, self.normal_memory = Memory(slots, width), Memory(slots, width)
        self.encoder_mu, self.encoder_var = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Score (B, crops, T, D), the normal half first."""
        b, n, t, d = x.shape
        x = self.embedding(x.reshape(b * n, t, d).permute(0, 2, 1)).permute(0, 2, 1)
        x = self.blocks(x)
        normal, abnormal = x[: b * n // 2], x[b * n // 2 :]
        a_att, a_aug = self.abnormal_memory(abnormal)
        n_a_att, n_a_aug = self.normal_memory(abnormal)
        a_n_att, a_n_aug = self.abnormal_memory(normal)
        n_att, n_aug = self.normal_memory(normal)
        k = t // 16 + 1

        def chosen(values: Tensor, index: Tensor) -> Tensor:
            wide = index.unsqueeze(2).expand([-1, -1, x.size(-1)])
            return torch.gather(values, 1, wide).mean(1).reshape(b // 2, n, -1).mean(1)

        a_index = torch.topk(a_att, k, dim=-1)[1]
        n_index = torch.topk(n_att, k, dim=-1)[1]
        p_index = torch.topk(n_a_att, k, dim=-1)[1]
        negative, anchor, positive = chosen(abnormal, a_index), chosen(normal, n_index), chosen(abnormal, p_index)
        triplet = self.triplet(*(v / torch.norm(v, p=2, dim=-1, keepdim=True) for v in (anchor, positive, negative)))
        mu, var = self.encoder_mu(n_aug), self.encoder_var(n_aug)
        std = torch.exp(var).sqrt()
        n_aug_new = mu + torch.randn_like(std) * std
        anchor_new = chosen(n_aug_new, n_index)
        a_aug_new = self.encoder_mu(a_aug)
        negative_new = chosen(a_aug_new, a_index)
        kl = torch.mean(-0.5 * torch.sum(1 + var - mu**2 - var.exp(), dim=1))
        a_n_aug, n_a_aug = self.encoder_mu(a_n_aug), self.encoder_mu(n_a_aug)
        distance = torch.relu(100 - torch.norm(negative_new, p=2, dim=-1) + torch.norm(anchor_new, p=2, dim=-1)).mean()
        x = torch.cat((x, torch.cat([n_aug_new + a_n_aug, a_aug_new + n_a_aug], dim=0)), dim=-1)
        scores = self.head(x).reshape((b, n, -1)).mean(1)
        return {
            "scores": scores, "triplet": triplet, "kl": kl, "distance": distance,
            "a_att": a_att.reshape((b // 2, n, -1)).mean(1), "n_att": n_att.reshape((b // 2, n, -1)).mean(1),
            "a_n_att": a_n_att.reshape((b // 2, n, -1)).mean(1), "n_a_att": n_a_att.reshape((b // 2, n, -1)).mean(1),
        }  # fmt: skip


def mine_in_loops(scores: Tensor, glances: Tensor, alpha: float) -> Tensor:  # noqa: PLR0912 - loops are its point
    """Algorithm 1 by loops over videos, clicks and snippets; float (B, T)."""
    marks = glances.clone().detach()
    for b in range(glances.shape[0]):
        clicks = torch.nonzero(glances[b]).squeeze(1)
        if len(clicks) == 0:
            continue
        for j in range(clicks[0] - 1, -1, -1):
            if scores[b, j] > alpha * scores[b, clicks[0]]:
                marks[b, j] = 1
            else:
                break
        for j in range(clicks[-1] + 1, glances.shape[1]):
            if scores[b, j] > alpha * scores[b, clicks[-1]]:
                marks[b, j] = 1
            else:
                break
        for i in range(len(clicks) - 1):
            for j in range(clicks[i] + 1, clicks[i + 1]):
                if scores[b, j] > alpha * scores[b, clicks[i]]:
                    marks[b, j] = 1
                else:
                    break
            for j in range(clicks[i + 1] - 1, clicks[i], -1):
                if scores[b, j] > alpha * scores[b, clicks[i + 1]]:
                    marks[b, j] = 1
                else:
                    break
    return marks


def render_in_loops(marks: Tensor, sigma: float) -> Tensor:
    """Gaussians around every mark, scaled and joined by loops over videos and marks; float (B, T)."""
    rendered = torch.zeros_like(marks)
    count = marks.shape[1]
    for b in range(marks.shape[0]):
        points = torch.nonzero(marks[b]).squeeze(1)
        if len(points) == 0:
            continue
        kernels = torch.zeros([len(points), count])
        for i, point in enumerate(points):
            axis = torch.arange(count, dtype=torch.float32)
            here = 2 * axis / (count - 1) - 1
            there = 2 * point / (count - 1) - 1
            weight = torch.exp(-((here - there) ** 2) / (2 * sigma**2)) / (sigma * (2 * math.pi) ** 0.5)
            kernels[i, :] = (weight - torch.min(weight)) / (torch.max(weight) - torch.min(weight))
        joined = torch.max(kernels, dim=0)[0]
        low, high = torch.min(joined), torch.max(joined)
        rendered[b, :] = (joined - low) / (high - low) if high > low else joined
    return rendered


def plain_loss(output: dict[str, Tensor], glances: Tensor, step: int) -> Tensor:
    """GlanceVAD's loss with the weights of its UCF-Crime configuration."""
    scores = output["scores"]
    b, t = scores.shape[0] // 2, scores.shape[1]
    k = t // 16 + 1

    def top_loss(values: Tensor, target: float) -> Tensor:
        top = torch.topk(values, k, dim=-1)[0].mean(-1)
        return F.binary_cross_entropy(top, torch.full((b,), target))

    normal, abnormal = scores[:b], scores[b:]
    memory = (
        top_loss(output["a_att"], 1.0)
        + top_loss(1 - output["n_a_att"], 1.0)
        + F.binary_cross_entropy(output["n_att"], torch.ones_like(output["n_att"]))
        + F.binary_cross_entropy(output["a_n_att"], torch.zeros_like(output["a_n_att"]))
    )
    marks = glances if step < 50 else mine_in_loops(abnormal.detach().cpu(), glances, 0.9)
    rendered = render_in_loops(marks, 0.1)
    return (
        0 * top_loss(abnormal, 1.0)
        + top_loss(normal, 0.0)
        + 0.1 * memory
        + 0.1 * output["triplet"]
        + 0.001 * output["kl"]
        + 0.0001 * output["distance"]
        + F.binary_cross_entropy(abnormal, rendered)
    )
