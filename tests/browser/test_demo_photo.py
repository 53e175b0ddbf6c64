"""The Photo tab in a real browser: one picture, several, examples, errors, a phone's screen."""

import csv
import io
import zipfile
from pathlib import Path

import pytest
from demo_page import CARDS, PHONE, cards, clear, give, narrow, until

from expression.drawing import EMOJI
from expression.face_prediction import FacePrediction
from expression.tables import COLUMNS

pytestmark = pytest.mark.slow
MAPS = ".maps .grid-container img"


def shows(page, seen):
    """Waits for the cards of these faces."""
    wanted = [
        [f"{k} · {face.expression}", EMOJI[face.expression],
         [[name, f"{100 * share:.0f} %"] for name, share in list(face.probs.items())[:4]]]
        for k, face in enumerate(seen, 1)
    ]  # fmt: skip
    until(page, lambda: page.evaluate(CARDS) == wanted, lambda: page.evaluate(CARDS))


def test_every_face_of_a_photo_has_its_card_and_its_map(
    page, predictor, served_folder, portrait, crowd, open_predictor
):
    give(page, portrait)
    shows(page, predictor.find(portrait))
    clear(page)
    give(page, crowd)
    shows(page, (seen := predictor.find(crowd)))
    assert len(seen) == 12
    page.get_by_label("Grad-CAM").check()
    until(page, lambda: page.locator(MAPS).count() == 12, page.locator(MAPS).count)
    page.get_by_label("Checkpoint").click()
    page.get_by_role("option", name="tinyvgg-synthetic").click()
    small = open_predictor(served_folder / "tinyvgg-synthetic.safetensors")
    shows(page, small.find(crowd))
    page.get_by_text("trained on synthetic").wait_for()


def test_a_cropped_face_is_answered_whole_and_so_are_drawn_examples(page, predictor, drawn_face):
    page.get_by_label("already cropped").check()
    give(page, drawn_face)
    shows(page, [FacePrediction((0, 0, 48, 48), predictor.predict(drawn_face))])
    clear(page)
    page.get_by_label("already cropped").uncheck()
    page.locator("[data-example='drawn-1.jpg']").click()  # drawn, cropped
    until(page, lambda: len(page.evaluate(CARDS)) == 1, lambda: page.evaluate(CARDS))
    assert page.get_by_label("already cropped").is_checked()


def test_a_photo_after_a_drawn_example_is_searched_for_faces(page, crowd):
    page.locator("[data-example='drawn-1.jpg']").click()
    until(page, lambda: len(page.evaluate(CARDS)) == 1, lambda: page.evaluate(CARDS))
    clear(page)
    give(page, crowd)
    until(page, lambda: len(page.evaluate(CARDS)) == 12, lambda: page.evaluate(CARDS), 8)


def alerts(page):
    """What is told in words, of what went wrong."""
    page.wait_for_timeout(500)  # a second message would come beside it
    assert page.get_by_test_id("toast-body").count() == 0
    assert page.get_by_text("Error", exact=True).locator("visible=true").count() == 0
    return page.locator(".told:visible").all_inner_texts()


def test_an_error_is_told_once_and_what_stood_there_goes(page, portrait, letter):
    # It was a message in a corner, a pill "Error" on every part, and the faces of the photo before
    page.get_by_role("button", name="Name the expressions").click()
    page.get_by_text("There is no picture yet").wait_for()
    assert len(alerts(page)) == 1
    give(page, portrait)
    cards(page, 1)
    assert alerts(page) == []
    clear(page)
    give(page, letter)
    page.get_by_text("letter.jpg is not a picture that can be read").wait_for()
    assert len(alerts(page)) == 1 and page.evaluate(CARDS) == []
    assert page.locator(".drawn img").count() == 0


def test_several_pictures_are_a_table_with_files_to_take_away(page, portrait, crowd, letter):
    page.get_by_role("button", name="Several pictures").click()
    page.locator("input[type=file][multiple]").set_input_files([portrait, letter, crowd])
    rows = page.locator(".face-table tbody tr")
    until(page, lambda: rows.count() == 13, rows.count)
    (told,) = alerts(page)
    assert "letter.jpg is not a picture that can be read" in told
    with page.expect_download() as download:
        page.locator("a[download='faces.csv']").first.click()
    read = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert tuple(read[0])[: len(COLUMNS)] == COLUMNS
    assert [row["source"] for row in read] == ["astronaut.png"] + ["crowd.png"] * 12
    with page.expect_download() as download:
        page.locator("a[download='faces.zip']").first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["faces.csv", "01-astronaut.jpg", "02-crowd.jpg"]
    captions = page.locator(".caption-label").all_inner_texts()
    assert captions == ["astronaut.png: happy", "crowd.png: " + ", ".join(["happy"] * 12)]
    face = rows.first.locator("img")
    assert face.bounding_box()["width"] >= 96  # smaller ones told nothing
    assert narrow(page) and face.bounding_box()["width"] >= 96


