"""The page of `holmes serve` in a real browser: from the upload to the answer, on a desk and on a phone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_port import free_port
from page_stub import SPANS, StubDetector, save_video
from playwright.sync_api import Browser, Page, expect, sync_playwright

from flows.page.intake import Limits
from flows.page.server import ServeSettings, served

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium"),
]

EVIL = "<img src=x onerror=\"document.title='pwned'\">"
# A slow machine is no fault of the page.
expect.set_options(timeout=30_000)
FILE_INPUT = "#h-upload input[type=file]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # The sandbox of Chromium needs rights that root has not got in a container.
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), chromium_sandbox=False)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    save_video(folder / "offered.mp4")
    return folder


@pytest.fixture
def detector() -> StubDetector:
    return StubDetector(answer=f"Yes, a square turns red. {EVIL}")


@pytest.fixture
def address(detector: StubDetector, videos: Path) -> Iterator[str]:
    settings = ServeSettings(
        port=free_port(), videos=videos, limits=Limits(max_mb=1, max_minutes=1.0), queue_size=2,
        model="stub", sampler="none",
    )  # fmt: skip
    with served(detector, settings) as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 800})
    elsewhere: list[str] = []
    faults: list[str] = []
    opened.on("request", lambda request: elsewhere.append(request.url) if leaves(request.url, address) else None)
    opened.on("pageerror", lambda fault: faults.append(str(fault)))
    opened.goto(address)
    expect(opened.locator(FILE_INPUT)).to_be_attached(timeout=30_000)
    yield opened
    assert opened.title() == "Holmes"
    opened.close()
    assert elsewhere == []
    assert faults == []


def leaves(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:", "about:"))


def time_of(page: Page) -> float:
    return float(page.evaluate("document.querySelector('#h-player video').currentTime"))


def test_from_the_upload_to_the_answer(page: Page, detector: StubDetector, tmp_path: Path) -> None:
    detector.going.clear()
    page.set_input_files(FILE_INPUT, save_video(tmp_path / "my cam.mp4"))
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    expect(page.locator("figcaption")).to_have_text("my cam.mp4")
    detector.going.set()

    expect(page.get_by_label("Verdict")).to_contain_text("Anomaly")
    expect(page.get_by_label("Verdict")).to_contain_text(detector.answer)
    rows = page.locator(".h-row")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("0:02.0 to 0:04.0")

    page.locator(".h-span").nth(1).click()
    page.wait_for_function("document.querySelector('#h-player video').currentTime >= 6")
    assert time_of(page) < 7.9
    expect(page.get_by_role("button", name="span 2", exact=True)).to_have_attribute("aria-pressed", "true")
    rows.nth(0).click()
    page.wait_for_function("document.querySelector('#h-player video').currentTime < 5")
    assert time_of(page) >= 2
    expect(page.get_by_role("button", name="span 1", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(rows.nth(0)).to_have_class("h-row playing")

    page.get_by_label("Question").fill(f"What is red? {EVIL}")
    page.get_by_label("Question").press("Enter")
    log = page.get_by_role("log")
    expect(log.locator(".assistant p")).to_have_text(f"{detector.answer} (1)")
    expect(log.locator(".user p")).to_have_text(f"What is red? {EVIL}")
    assert detector.asked[0][2] == SPANS[0]
    page.get_by_role("button", name="whole video").click()
    expect(page.get_by_role("button", name="whole video")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Question").fill("And now?")
    page.get_by_role("button", name="Ask").click()
    expect(log.locator(".assistant p")).to_have_count(2)
    assert detector.asked[1][2] is None

    with page.expect_download() as downloading:
        page.get_by_text("Download JSON").click()
    found = json.loads(Path(downloading.value.path()).read_text())
    assert (found["video"], len(found["spans"])) == ("my cam.mp4", 2)

    kept = detector.seen[0]
    assert kept.is_file()
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 20_000
    page.get_by_role("button", name="Another video").click()
    expect(page.locator(FILE_INPUT)).to_be_attached()
    assert not kept.exists()


def test_a_video_of_the_folder_is_chosen_on_a_phone(page: Page, detector: StubDetector) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="offered.mp4").click()
    expect(page.locator(".h-row")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    below_one_another = [
        page.locator(part).bounding_box()["y"] for part in ("video", ".h-verdict", ".h-timeline", ".h-rows", "#h-chat")
    ]
    suggested = page.locator("[data-ask]").first
    asked = suggested.inner_text()
    suggested.click()
    expect(page.get_by_role("log").locator(".assistant p")).to_have_count(1)
    assert detector.asked[0][0] == asked
    assert below_one_another == sorted(below_one_another)
    page.locator(".h-row").nth(1).click()
    page.wait_for_function("document.querySelector('#h-player video').currentTime >= 6")


def test_the_place_on_the_curve_that_is_clicked_is_played(page: Page) -> None:
    page.get_by_role("button", name="offered.mp4").click()
    box = page.locator(".h-plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 5 / 8, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('#h-player video').currentTime >= 4.9")
    assert time_of(page) < 6.5
    expect(page.locator(".h-head-line")).to_be_visible()


def test_what_cannot_be_taken_is_told_in_words(page: Page, detector: StubDetector, tmp_path: Path) -> None:
    large, words, broken = tmp_path / "large.mp4", tmp_path / "<img src=x onerror=alert(1)>", tmp_path / "broken.mp4"
    large.write_bytes(b"\0" * (2 << 20))
    words.write_text("words")
    broken.write_bytes(b"no video at all" * 100)
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if "/upload?" in request.url else None)
    notice = page.get_by_role("alert")
    page.set_input_files(FILE_INPUT, large)
    expect(notice).to_contain_text("large.mp4: 2.0 MB are more than the 1 MB that are taken here")
    page.set_input_files(FILE_INPUT, words)
    expect(notice).to_contain_text(f"{words.name}: not a video file")
    assert uploads == []
    page.set_input_files(FILE_INPUT, broken)
    expect(notice).to_contain_text("broken.mp4: no video format")
    assert len(uploads) == 1
    assert "Traceback" not in page.content()
    assert detector.seen == []


def test_who_comes_when_too_many_wait_is_told(
    page: Page, browser: Browser, address: str, detector: StubDetector
) -> None:
    detector.going.clear()
    others = [browser.new_page() for _ in range(3)]
    for other in others:
        other.goto(address)
        other.get_by_role("button", name="offered.mp4").click()
        expect(other.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="offered.mp4").click()
    expect(page.get_by_role("alert").first).to_contain_text("too many videos are waiting")
    detector.going.set()
    for other in others:
        expect(other.locator(".h-row")).to_have_count(2)
        other.close()


def test_a_failing_model_is_told_in_words(page: Page, detector: StubDetector) -> None:
    detector.fault = RuntimeError("secret")
    page.get_by_role("button", name="offered.mp4").click()
    expect(page.get_by_role("alert")).to_contain_text("offered.mp4: the analysis failed (RuntimeError)")
    assert "secret" not in page.content()


@pytest.mark.parametrize("ending", ["leave", "close"])
def test_who_goes_makes_room_for_the_next(browser: Browser, address: str, detector: StubDetector, ending: str) -> None:
    detector.endless = True
    first, second = browser.new_page(), browser.new_page()
    for page in (first, second):
        page.goto(address)
        page.get_by_role("button", name="offered.mp4").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
    expect(first.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    expect(second.get_by_role("progressbar")).to_contain_text("")
    detector.endless = False
    if ending == "leave":
        first.get_by_role("button", name="Another video").click()
        expect(first.locator(FILE_INPUT)).to_be_attached()
        expect(second.locator(".h-row")).to_have_count(2)
        expect(first.locator(".h-row")).to_have_count(0)
    first.close()
    expect(second.locator(".h-row")).to_have_count(2)
    second.close()


def test_a_page_that_is_closed_takes_its_upload_with_it(
    browser: Browser, address: str, detector: StubDetector, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.goto(address)
    page.set_input_files(FILE_INPUT, save_video(tmp_path / "cam.mp4"))
    expect(page.locator(".h-row")).to_have_count(2)
    other = browser.new_page()
    other.goto(address)
    page.close()
    expect(other.locator(FILE_INPUT)).to_be_attached()
    for _ in range(100):
        if not detector.seen[0].exists():
            break
        other.wait_for_timeout(100)
    assert not detector.seen[0].exists()
    other.close()
