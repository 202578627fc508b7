"""Training on a small workspace of made features: it learns, repeats itself to the bit, resumes, and never leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import ExportConfig, FeaturesConfig, LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.errors import DataError, SetupError
from pipeline.features import motion
from pipeline.features.base import open_features
from pipeline.infer.scoring import VideoScorer
from pipeline.records import NORMAL, FeatureFile, Glance, Video, digest
from pipeline.sampler import data, training
from pipeline.sampler.data import Batches, FeatureSource, LabelledVideo, load_corpus
from pipeline.sampler.fold_run import FoldRun
from pipeline.sampler.heads import HEADS, Rows, collect_rows
from pipeline.sampler.inputs import arrange, scaled, segment_bounds, to_segments
from pipeline.sampler.model_io import load_sampler, read_out_of_fold, score_with, weights_digest
from pipeline.sampler.recipes import candidate_recipes
from pipeline.sampler.selection import choose_theta, glance_auc, make_folds, weighted_auc
from pipeline.sampler.smoothing import smooth
from pipeline.sampler.training import Choice, agree, ensure_sampler, train_on, train_sampler
from pipeline.stages.run import run_stage
from pipeline.stages.score import ScoreStage
from pipeline.stages.splits import SplitsStage
from pipeline.workspace import Workspace

DIM, STRIDE, FPS = 6, 8, 8.0
EVENT = range(12, 20)
RECIPE = Recipe(
    head="network",
    network=NetworkConfig(hidden_dim=16, heads=2, head_dim=8, layers=1, memory_slots=4, shortcut=True),
    supervision="regions", standardise=True, learning_rate=1e-2, steps=20, batch_videos=4,
)  # fmt: skip
CONFIG = SamplerConfig(search="off", recipe=RECIPE, folds=2, evaluate_every=5, smoothing_s=[0.0, 1.0], device="cpu")


ALL_TRAIN = ExportConfig(validation_fraction=0)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def add_videos(workspace: Workspace, rows: list[dict[str, Any]], shares: ExportConfig = ALL_TRAIN) -> None:
    """Commit videos; an abnormal one has an event at EVENT that the first feature shows, and a click inside."""
    videos, features, glances = [], [], []
    for row in rows:
        name, count, abnormal = row["name"], row.get("snippets", 32), row.get("abnormal", False)
        rng = np.random.default_rng(row.get("seed", 0))
        values = rng.normal(size=(row.get("crops", 1), count, DIM)).astype(np.float16)
        if abnormal:
            values[:, EVENT.start : EVENT.stop, 0] += 4
        path = workspace.features_file(name)
        file = workspace.storage.local_path(path)
        file.parent.mkdir(exist_ok=True)
        np.save(file, values)
        video = Video(
            video_id=name, path=f"{name}.mp4", sha256=digest(row.get("content", name)), fps=FPS,
            num_frames=count * STRIDE, duration_s=count * STRIDE / FPS, width=32, height=24, codec="h264",
            label="Fighting" if abnormal else NORMAL, split=row.get("split"), source="test",
        )  # fmt: skip
        videos.append(("u", video))
        stored = FeatureFile(
            video_id=name, encoder=row.get("encoder", "npy"), crops=len(values), num_snippets=count, dim=DIM,
            stride_frames=STRIDE, path=path, sha256=str(row.get("seed", name)),
        )  # fmt: skip
        features.append(("u", stored))
        for frame in row.get("clicks", [15 * STRIDE + 3] if abnormal else []):
            glance = Glance(
                video_id=name, time_s=frame / FPS, frame_index=frame, category="Fighting", annotator=None, origin="test"
            )
            glances.append(("u", glance))
    workspace.videos.commit(["u"], videos, [], "f")
    workspace.features.commit(["u"], features, [], "f")
    workspace.glances.commit(["u"], glances, [], "f")
    run_stage(SplitsStage(workspace, shares), workspace.splits)


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    rows = [{"name": f"a{n}", "abnormal": True, "seed": n} for n in range(4)]
    rows += [{"name": f"n{n}", "seed": 10 + n} for n in range(4)]
    add_videos(workspace, rows)
    return workspace


def test_learns_from_one_click_an_event(filled: Workspace) -> None:
    config = CONFIG.model_copy(update={"recipe": RECIPE.model_copy(update={"steps": 60})})
    sampler = train_sampler(filled, config)
    assert sampler.validation["glance_auc"] > 0.9
    assert 0 < sampler.validation["theta"] < 1
    report = run_stage(ScoreStage(filled, config), filled.scores)
    assert report.rows == 8
    row = next(row for row in filled.scores.records() if row.video_id == "a0")
    scores = np.load(filled.storage.local_path(row.path))
    assert scores.dtype == np.float32
    assert scores.shape == (32,)
    assert 0 <= scores.min() <= scores.max() <= 1
    inside, outside = scores[EVENT.start : EVENT.stop], np.delete(scores, EVENT)
    assert inside.mean() > outside.mean() + 0.2


def test_a_sampler_remembers_how_videos_were_seen(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    train_sampler(filled, CONFIG, features=FeaturesConfig(fit="crop", pooling="max", folders=["private"]))
    folder = filled.storage.local_path("models/sampler")
    assert "private" not in (folder / "config.json").read_text()
    asked: list[FeaturesConfig] = []
    monkeypatch.setattr("pipeline.infer.scoring.make_stream", asked.append)
    VideoScorer(folder, FeaturesConfig(encoder="clip", fit="tiles", batch_size=3), "cpu")
    [seen] = asked
    assert (seen.encoder, seen.fit, seen.pooling, seen.batch_size) == ("npy", "crop", "max", 3)
    using = CONFIG.model_copy(update={"weights": str(folder)})
    other = ScoreStage(filled, using, FeaturesConfig(fit="letterbox", pooling="max"))
    with pytest.raises(SetupError, match=r"features.fit=crop; the features are made with letterbox"):
        run_stage(other, filled.scores)
    same = ScoreStage(filled, using, FeaturesConfig(fit="crop", pooling="max", stride_frames=STRIDE))
    assert run_stage(same, filled.scores).rows == 8


def test_a_training_tells_how_far_it_is(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.sampler.training._LOG_EVERY_S", 0.0)
    with caplog.at_level("INFO"):
        train_sampler(filled, CONFIG)
    lines = [record.getMessage() for record in caplog.records]
    expected = next(place for place, line in enumerate(lines) if "min on this CPU" in line)
    assert expected < next(place for place, line in enumerate(lines) if line.startswith("train sampler: 1 of "))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(filled: Workspace) -> None:
    folder = filled.storage.local_path("models/sampler")
    train_sampler(filled, CONFIG)
    first = weights_digest(folder)
    torch.manual_seed(99)  # what happened to be drawn before does not matter
    train_sampler(filled, CONFIG)
    assert weights_digest(folder) == first
    train_sampler(filled, CONFIG.model_copy(update={"seed": 1}))
    assert weights_digest(folder) != first


def test_an_interrupted_training_ends_at_the_same_bits(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled.storage.local_path("models/sampler")
    train_sampler(filled, CONFIG)
    expected = weights_digest(folder)
    steps = []
    original = training._Trainer._step

    def interrupted(self: Any, network: Any, optimizer: Any, batch: Any, step: int) -> Any:
        if len(steps) == 13:
            raise KeyboardInterrupt
        steps.append(step)
        return original(self, network, optimizer, batch, step)

    monkeypatch.setattr(training._Trainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_sampler(filled, CONFIG)
    steps.clear()

    def counted(self: Any, network: Any, optimizer: Any, batch: Any, step: int) -> Any:
        steps.append(step)
        return original(self, network, optimizer, batch, step)

    monkeypatch.setattr(training._Trainer, "_step", counted)
    train_sampler(filled, CONFIG)
    assert steps[0] == 12  # the last validated step before the interruption
    assert weights_digest(folder) == expected


def test_no_training_opens_what_is_held_out(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": f"a{n}", "abnormal": True, "seed": n} for n in range(12)]
    rows += [{"name": f"n{n}", "seed": 100 + n} for n in range(12)]
    rows += [{"name": "official", "abnormal": True, "seed": 77, "split": "test"}]
    # The manifest does not know that it lists the test video a second time.
    rows += [{"name": "copy", "abnormal": True, "seed": 77, "content": "official", "split": "train"}]
    add_videos(workspace, rows, ExportConfig(validation_fraction=0.2, test_fraction=0.2))
    held_out = {name for name, row in workspace.decided_splits().items() if row.split != "train"}
    assert {"official", "copy"} < held_out
    assert 0 < len(held_out) < 20
    opened: list[str] = []

    def recorded(path: Path) -> Any:
        opened.append(path.name)
        return open_features(path)

    monkeypatch.setattr(data, "open_features", recorded)
    train_sampler(workspace, CONFIG)
    trained = {row.video_id for row in workspace.features.records() if row.path.removeprefix("features/") in opened}
    assert trained == set(workspace.decided_splits()) - held_out
    assert not held_out & {video.video_id for video in load_corpus(workspace).videos}


def test_out_of_fold_scores_are_those_of_networks_that_left_a_video_out(filled: Workspace) -> None:
    sampler = train_sampler(filled, CONFIG)
    [trained] = sampler.recipes
    stored = read_out_of_fold(filled.storage.local_path("models/sampler"))
    videos = load_corpus(filled).videos
    assert set(stored) == set(sampler.contents) == {video.content for video in videos}
    for fold, network, scale in zip(make_folds(videos, CONFIG), trained.networks, trained.scales, strict=True):
        for video in (videos[index] for index in fold):
            seen = scaled(arrange(open_features(video.path), RECIPE), scale)
            expected = smooth(score_with(network, seen, "cpu"), trained.smoothing_s / video.snippet_s)
            np.testing.assert_allclose(stored[video.content], expected, atol=1e-6)


@pytest.mark.parametrize(
    "change", [{"is_abnormal": True}, {"glances": (2,), "is_abnormal": True}, {"sha256": "other"}, {"snippet_s": 9.0}]
)
def test_an_interrupted_training_begins_anew_where_a_video_changed(
    change: dict[str, Any], filled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_corpus(filled)
    named = [replace(video, split="train" if place else "validation") for place, video in enumerate(corpus.videos)]
    corpus = replace(corpus, videos=tuple(named))  # the same videos validate, whatever their labels
    steps: list[int] = []
    original = training._Trainer._step

    def interrupted(self: Any, network: Any, optimizer: Any, batch: Any, step: int) -> Any:
        if len(steps) == 5:
            raise KeyboardInterrupt
        steps.append(step)
        return original(self, network, optimizer, batch, step)

    monkeypatch.setattr(training._Trainer, "_step", interrupted)
    for first in (0, 4):
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            train_on(corpus, CONFIG, tmp_path)
        assert steps[0] == first
    place = next(place for place, video in enumerate(named) if place and not video.is_abnormal)
    videos = [*named]
    videos[place] = replace(videos[place], **change)
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        train_on(replace(corpus, videos=tuple(videos)), CONFIG, tmp_path)
    assert steps[0] == 0


def test_a_trained_sampler_is_kept_until_its_inputs_change(filled: Workspace) -> None:
    folder, _ = ensure_sampler(filled, CONFIG)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    ensure_sampler(filled, CONFIG)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    add_videos(filled, [{"name": "a9", "abnormal": True, "seed": 9}])
    ensure_sampler(filled, CONFIG)
    assert (folder / "model.safetensors").stat().st_mtime_ns != made


def test_a_stored_sampler_scores_as_it_did(filled: Workspace) -> None:
    sampler = train_sampler(filled, CONFIG)
    again = load_sampler(filled.storage.local_path("models/sampler"))
    features = np.random.default_rng(0).normal(size=(2, 9, DIM)).astype(np.float16)
    np.testing.assert_array_equal(again.score(features, 1.0), sampler.score(features, 1.0))
    assert [trained.recipe for trained in again.recipes] == [RECIPE]


def test_recipes_that_validate_alike_speak_together(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    other = RECIPE.model_copy(update={"steps": RECIPE.steps + 1})
    hopeless = RECIPE.model_copy(update={"steps": 1, "learning_rate": 1e-9})
    monkeypatch.setattr(training, "candidate_recipes", lambda *_: [RECIPE, other, hopeless])
    monkeypatch.setattr(training, "_INDISTINCT", 0.05)
    sampler = train_sampler(filled, CONFIG)
    tried = sampler.validation["tried"]
    assert [row["used"] for row in tried] == [True, True, False]
    assert [row["step"] for row in tried] == [
        RECIPE.steps,
        RECIPE.steps + 1,
        1,
    ]  # the last one of each, not the luckiest
    features = np.random.default_rng(0).normal(size=(1, 9, DIM)).astype(np.float16)
    alone = [recipe.score(features, 1.0, "cpu") for recipe in sampler.recipes]
    np.testing.assert_allclose(sampler.score(features, 1.0), np.mean(alone, axis=0), rtol=1e-6)
    again = load_sampler(filled.storage.local_path("models/sampler"))
    np.testing.assert_array_equal(again.score(features, 1.0), sampler.score(features, 1.0))


def test_features_of_another_width_are_refused(filled: Workspace) -> None:
    sampler = train_sampler(filled, CONFIG)
    with pytest.raises(SetupError, match="7 values; the sampler takes 6"):
        sampler.score(np.zeros((1, 3, 7), np.float16), 1.0)


def test_a_damaged_or_missing_sampler_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no trained sampler there"):
        load_sampler(tmp_path)
    (tmp_path / "config.json").write_text('{"format": 1}')
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(SetupError, match="not a sampler of this engine"):
        load_sampler(tmp_path)


def test_without_normal_videos_it_says_so(workspace: Workspace) -> None:
    add_videos(workspace, [{"name": "a", "abnormal": True, "seed": 1}])
    with pytest.raises(DataError, match="there are 0 and 1"):
        train_sampler(workspace, CONFIG)


def test_features_of_two_encoders_do_not_mix(workspace: Workspace) -> None:
    add_videos(workspace, [{"name": "a", "abnormal": True, "seed": 1}, {"name": "n", "seed": 2, "encoder": "motion"}])
    with pytest.raises(DataError, match="several kinds"):
        load_corpus(workspace)


def labelled(
    name: str, *, abnormal: bool, split: str = "train", glances: tuple[int, ...] = (), copies: str | None = None
) -> LabelledVideo:
    return LabelledVideo(
        video_id=name, path=Path(name), num_snippets=30, snippet_s=1.0, is_abnormal=abnormal, glances=glances,
        split=split, copies=copies or name, content=name, sha256=name,
    )  # fmt: skip


def test_folds_are_stratified_and_leave_one_of_each_kind() -> None:
    videos = [labelled(f"a{n}", abnormal=True) for n in range(6)] + [labelled("n0", abnormal=False)]
    folds = make_folds(videos, SamplerConfig(folds=3))
    assert sorted(index for fold in folds for index in fold) == [0, 1, 2, 3, 4, 5]  # the only normal video stays
    assert [len(fold) for fold in folds] == [2, 2, 2]
    [single] = make_folds(videos + [labelled(f"n{n}", abnormal=False) for n in range(1, 10)], SamplerConfig(folds=1))
    assert sum(index < 6 for index in single) == 1
    assert len(single) == 3


def test_copies_share_a_fold() -> None:
    videos = [labelled(f"a{n}", abnormal=True, copies=f"c{n // 2}") for n in range(12)]
    videos += [labelled(f"n{n}", abnormal=False) for n in range(6)]
    for folds in (make_folds(videos, SamplerConfig(folds=3)), make_folds(videos, SamplerConfig(folds=1))):
        for fold in folds:
            held_out = {videos[index].copies for index in fold}
            assert not held_out & {video.copies for index, video in enumerate(videos) if index not in fold}


def test_a_validation_split_of_the_manifest_is_the_only_fold() -> None:
    videos = [labelled("a", abnormal=True), labelled("n", abnormal=False)]
    videos += [labelled("v", abnormal=True, split="validation")]
    assert make_folds(videos, SamplerConfig()) == [[2]]


def test_weighted_auc_equals_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    values, truth, weights = rng.integers(0, 6, 200) / 5, rng.random(200) < 0.3, rng.random(200)
    expected = metrics.roc_auc_score(truth, values, sample_weight=weights)
    assert weighted_auc(values, truth, weights) == pytest.approx(expected)
    assert weighted_auc(values, np.zeros(200, bool), weights) is None


def test_glance_auc_leaves_out_what_is_unknown() -> None:
    video = labelled("a", abnormal=True, glances=(15,))
    score = np.zeros(30, np.float32)
    score[14:17], score[8] = 1.0, 5.0  # 7 s from the click nothing is known
    assert glance_auc({"a": score}, [video]) == 1.0
    score[2] = 5.0
    assert glance_auc({"a": score}, [video]) == pytest.approx(1 - 1 / 9)


def test_theta_stands_between_clicked_events_and_normal_videos() -> None:
    videos = [labelled("a", abnormal=True, glances=(15,)), labelled("n", abnormal=False), labelled("m", abnormal=False)]
    a, n, m = (np.zeros(30, np.float32) for _ in range(3))
    a[14], a[5], n[3], m[9] = 0.8, 1.0, 0.4, 0.2  # only what is near a click counts
    scores = {"a": a, "n": n, "m": m}
    assert choose_theta(scores, videos) == pytest.approx(0.6)
    n[3] = 0.9  # one of two normal videos is worth less than the only event
    assert choose_theta(scores, videos) == pytest.approx(0.5)
    assert choose_theta({"n": n, "m": m}, videos[1:]) is None


def test_few_videos_bring_small_networks_and_many_the_configured_one() -> None:
    network = SamplerConfig(recipe=Recipe(head="network"))
    small = candidate_recipes(network, "motion", 8)
    assert {recipe.head for recipe in small} == {"network"}
    assert {recipe.supervision for recipe in small} == {"regions", "video-label"}
    assert {recipe.pooling for recipe in small} == {"positions"}
    assert {recipe.context for recipe in small} == {"none", "video"}
    assert candidate_recipes(network, "motion", 1600) == [Recipe(head="network")]
    by_label = Recipe(head="network", supervision="video-label")
    only = candidate_recipes(SamplerConfig(recipe=by_label), "clip", 8)
    assert {(recipe.supervision, recipe.pooling) for recipe in only} == {("video-label", "none")}


def test_with_few_videos_there_is_one_recipe() -> None:
    for videos, head in ((39, "blend"), (40, "trees")):
        few = candidate_recipes(SamplerConfig(), "motion", videos)
        assert [(recipe.head, recipe.loss.positive_s, recipe.context) for recipe in few] == [(head, 1, "video")]
    by_label = SamplerConfig(recipe=Recipe(supervision="video-label"))
    for videos, config in ((1600, SamplerConfig()), (8, by_label)):
        networks = candidate_recipes(
            config.model_copy(update={"recipe": config.recipe.model_copy(update={"head": "network"})}), "clip", videos
        )
        default = candidate_recipes(config, "clip", videos)
        assert {recipe.head for recipe in default} == {"linear", "trees", "neighbours", "network"}
        assert [recipe for recipe in default if recipe.head == "network"] == networks[:2]


def test_motion_and_what_a_model_sees_have_heads_of_their_own() -> None:
    both = candidate_recipes(SamplerConfig(), "motion + clip", 8)
    seen = [(recipe.head, recipe.part, recipe.pooling, recipe.unit_length) for recipe in both]
    assert seen == [("blend", "motion", "positions", False), ("trees", "vision", "none", True)]
    features = np.random.default_rng(0).normal(size=(1, 3, motion.DIM + 5)).astype(np.float16)
    motion_part, vision = (arrange(features, Recipe(part=part)) for part in ("motion", "vision"))
    np.testing.assert_array_equal(np.concatenate([motion_part, vision], axis=-1), features.astype(np.float32))
    one = SamplerConfig(recipe=Recipe(head="linear", part="vision"))
    assert {recipe.part for recipe in candidate_recipes(one, "motion + clip", 8)} == {"vision"}
    with pytest.raises(SetupError, match=r"recipe\.part=vision: features\.encoder=motion is not"):
        candidate_recipes(one, "motion", 8)


@pytest.mark.parametrize("videos", [8, 1600])
def test_heads_compete_unless_one_is_named(videos: int) -> None:
    networks = candidate_recipes(SamplerConfig(recipe=Recipe(head="network")), "motion", videos)
    every = candidate_recipes(SamplerConfig(search="full", recipe=Recipe(head="trees")), "motion", videos)
    assert [recipe for recipe in every if recipe.head == "network"] == networks
    assert {recipe.head for recipe in every} == {"linear", "trees", "neighbours", "network"}
    trees = candidate_recipes(SamplerConfig(recipe=Recipe(head="trees")), "motion", videos)
    assert {(recipe.head, recipe.pooling, recipe.unit_length) for recipe in trees} == {("trees", "positions", False)}
    tried = {(recipe.context, recipe.loss.positive_s) for recipe in trees}
    assert tried == {("video", 1.0), ("video", 4.0), ("none", 1.0), ("none", 4.0)}
    linear = Recipe(head="linear", supervision="video-label")
    found = candidate_recipes(SamplerConfig(recipe=linear), "clip", videos)
    seen = {(recipe.supervision, recipe.pooling, recipe.unit_length) for recipe in found}
    assert seen == {("video-label", "none", True)}
    assert candidate_recipes(SamplerConfig(search="off", recipe=linear), "clip", videos) == [linear]
    assert candidate_recipes(SamplerConfig(search="off"), "clip", videos) == [Recipe(head="network")]


def test_many_videos_are_shared_out_among_fewer_folds() -> None:
    alone = SamplerConfig(recipe=Recipe(head="network"))
    for count, folds in ((16, 8), (100, 8), (180, 4), (1600, 1)):
        videos = [labelled(f"v{n}", abnormal=bool(n % 2)) for n in range(count)]
        shared = make_folds(videos, SamplerConfig())
        assert len(shared) == folds
        assert folds == 1 or sorted(index for fold in shared for index in fold) == list(range(count))
        assert len(make_folds(videos, alone)) == (8 if count < 100 else 1)


def test_heads_together_are_never_worse_than_the_best_alone() -> None:
    videos = (labelled("a", abnormal=True, glances=(15,)), labelled("n", abnormal=False))

    def tried(head: str, near: float, rest: float, wrong: float, first: int) -> tuple[Choice, list[FoldRun]]:
        scores = {"a": np.zeros(30, np.float32), "n": np.full(30, rest, np.float32)}
        scores["a"][14:17], scores["n"][first : first + 9] = near, wrong
        auc = glance_auc(scores, videos)
        assert auc is not None
        return Choice(recipe=Recipe(head=head), auc=auc, step=0, smoothing_s=0.0), [
            FoldRun(scores={0: scores}, states={}, scale=None)
        ]

    trees = tried("trees", 0.5, 0.45, 0.6, 0)
    used, auc = agree([tried("linear", 0.4, 0.35, 1.0, 10), trees], videos)
    assert (sum(used), auc) == (1, trees[0].auc), "together they are wrong wherever one of them is"
    used, auc = agree([tried("linear", 0.5, 0.0, 0.6, 10), tried("trees", 0.5, 0.0, 0.6, 0)], videos)
    assert (used, auc) == ([True, True], 1.0), "where one is wrong the other is not"


@pytest.mark.parametrize("head", HEADS)
def test_simple_heads_find_the_event_and_live_on_disk(filled: Workspace, head: str) -> None:
    recipe = Recipe(
        head=head, supervision="regions", standardise=True, weight_decay=0.03, loss=LossConfig(positive_s=2)
    )
    config = CONFIG.model_copy(update={"recipe": recipe})
    sampler = train_sampler(filled, config)
    features = np.random.default_rng(0).normal(size=(1, 32, DIM)).astype(np.float16)
    features[:, EVENT.start : EVENT.stop, 0] += 4
    scores = sampler.score(features, 1.0)
    outside = np.delete(scores, np.arange(EVENT.start - 2, EVENT.stop + 2))
    assert scores[EVENT.start + 2 : EVENT.stop - 2].min() > outside.max()
    again = load_sampler(filled.storage.local_path("models/sampler"))
    np.testing.assert_array_equal(again.score(features, 1.0), scores)
    np.testing.assert_array_equal(train_sampler(filled, config).score(features, 1.0), scores)


@pytest.mark.slow
def test_all_heads_compete_for_a_sampler(filled: Workspace) -> None:
    config = SamplerConfig(folds=2, recipe=Recipe(steps=3), device="cpu", small_below=0)
    told: list[tuple[int, int]] = []
    sampler = train_sampler(filled, config, lambda _, done, total: told.append((done, total)))
    tried = sampler.validation["tried"]
    assert {row["head"] for row in tried} == {"linear", "trees", "neighbours", "network"}
    assert sampler.validation["glance_auc"] >= max(row["glance_auc"] for row in tried)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    assert sum(row["used"] for row in tried) == len(sampler.recipes)


def test_few_videos_train_one_head(filled: Workspace) -> None:
    sampler = train_sampler(filled, SamplerConfig(folds=2, device="cpu"))
    [row] = sampler.validation["tried"]
    [recipe] = sampler.recipes
    assert (row["head"], row["used"], row["smoothing_s"]) == ("trees", True, recipe.smoothing_s)
    assert row["glance_auc"] == pytest.approx(sampler.validation["glance_auc"])


def test_exported_trees_say_what_scikit_learn_says() -> None:
    from sklearn.ensemble import ExtraTreesClassifier

    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, DIM)).astype(np.float32)
    rows = Rows(values, values[:, 0] + values[:, 1] > 0.5, np.ones(200, dtype=np.float32))
    head = HEADS["trees"].fit(rows, Recipe(head="trees"), 3)
    model = ExtraTreesClassifier(100, min_samples_leaf=2, random_state=3).fit(rows.values, rows.abnormal)
    asked = rng.normal(size=(50, DIM)).astype(np.float32)
    np.testing.assert_allclose(head.rate(torch.from_numpy(asked)), model.predict_proba(asked)[:, 1], atol=1e-6)


def test_a_tenth_of_a_blend_is_linear() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, DIM)).astype(np.float32)
    rows = Rows(values, values[:, 0] > 0.5, np.ones(200, dtype=np.float32))
    asked = torch.from_numpy(rng.normal(size=(50, DIM)).astype(np.float32))
    blend, trees, linear = (HEADS[name].fit(rows, Recipe(), 3).rate(asked) for name in ("blend", "trees", "linear"))
    torch.testing.assert_close(blend, 0.9 * trees + 0.1 * linear)


def test_simple_heads_are_fitted_to_so_many_rows_at_most(filled: Workspace) -> None:
    videos = load_corpus(filled).videos
    recipe = Recipe(head="linear", supervision="regions", loss=LossConfig(positive_s=2, negative_s=3))
    whole = collect_rows(videos, FeatureSource(videos, recipe), recipe, 0)
    assert whole is not None
    assert (whole.abnormal.sum(), len(whole.values)) == (4 * 5, 4 * 32 + 4 * (32 - 2))
    assert whole.weights[whole.abnormal].sum() == pytest.approx(whole.weights[~whole.abnormal].sum())
    fewer = recipe.model_copy(update={"most_rows": 30})
    some = collect_rows(videos, FeatureSource(videos, fewer), fewer, 0)
    assert some is not None
    assert (some.abnormal.sum(), len(some.values), some.values.shape[1]) == (15, 30, DIM)
    known = {row.tobytes(): bool(kind) for row, kind in zip(whole.values, whole.abnormal, strict=True)}
    assert [known[row.tobytes()] for row in some.values] == some.abnormal.tolist()
    again, other = (collect_rows(videos, FeatureSource(videos, fewer), fewer, seed) for seed in (0, 1))
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(again.values, some.values)
    assert (other.values != some.values).any()


def test_clicks_fall_into_the_segment_that_holds_them(workspace: Workspace) -> None:
    clicks = [0, 99 * STRIDE + STRIDE - 1, 50 * STRIDE]
    add_videos(
        workspace,
        [{"name": "a", "abnormal": True, "snippets": 100, "clicks": clicks, "seed": 1}, {"name": "n", "snippets": 7}],
    )
    recipe = RECIPE.model_copy(update={"segments": 10})
    corpus = load_corpus(workspace)
    batch = Batches(corpus.videos, FeatureSource(corpus.videos, recipe), recipe, seed=0).at(0)
    assert torch.nonzero(batch.targets.glances[0]).squeeze(1).tolist() == [0, 5, 9]
    assert batch.targets.lengths.tolist() == [7, 10]
    assert batch.lengths is not None
    assert not batch.features[0, :, 7:].any()


def test_batches_are_a_function_of_the_step_and_take_all_videos_alike(filled: Workspace) -> None:
    corpus = load_corpus(filled)
    recipe = RECIPE.model_copy(update={"batch_videos": 3})
    batches = Batches(corpus.videos, FeatureSource(corpus.videos, recipe), recipe, seed=0)
    assert torch.equal(batches.at(5).features, batches.at(5).features)
    drawn = np.concatenate([batches._draw(4, step, 0) for step in range(8)])
    assert np.bincount(drawn).tolist() == [6, 6, 6, 6]


def test_segments_are_means_and_short_videos_stay_as_they_are() -> None:
    values = np.arange(10, dtype=np.float32).reshape(1, 10, 1)
    assert to_segments(values, segment_bounds(10, 20)).ravel().tolist() == list(range(10))
    assert to_segments(values, segment_bounds(10, 5)).ravel().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert segment_bounds(7, 3).tolist() == [0, 2, 4, 7]


def test_crops_and_padding_and_half_precision_train(workspace: Workspace) -> None:
    rows = [{"name": f"a{n}", "abnormal": True, "seed": n, "crops": 3, "snippets": 25 + n} for n in range(3)]
    rows += [{"name": f"n{n}", "seed": 10 + n, "crops": 3, "snippets": 9 + n} for n in range(3)]
    add_videos(workspace, rows)
    recipe = RECIPE.model_copy(update={"supervision": "clicks", "crops": 2, "steps": 4})
    config = CONFIG.model_copy(update={"recipe": recipe, "precision": "bfloat16", "folds": 1})
    sampler = train_sampler(workspace, config)
    assert len(sampler.recipes) == len(sampler.recipes[0].networks) == 1
    assert np.isfinite(sampler.score(np.zeros((3, 5, DIM), np.float16), 1.0)).all()