def test_on_a_phone_the_answer_is_right_below_the_photo_and_scrolled_to(page, portrait):
    # It was below the options and all examples, two screens further down
    page.set_viewport_size(PHONE)
    give(page, portrait)
    cards(page, 1)
    card, photo = page.locator(".face"), page.locator(".photo-parts:visible > .photo")
    below = page.locator(".photo-parts:visible > .more")
    until(page, lambda: 0 <= card.bounding_box()["y"] < PHONE["height"] - 100, card.bounding_box)
    tops = [place.bounding_box()["y"] for place in (photo, card, below)]
    assert tops == sorted(tops)


# The contrast of every visible text to the ground behind it, where it is below 4.5 (WCAG 2.1)
FAINT = """() => {
    const numbers = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number);
    const light = rgb => {
        const [r, g, b] = rgb.slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => {
        for (let e = element; e; e = e.parentElement) {
            const style = getComputedStyle(e), colour = numbers(style.backgroundColor);
            if (style.backgroundImage !== 'none') return null;
            if (colour.length && (colour[3] ?? 1) > 0.99) return colour;
        }
        return [255, 255, 255];
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; node = walk.nextNode();) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility({opacityProperty: true})) continue;
        if (element.closest('.emoji, script, style')) continue;
        const behind = ground(element), ink = numbers(getComputedStyle(element).color);
        if (!behind || ink.length < 3) continue;
        const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) found.push(`${node.data.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return found;
}"""
NAMELESS = """() => [
    ...[...document.querySelectorAll('button, a[href], input:not([type=file]), select')]
        .filter(e => e.checkVisibility() && !(e.innerText.trim() || e.ariaLabel || e.title ||
            e.getAttribute('aria-labelledby') || e.labels?.length ||
            e.querySelector('img')?.alt)),
    ...[...document.querySelectorAll('img')].filter(e => e.checkVisibility() && !e.alt &&
        !e.closest('button')?.innerText.trim()),
].map(e => e.outerHTML.slice(0, 160))"""
# Width, and red + green + blue of the border and of the ground of a checkbox without its tick
BORDER = """() => { const style = getComputedStyle(document.querySelector(
        'input[type=checkbox]:not(:checked)'));
    const sum = colour => colour.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0);
    return [style.borderTopWidth, sum(style.borderTopColor), sum(style.backgroundColor)]; }"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_are_legible_and_pictures_and_buttons_have_names(browser, served, portrait, theme):
    with browser.new_context(color_scheme=theme, viewport=PHONE) as context:
        page, outside = context.new_page(), []
        page.on("request", lambda asked: outside.append(asked.url))
        page.goto(served[0])
        page.get_by_role("tab", name="Photo").wait_for(timeout=60_000)
        page.get_by_label("show where it looks").check()
        give(page, portrait)
        cards(page, 1)
        page.locator(MAPS).first.wait_for()
        for tab in ("Photo", "Mirror", "Video"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(400)
            assert (page.evaluate(FAINT), page.evaluate(NAMELESS)) == ([], []), (theme, tab)
        page.get_by_role("tab", name="Photo").click()
        width, line, ground = page.evaluate(BORDER)
        assert width == "2px" and abs(line - ground) > 250  # a pale hairline was no checkbox
        own = (served[0], "data:", "blob:")
        assert [url for url in outside if not url.startswith(own)] == []  # no web fonts either


def test_on_a_phone_no_tab_is_wider_than_the_screen(page, crowd):
    page.set_viewport_size(PHONE)
    give(page, crowd)
    page.get_by_label("Grad-CAM").check()
    page.locator(MAPS).last.wait_for()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function(
            "dark => document.body.matches('.dark') === dark", arg=theme == "dark"
        )
        for tab in ("Photo", "Mirror", "Video"):
            page.get_by_role("tab", name=tab).click()
            assert narrow(page), (theme, tab)
