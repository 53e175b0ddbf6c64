"""The Mirror tab in a real browser whose camera shows a film: speed, phone, projector."""

import pytest
from demo_page import PHONE, narrow, opened, overlap, until

pytestmark = pytest.mark.slow
# Every answer of the mirror: [milliseconds, expression]
WATCH = """() => { window.answers = []; let last = '';
    new MutationObserver(() => {
        const mirror = document.querySelector('.mirror');
        if (!mirror || mirror.outerHTML === last) return;
        last = mirror.outerHTML;
        window.answers.push([performance.now(), mirror.dataset.expression]);
    }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""


def record_button(page):
    """The mirror's Record (later Stop), after the camera was allowed."""
    page.get_by_role("tab", name="Mirror").click()
    page.get_by_text("Click to Access Webcam").locator("visible=true").click()
    return page.get_by_label("capture photo").locator("visible=true")


def test_the_mirror_follows_the_face_and_keeps_no_picture(film, filmed_browser, served):
    path, expressions = film
    address, uploads = served
    with filmed_browser(path) as browser, browser.new_context(permissions=["camera"]) as context:
        page = opened(context, address)
        before = set(uploads.rglob("*"))
        record = record_button(page)
        page.evaluate(WATCH)
        record.click()

        def answers():
            assert set(uploads.rglob("*")) == before, "a frame lies on the disk"
            return page.evaluate("window.answers")

        def fast_and_both():
            times, names = zip(*(answers() or [(0, None)]), strict=True)
            most = max(sum(t <= u < t + 3000 for u in times) for t in times)
            return most >= 6 and set(expressions) <= set(names)  # two a second, for a while

        until(page, fast_and_both, answers, 60)
        record.click()
        until(page, lambda: record.inner_text() == "Record", record.inner_text)
        page.wait_for_timeout(1000)
        answered = len(answers())
        page.wait_for_timeout(1000)
        assert len(answers()) == answered
        assert narrow(page)


def test_the_mirror_fits_a_phone(film, filmed_browser, served):
    # Side by side, the camera was 160 px wide at 390, the bars 0 px, and Stop lay over the mouth.
    with (
        filmed_browser(film[0]) as browser,
        browser.new_context(permissions=["camera"], viewport=PHONE) as context,
    ):
        page = opened(context, served[0])
        stop = record_button(page)
        stop.click()
        page.locator(".mirror .bar").first.wait_for()
        for width, stacked in ((390, True), (767, True), (768, False)):
            page.set_viewport_size({"width": width, "height": 844})
            page.wait_for_timeout(500)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            camera = page.locator(".camera video").bounding_box()
            answer = page.locator(".mirror").bounding_box()
            assert (answer["y"] >= camera["y"] + camera["height"]) == stacked, width
            if stacked:
                row = page.locator(".camera-and-answer").bounding_box()
                assert camera["width"] == answer["width"] == pytest.approx(row["width"], abs=1)
            assert camera["width"] >= 300, width
            bars = [bar.bounding_box()["width"] for bar in page.locator(".mirror .track").all()]
            assert min(bars) >= 120, (width, bars)
            emoji = page.locator(".mirror .emoji").bounding_box()
            assert 72 <= emoji["height"] <= 150 and not overlap(emoji, camera), width
            x, y = camera["width"] / 320, camera["height"] / 240  # of the film's picture
            face = camera["x"] + 60 * x, camera["y"] + 35 * y, 200 * x, 180 * y
            assert not overlap(stop.bounding_box(), face), width


@pytest.mark.parametrize("width, height", [(390, 844), (1280, 720), (1920, 1080)])
def test_the_large_layout_fills_the_screen_with_the_answer(
    width, height, film, filmed_browser, served
):
    size = {"width": width, "height": height}
    with (
        filmed_browser(film[0]) as browser,
        browser.new_context(permissions=["camera"], viewport=size) as context,
    ):
        page = context.new_page()
        page.goto(f"{served[0]}?present")  # so that it can be a bookmark
        access = page.get_by_text("Click to Access Webcam").locator("visible=true")
        access.click(timeout=60_000)
        page.get_by_label("capture photo").locator("visible=true").click()
        page.locator(".mirror .bar").first.wait_for()
        page.wait_for_timeout(500)
        box = {
            name: page.locator(place).first.bounding_box()
            for name, place in (("answer", ".mirror"), ("camera", ".camera video"))
        }
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        bars = [bar.bounding_box()["width"] for bar in page.locator(".mirror .track").all()]
        assert min(bars) >= 120
        sizes = "e => parseFloat(getComputedStyle(document.querySelector(e)).fontSize)"
        assert page.evaluate(sizes, ".mirror .bar") >= (16 if width < 768 else 0.03 * height)
        if width >= 768:
            assert box["answer"]["width"] > width / 2
            assert box["answer"]["y"] + box["answer"]["height"] <= height  # without scrolling
        assert not overlap(box["answer"], box["camera"])
        away = page.get_by_label("Checkpoint"), page.get_by_text("What it cannot tell")
        assert not any(part.is_visible() for part in away)
        page.keyboard.press("Escape")
        assert all(part.is_visible() for part in away) and "present" not in page.url
        page.get_by_role("button", name="for a projector").click()
        assert not any(part.is_visible() for part in away)
