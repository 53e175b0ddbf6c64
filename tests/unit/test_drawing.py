"""Faces and expressions as drawn: readable, inside the picture, nothing hidden, gaps left open."""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageColor

from expression import drawing
from expression.drawing import COLOURS, EMOJI, colour_of, draw_faces, layout
from expression.face_prediction import FacePrediction
from expression.timeline_figure import _palette, timeline_figure
from expression.timeline_picture import draw_panel, draw_timeline, ticks

HAPPY = {"happy": 0.91, "neutral": 0.06, "sad": 0.02, "fear": 0.01}


@dataclass(frozen=True)
class Face(FacePrediction):
    box: tuple[int, int, int, int]
    probs: dict[str, float] = field(default_factory=lambda: dict(HAPPY))
    track: int | None = None


def group():
    """Twelve faces in two close rows, as in a class photo of 1200 x 800."""
    boxes = [(30 + 190 * (k % 6) + 7 * (k % 3), 250 + 150 * (k // 6), 105, 128) for k in range(12)]
    return [Face(box, track=k) for k, box in enumerate(boxes)]


def overlap(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def inside(rect, size):
    return 0 <= rect[0] < rect[2] <= size[0] and 0 <= rect[1] < rect[3] <= size[1]


def lightness(colour):
    return np.dot(ImageColor.getrgb(colour), (0.299, 0.587, 0.114))


# --- colours and names ---


def test_every_expression_has_its_own_emoji_and_colour():
    assert EMOJI.keys() == COLOURS.keys()
    assert len(set(EMOJI.values())) == len(set(COLOURS.values())) == len(EMOJI)


def test_an_unknown_class_is_drawn_in_grey_not_refused():
    assert len(set(ImageColor.getrgb(colour_of("confused")))) == 1
    assert colour_of("Happy") == COLOURS["happy"]  # checkpoints may capitalise
    draw_faces(Image.new("RGB", (200, 200)), [Face((50, 50, 90, 90), {"confused": 1.0})])


@pytest.mark.parametrize("colour", [*COLOURS.values(), drawing.OTHER])
def test_ink_contrasts_with_its_tag(colour):
    # White on yellow cannot be read, black on dark blue neither.
    assert abs(lightness(drawing.ink_on(colour)) - lightness(colour)) > 80


def test_a_label_says_track_expression_and_share():
    _, _, marks = layout((640, 480), [Face((200, 150, 150, 180), track=3), Face((10, 10, 90, 90))])
    assert [mark.label for mark in marks] == ["#3 happy 91 %", "happy 91 %"]


# --- the picture ---


def test_draws_into_a_copy_in_rgb():
    image = Image.new("L", (320, 240), 90)
    drawn = draw_faces(image, [Face((100, 80, 90, 100))])
    assert drawn.mode == "RGB" and drawn.size == image.size
    assert image.getextrema() == (90, 90), "the caller's picture was drawn over"
    rgb = Image.new("RGB", (320, 240))
    draw_faces(rgb, [Face((100, 80, 90, 100))])
    assert rgb.getbbox() is None


def test_the_box_has_the_colour_of_the_first_expression():
    drawn = draw_faces(Image.new("RGB", (640, 480)), [Face((200, 150, 150, 180))])
    assert drawn.getpixel((201, 240)) == ImageColor.getrgb(COLOURS["happy"])


@pytest.mark.parametrize("size, low, high", [((480, 360), 2, 2), ((4000, 3000), 8, 20)])
def test_lines_and_text_grow_with_the_picture(size, low, high):
    face = Face((size[0] // 3, size[1] // 3, size[0] // 4, size[1] // 3))
    line, text, _ = layout(size, [face])
    assert low <= line <= high
    assert size[0] / 60 < text < size[0] / 30


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (48, 48)])
@pytest.mark.parametrize("x, y", [(-0.1, -0.1), (0.7, -0.1), (-0.1, 0.7), (0.7, 0.7), (0.3, 0.3)])
def test_everything_stays_inside_the_picture(size, x, y):
    # A face at the top edge has no room above it for its label.
    box = tuple(round(v) for v in (x * size[0], y * size[1], size[0] * 0.4, size[1] * 0.4))
    _, text, [mark] = layout(size, [Face(box, track=12)])
    for rect in filter(None, (mark.box, mark.tag, mark.panel)):
        assert inside(rect, size)
    assert drawing.text_font(text).getlength(mark.label) <= mark.tag[2] - mark.tag[0]


@pytest.mark.parametrize("box", [(700, 10, 50, 50), (-80, 10, 80, 50), (10, 10, 0, 0)])
def test_a_face_outside_the_picture_is_left_out(box):
    picture = Image.new("RGB", (640, 480))
    assert draw_faces(picture, [Face(box)]).getbbox() is None


def test_one_large_face_gets_bars_beside_it():
    _, _, [mark] = layout((640, 480), [Face((220, 120, 180, 220))])
    assert mark.panel and not overlap(mark.panel, mark.box) and not overlap(mark.panel, mark.tag)
    assert layout((640, 480), [Face((220, 120, 180, 220))], bars=False)[2][0].panel is None


def test_no_bars_where_there_is_no_room():
    assert layout((300, 300), [Face((0, 0, 300, 300))])[2][0].panel is None


def test_bars_are_as_long_as_their_shares():
    def coloured(share):
        probs = {"happy": share, "sad": 0.0}
        picture = Image.new("RGB", (640, 480))
        left, top, right, bottom = layout(picture.size, [Face((220, 120, 180, 220), probs)])[2][
            0
        ].panel
        drawn = draw_faces(picture, [Face((220, 120, 180, 220), probs)])
        pixels = np.asarray(drawn.crop((left, top, right, bottom)))
        return (pixels == ImageColor.getrgb(COLOURS["happy"])).all(axis=2).any(axis=0).sum()

    assert coloured(0.8) == pytest.approx(2 * coloured(0.4), abs=2)


def test_in_a_group_photo_nothing_hides_anything():
    faces = group()
    _, text, marks = layout((1200, 800), faces)
    assert len(marks) == 12 and text >= 12
    assert all(mark.panel is None for mark in marks), "small faces leave no room for bars"
    for a, b in combinations(marks, 2):
        assert not overlap(a.tag, b.tag), f"{a.label} and {b.label} cover each other"
        assert not overlap(a.tag, b.box) and not overlap(b.tag, a.box)


# --- the timeline ---


def rows(start, end, track, step=0.1, probs=None):
    return [(t, track, probs or HAPPY) for t in np.arange(start, end, step).tolist()]


def areas(figure):
    """(first, last) second of each area of the first panel."""
    return [(area.start, area.end) for area in figure.panels[0].areas]


def test_nothing_is_drawn_while_a_face_is_not_seen():
    figure = timeline_figure(rows(0, 2, 1) + rows(5, 7, 1), list(HAPPY), "a video")
    assert areas(figure) == [(0, pytest.approx(1.9)), (5, pytest.approx(6.9))]
    joined = timeline_figure(rows(0, 2, 1) + rows(2.5, 4, 1), list(HAPPY), "a video")
    assert areas(joined) == [(0, pytest.approx(3.9))], "half a second is no gap"

    def coloured(figure, second):  # in the middle of the only panel
        panel = draw_panel(figure.panels[0], figure.colours, (700, 100), (0, 7))
        return panel.getpixel((100 * second, 50)) == ImageColor.getrgb(COLOURS["happy"])

    assert coloured(figure, 1) and coloured(figure, 6) and not coloured(figure, 3)


def test_a_long_thinned_track_is_not_all_gaps():
    # 2000 points of a film of three hours lie 5 s apart.
    figure = timeline_figure(rows(0, 10_000, 1, step=5), list(HAPPY), "a film")
    assert areas(figure) == [(0, pytest.approx(9995))]


def test_a_single_frame_is_still_visible():
    figure = timeline_figure(rows(0, 3, 1) + [(9.0, 1, HAPPY)], list(HAPPY), "a video")
    assert areas(figure)[-1][0] == 9 and areas(figure)[-1][1] > 9


def test_the_six_longest_tracks_in_order_of_appearance():
    many = [row for k in range(9) for row in rows(9 - k, 10 + (k % 3), track=k)]
    figure = timeline_figure(many, list(HAPPY), "a party")
    # Seconds seen of tracks 0 to 8: 1, 3, 5, 4, 6, 8, 7, 9, 11
    assert [panel.track for panel in figure.panels] == [8, 7, 6, 5, 4, 2]
    assert "6 longest of 9" in figure.xlabel


def test_shares_are_stacked_in_the_order_of_the_class_names():
    figure = timeline_figure(
        rows(0, 5, None, probs={"sad": 0.7, "happy": 0.3}), ["happy", "sad"], "x"
    )
    panel = draw_panel(figure.panels[0], figure.colours, (50, 100), figure.limits)
    column = [panel.getpixel((25, y)) for y in range(100)]
    for name, first, last in (("sad", 0, 68), ("happy", 72, 99)):
        assert set(column[first:last]) == {ImageColor.getrgb(COLOURS[name])}, name


def test_smoothing_does_not_reach_across_a_gap():
    before, after = {"happy": 1.0, "sad": 0.0}, {"happy": 0.0, "sad": 1.0}
    figure = timeline_figure(
        rows(0, 3, 1, probs=before) + rows(4.1, 7, 1, probs=after), ["happy", "sad"], "x"
    )
    shares = [area.shares.round(6).tolist() for area in figure.panels[0].areas]
    assert [sorted(map(tuple, set(map(tuple, part)))) for part in shares] == [[(1, 0)], [(0, 1)]]


def test_round_seconds_stand_below_a_timeline():
    assert [label for _, label in ticks(0, 7.9)] == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert [label for _, label in ticks(0.03, 0.5)] == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    assert 2 <= len(list(ticks(3, 3.001))) <= 9
    assert [label for _, label in ticks(0, 9995)] == ["0", "2000", "4000", "6000", "8000"]


@pytest.mark.parametrize("title", ["a" * 900, "caf\udce9.mp4", "", "Ferien 🙂.mp4"])
def test_no_title_stops_a_timeline(title):
    # A file's name may be long, or no UTF-8: Pillow refuses lone surrogates
    picture = draw_timeline(timeline_figure(rows(0, 1, 1), list(HAPPY), title))
    assert picture.width == 1200


def test_unknown_classes_differ_in_colour():
    assert len(set(_palette(["happy", "bored", "awake", "asleep"]))) == 4


def test_no_face_at_all_is_said():
    empty = timeline_figure([], ["happy"], "an empty room")
    assert empty.panels == []
    picture = draw_timeline(empty)
    assert picture.crop((400, 60, 800, picture.height)).getcolors(2) is None, "nothing is written"
