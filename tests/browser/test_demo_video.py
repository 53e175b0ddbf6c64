"""The Video tab in a real browser."""

import csv
import io
from pathlib import Path

import pytest
from demo_page import give, narrow, until

from expression.timeline import COLUMNS

pytestmark = pytest.mark.slow


def test_a_video_plays_with_its_faces_and_its_table_downloads(page, predictor, clip):
    page.get_by_role("tab", name="Video").click()
    give(page, clip)
    page.get_by_role("button", name="Follow the faces").click()
    page.get_by_text("2.8 seconds").wait_for(timeout=60_000)
    ready = "() => [...document.querySelectorAll('video')].map(v => [v.readyState, v.duration])"
    until(
        page,
        lambda: sum(state >= 2 and length > 2.5 for state, length in page.evaluate(ready)) == 2,
        lambda: page.evaluate(ready),
    )
    with page.expect_download() as download:
        page.locator("a[download]", has_text="KB").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert tuple(rows[0]) == (*COLUMNS, *predictor.class_names)
    assert {row["track"] for row in rows} == {"1"}
    timeline = "[...document.querySelectorAll('img')].some(i => i.naturalWidth > 900)"
    until(page, lambda: page.evaluate(timeline), lambda: "no timeline")
    assert narrow(page)
    assert page.locator(".timeline img").bounding_box()["width"] >= 600  # else nobody reads it


def test_the_progress_says_what_is_left_and_the_example_clip_is_followed(page):
    page.get_by_role("tab", name="Video").click()
    page.locator("[data-example='clip.mp4']").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some(v => v.readyState >= 2)"
    )
    page.evaluate("""() => { window.told = [];
        setInterval(() => window.told.push(document.body.innerText.match(
            /[^\\n]*(s watched|timeline)[^\\n]*/i)?.[0]), 50); }""")
    page.get_by_role("button", name="Follow the faces").click()
    page.get_by_text("2 faces followed through").wait_for(timeout=60_000)
    told = [words for words in page.evaluate("window.told") if words]
    assert any("of 6 s watched" in words and "left" in words for words in told), told[-5:]
    assert page.locator(".progress-bar").count() <= 1  # it stood on each of the four results
