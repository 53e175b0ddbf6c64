"""The Photo tab in a real browser: one picture, several, examples, errors, a phone's screen."""

import pytest
from demo_page import CARDS, PHONE, clear, give, narrow, until

from expression.drawing import EMOJI
from expression.face_prediction import FacePrediction

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
    page.locator(".gallery-item").nth(1).click()  # drawn, cropped
    until(page, lambda: len(page.evaluate(CARDS)) == 1, lambda: page.evaluate(CARDS))
    assert page.get_by_label("already cropped").is_checked()


def test_a_photo_after_a_drawn_example_is_searched_for_faces(page, crowd):
    page.locator(".gallery-item").nth(1).click()
    until(page, lambda: len(page.evaluate(CARDS)) == 1, lambda: page.evaluate(CARDS))
    clear(page)
    give(page, crowd)
    until(page, lambda: len(page.evaluate(CARDS)) == 12, lambda: page.evaluate(CARDS), 8)


def test_unreadable_files_are_told_and_the_others_shown(page, portrait, crowd, letter):
    page.get_by_role("button", name="Name the expressions").click()
    page.get_by_text("There is no picture yet").wait_for()
    give(page, letter)
    reason = page.get_by_text("letter.jpg is not a picture that can be read")
    reason.wait_for()
    page.get_by_test_id("toast-close").last.click()
    reason.wait_for(state="detached")
    page.get_by_role("button", name="Several pictures").click()
    page.locator("input[type=file][multiple]").set_input_files([portrait, letter, crowd])
    captions = page.locator(".caption-label")
    wanted = ["astronaut.png: happy", "crowd.png: " + ", ".join(["happy"] * 12)]
    until(page, lambda: captions.all_inner_texts() == wanted, captions.all_inner_texts)
    reason.wait_for()
    assert narrow(page)
    # What was found is told in full: "astronaut.p…" told nothing
    cut = "[...document.querySelectorAll('.caption-label')].map(c => c.scrollWidth > c.clientWidth)"
    assert page.evaluate(cut) == [False, False]


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
