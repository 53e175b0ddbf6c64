"""How the browser tests open, fill and read the demo's page."""

import time

from PIL import Image

SERVED = "expression-fer2013"  # real faces come first, so it is chosen unasked
GROUND = (90, 110, 100)
PHONE = {"width": 390, "height": 844}
# [title, emoji, [[class, share], …]] of every card
CARDS = """() => [...document.querySelectorAll('.face')].map(card => [
    card.querySelector('h4').innerText, card.querySelector('.look span').innerText,
    [...card.querySelectorAll('.bar')].map(bar =>
        [bar.children[0].innerText, bar.querySelector('.share').innerText])])"""


def scene(face, shift=0):
    """A face, or nobody, before a camera: 320 × 240."""
    picture = Image.new("RGB", (320, 240), GROUND)
    if face is not None:
        picture.paste(face.resize((170, 170)), (75 + shift, 35 + shift // 2))
    return picture


def opened(context, address):
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Name the expressions").wait_for(
        state="attached", timeout=60_000
    )
    return page


def give(page, *files):
    """To the picture field, or to the visible tab's."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(list(files))


def until(page, true, found, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still {found()} after {seconds} seconds"
        page.wait_for_timeout(100)


def clear(page):
    page.get_by_label("Clear").or_(page.get_by_label("Remove Image")).first.click()
    until(page, lambda: not page.evaluate(CARDS), lambda: page.evaluate(CARDS))


def cards(page, count, seconds=30):
    """The cards, once there are so many."""
    read = lambda: page.evaluate(CARDS)  # noqa: E731
    until(page, lambda: len(read()) == count, read, seconds)
    return read()


def width_of(page):
    return page.evaluate("document.documentElement.scrollWidth")


def narrow(page):
    """Whether everything fits a phone held upright."""
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(300)
    return width_of(page) <= PHONE["width"]


def overlap(one, other):
    """The area in px² that two boxes of a page, or a box of a page and (x, y, w, h), share."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = (
        (box["x"], box["y"], box["width"], box["height"]) if isinstance(box, dict) else box
        for box in (one, other)
    )
    width, height = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    return max(width, 0) * max(height, 0)
