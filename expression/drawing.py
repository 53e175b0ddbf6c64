"""Draw faces with their expressions into pictures.

Why: the command line, the demo and annotated videos should look the same, in colours that
colour-blind people can tell apart (Okabe and Ito 2008; contrast of text by WCAG 2.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median

from PIL import Image, ImageColor, ImageDraw, ImageFont

from expression.face_prediction import NOT_SURE, FacePrediction

__all__ = [
    "COLOURS", "EMOJI", "colour_of", "draw_faces", "emoji_of", "face_colour", "face_emoji",
    "ink_on", "layout", "text_font",
]  # fmt: skip

EMOJI = {
    "angry": "😠",
    "disgust": "🤢",
    "fear": "😨",
    "happy": "😊",
    "sad": "😢",
    "surprise": "😮",
    "neutral": "😐",
    "contempt": "😒",
}
COLOURS = {  # Okabe-Ito; similar hues differ in lightness
    "angry": "#d55e00",
    "disgust": "#009e73",
    "fear": "#cc79a7",
    "happy": "#f0e442",
    "sad": "#0072b2",
    "surprise": "#56b4e9",
    "neutral": "#bbbbbb",
    "contempt": "#e69f00",
}
OTHER = "#777777"
FONT = Path(__file__).resolve().parent / "fonts" / "DejaVuSans.ttf"
UNSURE_COLOUR, UNSURE_EMOJI = "#ffffff", "🤔"  # not in the tables above: it is no expression
BARS = 3  # the most likely classes, shown beside a face
Rect = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def colour_of(class_name: str) -> str:
    """'#rrggbb' of a class; a grey for names that are not in COLOURS."""
    return COLOURS.get(class_name.lower(), OTHER)


def emoji_of(class_name: str) -> str:
    """The emoji of a class; a smile for names that are not in EMOJI."""
    return EMOJI.get(class_name.lower(), "🙂")


def face_colour(face: FacePrediction) -> str:
    """The colour of the expression shown; white where the answer is "not sure"."""
    if not face.probs:
        return OTHER
    return colour_of(face.expression) if face.sure else UNSURE_COLOUR


def face_emoji(face: FacePrediction) -> str:
    """The emoji of the expression shown, or that of "not sure"."""
    return emoji_of(face.expression) if face.sure else UNSURE_EMOJI


@lru_cache(maxsize=64)
def text_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with this package; `size` in pixels."""
    return ImageFont.truetype(FONT, size)


@lru_cache(maxsize=64)
def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on this colour."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in ImageColor.getrgb(colour))
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"  # equal contrast at 0.179


# --- faces in a picture ---


@dataclass(frozen=True)
class Mark:
    """Where one face is drawn; `panel` holds its bars, None where there is no room."""

    face: FacePrediction
    label: str
    colour: str
    box: Rect
    tag: Rect
    panel: Rect | None = None


def _label(face: FacePrediction) -> str:
    number = "" if face.track is None else f"#{face.track} "
    if not face.probs:
        return f"{number}face"
    if not face.sure:  # without a share, which would read as how unsure it is
        return f"{number}{NOT_SURE}"
    return f"{number}{face.expression} {100 * face.confidence:.0f} %"


def _clip(face: FacePrediction, size: tuple[int, int]) -> Rect:
    x, y, width, height = face.box
    return max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])


