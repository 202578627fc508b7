"""Heads without training steps: a weighted sum, trees, both, and the distance to normal snippets.

Each is fitted to snippets near clicks (abnormal) and snippets of normal videos or far from every click (normal), and
scores one snippet at a time. All are modules whose buffers are their whole state, so that they are saved, loaded and
called like the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name by which it is known
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config import Recipe
from pipeline.features.base import open_features
from pipeline.sampler.data import FeatureSource, LabelledVideo
from pipeline.sampler.inputs import Floats
from pipeline.sampler.network import UrDmu

TREES = 100
_NEIGHBOURS = 3
MOST_NORMAL = 2048  # rows that distances are measured to
ITERATIONS = 200  # of L-BFGS
LINEAR_SHARE = 0.1  # of a blend
_AT_ONCE = 4096  # snippets
_ARRIVALS_EVERY = 4  # steps of a walk down trees, after which those that ended in a leaf are put aside


@dataclass(frozen=True, eq=False)
class Rows:
    """Snippets to fit a head to: values, shape (N, D); which are abnormal, shape (N,); weights of mean 1, shape (N,).

    Abnormal and normal rows weigh the same in sum.
    """

    values: Floats
    abnormal: NDArray[np.bool_]
    weights: Floats


def collect_rows(videos: Sequence[LabelledVideo], source: FeatureSource, recipe: Recipe, seed: int) -> Rows | None:
    """Return the snippets whose kind is known, at most `recipe.most_rows`; None where one kind is missing.

    Each crop of a snippet is a row. Where supervision is by video labels, or no video has a click, all of an abnormal
    video counts as abnormal; otherwise abnormal videos without clicks are left out.
    """
    by_label = recipe.supervision == "video-label" or not any(video.glances for video in videos)
    crops = open_features(videos[0].path).shape[0]
    kinds = [_kinds(video, recipe, by_label=by_label) for video in videos]
    truth = np.concatenate([np.tile(near, crops) for near, _ in kinds])
    weight = np.concatenate([np.tile(share, crops) for _, share in kinds])
    taken = _draw(truth, weight > 0, recipe.most_rows, seed)
    of_abnormal, of_normal = weight[taken & truth].sum(), weight[taken & ~truth].sum()
    if not of_abnormal or not of_normal:
        return None
    # One video after the other: all snippets at once would be far larger than what is taken of them.
    own = np.split(taken, np.cumsum([video.num_snippets * crops for video in videos])[:-1])
    values = [
        source.read(video)[part.reshape(crops, -1)] for video, part in zip(videos, own, strict=True) if part.any()
    ]
    truth, weight = truth[taken], weight[taken]
    balanced = np.where(truth, weight / of_abnormal, weight / of_normal)
    return Rows(np.concatenate(values), truth, (balanced / balanced.mean()).astype(np.float32))


def _kinds(video: LabelledVideo, recipe: Recipe, *, by_label: bool) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which snippets of a video are abnormal, and their weights, 0 where that is unknown: shape (T,) each."""
    distance_s = video.glance_distance_s
    if not video.is_abnormal or by_label:
        return np.full(len(distance_s), video.is_abnormal), np.ones(len(distance_s))
    near = distance_s <= max(recipe.loss.positive_s, video.snippet_s / 2)
    far = np.isfinite(distance_s) & (distance_s > recipe.loss.negative_s)
    return near, np.where(near, 1.0, recipe.loss.negative_weight * far)


