"""The front end of a Label Studio server in a headless Chromium of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from studio_server import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = next((path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None)
PATIENCE_MS = 60_000
TRIES = 3

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@contextmanager
def studio_page(studio: Studio, *, width: int = 1400, height: int = 1000) -> Iterator[Page]:
    """Open a page whose visitor is logged in."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{studio.url}/user/login/")
        page.fill("input[name=email]", studio.user)
        page.fill("input[name=password]", studio.password)
        page.click("button[type=submit]")
        page.wait_for_load_state("networkidle")
        yield page
        browser.close()


def open_task(page: Page, url: str, is_shown: str, arg: Any = None) -> None:
    """Open a task in the data manager and wait until a JavaScript condition says that the front end shows it.

    The front end does not ask again for what a busy server has not answered: the page is then loaded anew.

    Raises:
        AssertionError: it is not shown; with what the page and its failed requests said.
    """
    from playwright.sync_api import TimeoutError as NotShownError

    failed: list[str] = []
    page.on("response", lambda answer: failed.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    page.on("requestfailed", lambda request: failed.append(f"{request.failure} {request.url}"))
    for _ in range(TRIES):
        page.goto(url)
        try:
            page.wait_for_load_state("networkidle")
            page.wait_for_function(is_shown, arg=arg)
        except NotShownError:
            continue
        return
    pytest.fail("\n".join([f"{url} is not shown", *failed, page.inner_text("body")]))


def submit(page: Page) -> None:
    """Press Submit and wait until the server has the annotation."""
    with page.expect_response(lambda answer: answer.request.method == "POST" and "/annotations" in answer.url):
        page.click('button:has-text("Submit")')