def _overlap(a: Rect, b: Rect) -> int:
    """Shared area in square pixels."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0


def _at(left: float, top: float, width: int, height: int, size: tuple[int, int]) -> Rect:
    """A rectangle of this size, pushed into the picture."""
    x = max(0, min(round(left), size[0] - width))
    y = max(0, min(round(top), size[1] - height))
    return x, y, min(x + width, size[0]), min(y + height, size[1])


def _tag(
    box: Rect, w: int, h: int, size: tuple[int, int], boxes: list[Rect], tags: list[Rect]
) -> Rect:
    """The place for a label near its box that covers least; above and left-aligned if free."""
    left, top, right, bottom = box
    corners = [(left, top - h), (right - w, top - h), ((left + right - w) / 2, top - h)]
    corners += [(left, bottom), (right - w, bottom), (right, top), (left - w, top)]
    corners += [(left, top), (left, bottom - h)]
    places = [_at(x, y, w, h, size) for x, y in corners]

    def hidden(place: Rect) -> float:
        others = sum(_overlap(place, other) for other in boxes if other is not box)
        return 3 * others + 4 * sum(_overlap(place, tag) for tag in tags) + _overlap(place, box)

    return min(places, key=hidden)


def _panel(
    mark: Mark, w: int, h: int, gap: int, size: tuple[int, int], taken: list[Rect]
) -> Rect | None:
    """A place for the bars beside or under the box that covers nothing; None if there is none."""
    left, top, right, bottom = mark.box
    under = max(bottom, mark.tag[3]) + gap
    corners = [(right + gap, top), (left - gap - w, top), (left, under), (right - w, under)]
    for x, y in corners:
        place = _at(x, y, w, h, size)
        fits = abs(place[0] - x) < 1 and place[1] <= y and h <= size[1]
        if fits and not any(_overlap(place, other) for other in taken):
            return place
    return None


def _with_panels(marks: list[Mark], text: int, gap: int, size: tuple[int, int]) -> list[Mark]:
    taken = [rect for mark in marks for rect in (mark.box, mark.tag)]
    done = []
    for mark in marks:
        names = list(mark.face.probs)[:BARS]
        width = math.ceil(max(map(text_font(text).getlength, names), default=0) + 5.2 * text)
        height = round((1.3 * len(names) + 0.4) * text)
        panel = _panel(mark, width, height, gap, size, taken) if names else None
        taken += [panel] if panel else []
        done.append(replace(mark, panel=panel))
    return done


def layout(
    size: tuple[int, int], faces: Sequence[FacePrediction], bars: bool = True
) -> tuple[int, int, list[Mark]]:
    """(line width, text size, marks) in pixels for a picture of `size` (width, height).

    Faces wholly outside the picture are left out. One text size serves all faces:
    it follows the picture, and is smaller where faces are.
    """
    inside = [(face, _clip(face, size)) for face in faces]
    inside = [(face, box) for face, box in inside if box[0] < box[2] and box[1] < box[3]]
    scale = 1.15 * math.sqrt(size[0] * size[1])  # about the long side of a usual photo
    line = max(2, round(scale / 320))
    if not inside:
        return line, 0, []
    face_width = median(box[2] - box[0] for _, box in inside)
    text = max(10, round(scale / 85), min(round(scale / 45), round(face_width / 6.5)))
    widest = max(text_font(100).getlength(_label(face)) / 100 for face, _ in inside) + 0.6
    text = max(5, min(text, int(size[0] / widest), int(size[1] / 1.5)))

    marks: list[Mark] = []
    boxes = [box for _, box in inside]
    for face, box in inside:
        width = math.ceil(text_font(text).getlength(_label(face)) + 0.6 * text)
        tags = [mark.tag for mark in marks]
        tag = _tag(box, width, round(1.4 * text), size, boxes, tags)
        marks.append(Mark(face, _label(face), face_colour(face), box, tag))
    if bars and face_width >= scale / 9:
        marks = _with_panels(marks, text, line, size)
    return line, text, marks


def _draw_bars(pen: ImageDraw.ImageDraw, mark: Mark, text: int) -> None:
    if mark.panel is None:
        return
    left, top, right, bottom = mark.panel
    pen.rectangle((left, top, right - 1, bottom - 1), fill=(0, 0, 0, 150))
    start, end = right - round(4.4 * text), right - round(0.4 * text)
    for k, (name, share) in enumerate(list(mark.face.probs.items())[:BARS]):
        middle = top + round((0.85 + 1.3 * k) * text)
        half = max(2, round(0.3 * text))
        pen.text((left + 0.4 * text, middle), name, "#ffffff", text_font(text), "lm")
        pen.rectangle((start, middle - half, end, middle + half), fill=(255, 255, 255, 60))
        filled = start + round(min(max(share, 0), 1) * (end - start))
        if filled > start:
            pen.rectangle((start, middle - half, filled, middle + half), fill=colour_of(name))


def _draw_box(pen: ImageDraw.ImageDraw, mark: Mark, line: int) -> None:
    """The face's box; dashed where the answer is "not sure"."""
    left, top, right, bottom = mark.box
    if min(right - left, bottom - top) > 4 * line:  # a dark inner line: visible on light skin
        seam = (left + line, top + line, right - 1 - line, bottom - 1 - line)
        pen.rectangle(seam, outline=(0, 0, 0, 110), width=max(1, line // 3))
    if not mark.face.probs or mark.face.sure:
        pen.rectangle((left, top, right - 1, bottom - 1), outline=mark.colour, width=line)
        return
    pen.rectangle((left, top, right - 1, bottom - 1), outline=(0, 0, 0, 160), width=line)
    dash = 4 * line
    for x in range(left, right, 2 * dash):
        end = min(x + dash, right) - 1
        pen.rectangle((x, top, end, top + line - 1), fill=mark.colour)
        pen.rectangle((x, bottom - line, end, bottom - 1), fill=mark.colour)
    for y in range(top, bottom, 2 * dash):
        end = min(y + dash, bottom) - 1
        pen.rectangle((left, y, left + line - 1, end), fill=mark.colour)
        pen.rectangle((right - line, y, right - 1, end), fill=mark.colour)


def draw_faces(
    image: Image.Image, faces: Sequence[FacePrediction], bars: bool = True
) -> Image.Image:
    """A copy, mode RGB, with each face's box, its most likely expression and its track.

    A face whose answer is "not sure" says so, in a dashed white box. `bars` adds the three most
    likely classes beside large faces where that covers nothing. Line width and text size follow
    the picture's size.
    """
    picture = image.convert("RGB")  # a copy in any case
    line, text, marks = layout(picture.size, faces, bars)
    pen = ImageDraw.Draw(picture, "RGBA")
    for mark in marks:
        _draw_box(pen, mark, line)
    for mark in marks:
        if mark.panel:
            _draw_bars(pen, mark, text)
    for mark in marks:  # last: a label is never covered
        left, top, right, bottom = mark.tag
        pen.rectangle((left, top, right - 1, bottom - 1), fill=mark.colour)
        middle = ((left + right) / 2, (top + bottom) / 2)
        pen.text(middle, mark.label, ink_on(mark.colour), text_font(text), "mm")
    return picture
