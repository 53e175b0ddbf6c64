"""The parts of the demo's page that are HTML: faces with their emoji and bars, tables, examples.

Colours of text and background come from the page's theme, so that light and dark mode both work;
numbers are text, not pictures, so that a screen reader reads them.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from expression.about import not_sure_words
from expression.drawing import colour_of, face_emoji
from expression.face_prediction import FacePrediction
from expression.tables import COLUMNS, face_row

__all__ = [
    "PictureFaces", "data_url", "examples_html", "faces_html", "mirror_html", "notice",
    "table_html", "thumbnail", "told",
]  # fmt: skip

SHOWN = ("source", "face", "expression", "sure")  # columns of the CSV that the page shows


def notice(text: str) -> str:
    """A sentence in the place of an answer that is still to come."""
    return f'<div class="notice">{escape(text)}</div>'


def told(reason: str) -> str:
    """Why there is no answer; a screen reader reads it at once."""
    return f'<div class="notice told" role="alert">{escape(reason)}</div>'


def bars(probs: dict[str, float]) -> str:
    """One bar for each class, in the order given; probabilities in [0, 1]."""
    return "".join(
        f'<div class="bar"><span>{escape(name)}</span><div class="track"><div class="fill" '
        f'style="width:{100 * share:.1f}%;background:{colour_of(name)}"></div></div>'
        f'<span class="share">{100 * share:.0f} %</span></div>'
        for name, share in probs.items()
    )


def not_sure_note(face: FacePrediction) -> str:
    """What "not sure" means, below the bars; "" for a sure answer."""
    if face.sure:
        return ""
    return f'<p class="unsure">{not_sure_words(face.min_confidence).capitalize()}.</p>'


def data_url(image: Image.Image) -> str:
    """A picture for use inside the page, as JPEG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def thumbnail(image: Image.Image, side: int = 96) -> str:
    """A small square picture, for use inside the page."""
    return data_url(image.convert("RGB").resize((side, side)))


def faces_html(faces: Sequence[FacePrediction], crops: Sequence[Image.Image], most: int = 4) -> str:
    """A card for each face: the network's input, the face's emoji and the first `most` bars."""
    cards = []
    for number, (face, crop) in enumerate(zip(faces, crops, strict=True), 1):
        shown = dict(list(face.probs.items())[:most])
        cards.append(
            f'<div class="face"><div class="look"><img src="{thumbnail(crop)}" '
            f'alt="face {number} as the network sees it"><span>{face_emoji(face)}</span>'
            f'</div><div class="numbers"><h4>{number} · {escape(face.label)}</h4>'
            f"{bars(shown)}{not_sure_note(face)}</div></div>"
        )
    return f'<div class="faces">{"".join(cards)}</div>'


def mirror_html(faces: Sequence[FacePrediction], class_names: Sequence[str]) -> str:
    """The largest face's emoji and bars, in the order of `class_names`; the other faces below.

    `data-expression` is its most likely class, also where "not sure" is shown.
    """
    if not faces:
        return (
            '<div class="mirror" data-expression=""><div class="emoji">🔍</div>'
            "<h3>No face in sight</h3></div>"
        )
    first, *others = faces
    ordered = {name: first.probs[name] for name in class_names}
    rest = " ".join(map(face_emoji, others))
    return (
        f'<div class="mirror" data-expression="{escape(first.expression)}" '
        f'data-sure="{"true" if first.sure else "false"}">'
        f'<div class="emoji">{face_emoji(first)}</div><h3>{escape(first.label)}</h3>'
        f"{bars(ordered)}{not_sure_note(first)}"
        + (f'<div class="others">and {rest}</div>' if rest else "")
        + "</div>"
    )


@dataclass(frozen=True)
class PictureFaces:
    """A picture's name, its faces and a thumbnail of each, as a data URL."""

    name: str
    faces: Sequence[FacePrediction]
    crops: Sequence[str]


def table_html(answers: Sequence[PictureFaces], class_names: Sequence[str]) -> str:
    """A row a face: its crop, picture, number, expression, whether it is sure, probabilities.

    The cells are those of the CSV table (`expression.tables`), without places and scores.
    """
    columns = [*SHOWN, *class_names]
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", *columns))
    rows = []
    for answer in answers:
        for number, (face, crop) in enumerate(zip(answer.faces, answer.crops, strict=True), 1):
            cells = face_row(answer.name, number, face, class_names)
            about = dict(zip(COLUMNS, cells, strict=False))
            picture = (
                f'<td><img src="{crop}" alt="face {number} of {escape(answer.name)}"></td>'
                f'<td class="file">{escape(about["source"])}</td>'
            )
            rest = "".join(f"<td>{escape(about[name])}</td>" for name in SHOWN[1:])
            shares = "".join(f'<td class="share">{cell}</td>' for cell in cells[len(COLUMNS) :])
            rows.append(f"<tr>{picture}{rest}{shares}</tr>")
    return (
        '<div class="face-table" tabindex="0" role="region" aria-label="Faces of all pictures">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def examples_html(title: str, examples: Sequence[tuple[str, str, str]], words: str = "") -> str:
    """Example pictures, (name, caption, data URL) each, as buttons that hold their names."""
    buttons = "".join(
        f'<li><button type="button" data-example="{escape(name)}">'
        f'<img src="{picture}" alt=""><span>{escape(caption)}</span></button></li>'
        for name, caption, picture in examples
    )
    said = f"<p>{escape(words)}</p>" if words else ""
    return f"<h4>{escape(title)}</h4>{said}<ul>{buttons}</ul>"
