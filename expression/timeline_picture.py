"""Draw a timeline with Pillow: stacked areas, one panel a face, a legend at the side.

Why not matplotlib: it would add a quarter to what answering installs, and takes longer to import
than most pictures take to answer. Areas are drawn twice as large and reduced, which smooths edges.
"""

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from expression.drawing import text_font
from expression.face_prediction import NOT_SURE
from expression.timeline_figure import Panel, TimelineFigure

__all__ = ["draw_timeline"]

WIDTH, PANEL, GAP = 1200, 120, 30  # pixels: the whole, a panel's height, between panels
LEFT, TOP, BOTTOM, SIDE = 62, 70, 56, 16
GRAY, GROUND, INK = "#767676", "#f7f7f7", "#000000"
TITLE, TEXT, SMALL = 20, 15, 13  # sizes of letters
FINER = 2  # areas are drawn this many times as large
HATCH = 9  # pixels between the lines that mark "not sure"


def draw_timeline(figure: TimelineFigure) -> Image.Image:
    """The figure as an RGB picture, 1200 pixels wide."""
    names = [*([NOT_SURE] if figure.any_unsure else []), *figure.class_names]
    legend = 44 + math.ceil(max(map(text_font(TEXT).getlength, names), default=0))
    right = WIDTH - legend - 2 * SIDE
    count = len(figure.panels)
    height = TOP + max(count, 1) * PANEL + max(count - 1, 0) * GAP + BOTTOM
    picture = Image.new("RGB", (WIDTH, max(height, TOP + 24 * (len(names) + 1))), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((SIDE, 14), fitted(figure.title, WIDTH - 2 * SIDE, TITLE), INK, text_font(TITLE))
    if not figure.panels:
        pen.text((WIDTH / 2, height / 2), "no face was seen", GRAY, text_font(TEXT), "mm")
        return picture
    start, end = figure.limits
    end = max(end, start + 1e-3)
    for index, panel in enumerate(figure.panels):
        top = TOP + index * (PANEL + GAP)
        size = (right - LEFT, PANEL)
        picture.paste(draw_panel(panel, figure.colours, size, (start, end)), (LEFT, top))
        draw_axes(pen, panel, top)
    bottom = TOP + count * PANEL + (count - 1) * GAP
    for second, label in ticks(start, end):
        x = LEFT + (second - start) / (end - start) * (right - LEFT)
        pen.line((x, bottom, x, bottom + 5), GRAY)
        pen.text((x, bottom + 8), label, GRAY, text_font(SMALL), "ma")
    pen.text(((LEFT + right) / 2, bottom + 30), figure.xlabel, INK, text_font(SMALL), "ma")
    draw_legend(picture, figure, right + SIDE)
    return picture


def draw_panel(
    panel: Panel, colours: tuple[str, ...], size: tuple[int, int], limits: tuple[float, float]
) -> Image.Image:
    """The stacked areas of one face."""
    width, height = size[0] * FINER, size[1] * FINER
    picture = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(picture)
    start, end = limits
    for area in panel.areas:
        x = (area.times - start) / (end - start) * width
        tops = height * (1 - np.cumsum(area.shares, axis=1))  # (N, C)
        lower = np.full(len(x), float(height))
        for upper, colour in zip(tops.T, colours, strict=True):
            outline = [*zip(x, upper, strict=True), *zip(x[::-1], lower[::-1], strict=True)]
            pen.polygon([(float(a), float(b)) for a, b in outline], fill=colour)
            lower = upper
        for upper in tops.T[:-1]:
            pen.line([(float(a), float(b)) for a, b in zip(x, upper, strict=True)], "white", 2)
        for left, seconds in area.unsure:
            edges = [(v - start) / (end - start) * width for v in (left, left + seconds)]
            mark_unsure(picture, (math.floor(edges[0]), 0, math.ceil(edges[1]), height))
    return picture.resize(size, Image.Resampling.BOX)


def mark_unsure(picture: Image.Image, box: tuple[int, int, int, int], lines: int = HATCH) -> None:
    """Make a part of the picture lighter, and hatch it: "not sure"."""
    left, top, right, bottom = box
    right = max(right, left + 2)
    part = picture.crop((left, top, right, bottom))
    part = Image.blend(part, Image.new("RGB", part.size, "white"), 0.6)
    pen = ImageDraw.Draw(part)
    width, height = part.size
    for x in range(-height - left % (lines * FINER), width, lines * FINER):
        pen.line((x, height, x + height, 0), GRAY, 2)
    picture.paste(part, (left, top))


def draw_axes(pen: ImageDraw.ImageDraw, panel: Panel, top: int) -> None:
    """The line at the left, its shares, and the number of the face."""
    pen.line((LEFT, top, LEFT, top + PANEL), INK)
    for share in (0, 0.5, 1):
        y = top + PANEL * (1 - share)
        pen.line((LEFT - 5, y, LEFT, y), GRAY)
        pen.text((LEFT - 8, y), f"{100 * share:.0f} %", GRAY, text_font(SMALL), "rm")
    if panel.track is not None:
        pen.text((LEFT, top - 4), f"#{panel.track}", INK, text_font(TEXT), "ls")


def draw_legend(picture: Image.Image, figure: TimelineFigure, left: int) -> None:
    """The classes from top to bottom as they are stacked; last the mark of "not sure"."""
    pen = ImageDraw.Draw(picture)
    entries = list(zip(figure.class_names, figure.colours, strict=True))[::-1]
    for index, (name, colour) in enumerate(entries + [(NOT_SURE, "white")] * figure.any_unsure):
        y = TOP + 24 * index
        box = (left, y, left + 26, y + 14)
        pen.rectangle(box, colour)
        if name == NOT_SURE and index == len(entries):
            mark_unsure(picture, box, 4)
            pen.rectangle(box, outline=GRAY)
        pen.text((left + 36, y + 7), name, INK, text_font(TEXT), "lm")


def ticks(start: float, end: float, most: int = 8) -> Iterator[tuple[float, str]]:
    """(second, label) at round numbers, at most about `most` of them."""
    rough = (end - start) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    for k in range(math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9) + 1):
        yield k * step, f"{k * step:.10g}"


def fitted(text: str, width: int, size: int) -> str:
    """The text, shortened at its end where it is wider than that many pixels."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # a file's name may be no UTF-8
    font = text_font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