def _draw(truth: NDArray[np.bool_], known: NDArray[np.bool_], most: int, seed: int) -> NDArray[np.bool_]:
    """Return which of the known rows are taken: all, or `most` of them, abnormal ones up to half of it first."""
    if not most or known.sum() <= most:
        return known
    rng = np.random.default_rng(seed)
    abnormal, normal = (rng.permutation(np.flatnonzero(known & kind)) for kind in (truth, ~truth))
    half = max(most // 2, most - len(normal))
    taken = np.zeros_like(known)
    taken[abnormal[:half]] = True
    taken[normal[: most - min(half, len(abnormal))]] = True
    return taken


class SnippetHead(nn.Module, ABC):
    """Scores every snippet by itself."""

    def forward(self, features: Tensor) -> Tensor:
        """Return scores in [0, 1], mean over crops, shape (B, T), of features of shape (B, crops, T, D)."""
        videos, crops, count, dim = features.shape
        rows = features.reshape(-1, dim)
        scores = torch.cat([self.rate(part) for part in torch.split(rows, _AT_ONCE)])
        return scores.view(videos, crops, count).mean(dim=1)

    @abstractmethod
    def rate(self, rows: Tensor) -> Tensor:
        """Return the scores of rows, shape (N,), of shape (N, D)."""

    def set_state(self, state: Mapping[str, Tensor]) -> SnippetHead:
        """Take tensors by name as buffers, and return the head."""
        for name, value in state.items():
            self.register_buffer(name, value)
        return self


class LinearHead(SnippetHead):
    """Logistic regression with squared weights as penalty."""

    weight: Tensor
    bias: Tensor

    def rate(self, rows: Tensor) -> Tensor:
        """Return the chance that each row is abnormal."""
        return torch.sigmoid(rows @ self.weight + self.bias)

    @staticmethod
    def fit(rows: Rows, recipe: Recipe, seed: int) -> LinearHead:  # noqa: ARG004 - nothing in it is random
        """Fit by L-BFGS; `recipe.weight_decay` is the penalty on half the squared weights."""
        values, target, share = (
            torch.from_numpy(array) for array in (rows.values, rows.abnormal.astype(np.float32), rows.weights)
        )
        weight, bias = torch.zeros(values.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            misfit = F.binary_cross_entropy_with_logits(values @ weight + bias, target, share)
            total = misfit + recipe.weight_decay / 2 * weight.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        head = LinearHead()
        head.set_state({"weight": weight.detach(), "bias": bias.detach()})
        return head


class TreesHead(SnippetHead):
    """Extremely randomised trees (Geurts, Ernst and Wehenkel, 2006), as arrays over the nodes of all trees.

    A leaf is its own child, so that a walk of `depth` steps ends in one from every root.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor
    roots: Tensor
    depth: Tensor

    def rate(self, rows: Tensor) -> Tensor:
        """Return the share of abnormal training rows in the leaves that each row ends in."""
        # In NumPy: steps this small are not worth the wait of several threads for one another.
        values, feature, threshold, child, roots = (
            tensor.cpu().numpy().ravel() for tensor in (rows, self.feature, self.threshold, self.child, self.roots)
        )
        node = np.tile(roots, len(rows))
        at = np.repeat(np.arange(len(rows)) * rows.shape[1], len(roots))
        walking, leaves = np.arange(len(node)), np.empty_like(node)
        for step in range(1, int(self.depth) + 1):
            node = child[2 * node + (values[at + feature[node]] > threshold[node])]
            if step % _ARRIVALS_EVERY == 0:
                arrived = child[2 * node] == node
                leaves[walking[arrived]] = node[arrived]
                walking, node, at = walking[~arrived], node[~arrived], at[~arrived]
        leaves[walking] = node
        shares = self.value.cpu().numpy()[leaves].reshape(len(rows), len(roots)).mean(axis=1)
        return torch.from_numpy(shares).to(rows.device)

    @staticmethod
    def fit(rows: Rows, recipe: Recipe, seed: int) -> TreesHead:  # noqa: ARG004 - its settings are of other heads
        """Grow trees."""
        from sklearn.ensemble import ExtraTreesClassifier

        model = ExtraTreesClassifier(
            TREES, min_samples_leaf=2, random_state=seed % 2**32, n_jobs=torch.get_num_threads()
        )
        model.fit(rows.values, rows.abnormal, sample_weight=rows.weights)
        trees = [member.tree_ for member in model.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        children, feature = [], []
        for root, tree in zip(roots, trees, strict=True):
            pair = np.stack([tree.children_left, tree.children_right], axis=1)
            own = np.arange(tree.node_count)[:, None]
            children.append(np.where(pair < 0, own, pair) + root)
            feature.append(np.maximum(tree.feature, 0))
        head = TreesHead()
        head.set_state(
            {
                "feature": torch.from_numpy(np.concatenate(feature)),
                "threshold": torch.from_numpy(np.concatenate([tree.threshold for tree in trees]).astype(np.float32)),
                "child": torch.from_numpy(np.concatenate(children)),
                "value": torch.from_numpy(np.concatenate([tree.value[:, 0, 1] for tree in trees]).astype(np.float32)),
                "roots": torch.from_numpy(roots),
                "depth": torch.tensor(max(tree.max_depth for tree in trees)),
            }
        )
        return head


class BlendHead(SnippetHead):
    """Trees, with a share of a linear head.

    Beyond what was clicked all is alike to trees, as is much of what ends in the same leaves: the linear head ranks it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trees = TreesHead()
        self.linear = LinearHead()

    def set_state(self, state: Mapping[str, Tensor]) -> BlendHead:
        """Take the buffers of both, each by its head's name and its own."""
        for part, head in (("trees.", self.trees), ("linear.", self.linear)):
            head.set_state({name.removeprefix(part): state[name] for name in state if name.startswith(part)})
        return self

    def rate(self, rows: Tensor) -> Tensor:
        """Return the mean of both, weighted."""
        return torch.lerp(self.trees.rate(rows), self.linear.rate(rows), LINEAR_SHARE)

    @staticmethod
    def fit(rows: Rows, recipe: Recipe, seed: int) -> BlendHead:
        """Fit both."""
        head = BlendHead()
        head.trees, head.linear = TreesHead.fit(rows, recipe, seed), LinearHead.fit(rows, recipe, seed)
        return head


class NeighboursHead(SnippetHead):
    """How far a snippet is from the nearest normal ones; one half is as far as lies between normal and clicked ones."""

    normal: Tensor
    middle: Tensor

    def rate(self, rows: Tensor) -> Tensor:
        """Return the distance to the nearest normal rows, mapped to [0, 1)."""
        distance = self._distance(rows, _NEIGHBOURS)
        return distance / (distance + self.middle)

    def _distance(self, rows: Tensor, count: int) -> Tensor:
        nearest = torch.cdist(rows, self.normal).topk(min(count, len(self.normal)), largest=False).values
        return nearest.mean(dim=1)

    @staticmethod
    def fit(rows: Rows, recipe: Recipe, seed: int) -> NeighboursHead:  # noqa: ARG004 - its settings are of other heads
        """Keep normal rows, at random some of more than can be compared quickly."""
        normal = rows.values[~rows.abnormal]
        if len(normal) > MOST_NORMAL:
            normal = normal[np.sort(np.random.default_rng(seed).choice(len(normal), MOST_NORMAL, replace=False))]
        head = NeighboursHead()
        head.set_state({"normal": torch.from_numpy(normal)})
        # Each normal row is its own nearest one.
        of_normal = head._distance(head.normal, _NEIGHBOURS + 1) * (_NEIGHBOURS + 1) / _NEIGHBOURS
        of_clicked = head._distance(torch.from_numpy(rows.values[rows.abnormal]), _NEIGHBOURS)
        middle = (of_normal.median() * of_clicked.median()).sqrt().clamp(min=1e-6)
        head.set_state({"middle": middle})
        return head


HEADS: Mapping[str, type[LinearHead | TreesHead | BlendHead | NeighboursHead]] = {
    "linear": LinearHead,
    "trees": TreesHead,
    "blend": BlendHead,
    "neighbours": NeighboursHead,
}
"""Heads by the name that a recipe calls them; the network is none of them."""


def restore_head(recipe: Recipe, state: Mapping[str, Tensor]) -> UrDmu | SnippetHead:
    """Return a network or another head of a recipe with the state that it was saved with, in evaluation mode.

    Raises:
        KeyError, RuntimeError: if the state is of another head.
    """
    if recipe.head in HEADS:
        return HEADS[recipe.head]().set_state(state).eval()
    network = UrDmu(state["embed.weight"].shape[1], recipe.network)
    network.load_state_dict(state)
    return network.eval()
