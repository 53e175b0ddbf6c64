"""The parts of the demo's page that are HTML: faces with their emoji and bars, and the style.

Colours of text and background come from the page's theme, so that light and dark mode both work;
numbers are text, not pictures, so that a screen reader reads them.
"""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from expression.about import not_sure_words
from expression.drawing import colour_of, face_emoji
from expression.face_prediction import FacePrediction

__all__ = ["CSS", "faces_html", "mirror_html", "notice"]

CSS = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
.faces {display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(236px, 1fr))}
.face {display: flex; gap: 10px; padding: 10px; border-radius: 12px;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary)}
.face .look {flex: none; width: 64px; text-align: center}
.face .look img {width: 64px; height: 64px; border-radius: 10px; object-fit: cover}
.face .look span {font-size: 34px; line-height: 1.3}
.face .look span, .mirror .emoji, .mirror .others {font-family: "Apple Color Emoji",
  "Segoe UI Emoji", "Noto Color Emoji", sans-serif}
.face .numbers {flex: 1; min-width: 0}
.face h4 {margin: 0 0 6px; color: var(--body-text-color)}
.bar {display: grid; grid-template-columns: 58px 1fr 38px; gap: 6px; align-items: center;
  font-size: 13px; line-height: 1.6; color: var(--body-text-color)}
.bar .track {height: 9px; border-radius: 5px; background: var(--border-color-primary);
  overflow: hidden}
.bar .fill {height: 100%; border-radius: 5px}
.bar .share {text-align: right; font-variant-numeric: tabular-nums}
.unsure {margin: 6px 0 0 !important; font-size: 13px; color: var(--body-text-color)}
.mirror {text-align: center; padding: 8px 12px 14px; border-radius: 14px; min-height: 330px;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary)}
.mirror .emoji {font-size: clamp(72px, 12vw, 118px); line-height: 1.25}
.mirror h3 {margin: 0 0 10px; color: var(--body-text-color)}
.mirror .others {margin-top: 10px; color: var(--body-text-color-subdued)}
.mirror .bar {max-width: 420px; margin: 0 auto; text-align: left;
  grid-template-columns: 58px minmax(120px, 1fr) 38px}
.camera .button-wrap {position: static; transform: none; width: max-content; margin: 8px auto}
.maps .grid-wrap, .found .grid-wrap {padding-top: 40px !important}  /* below the label */
.maps .grid-container {grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)) !important}
.found .grid-wrap {min-height: 0 !important; max-height: 640px !important}
.found .grid-container {grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)) !important}
.found .thumbnail-item {height: auto; aspect-ratio: auto}
.found .thumbnail-item img {height: auto}
.found .caption-label {position: static; max-width: none; white-space: normal; border: none}
.timeline .image-container {padding-top: 40px}  /* its buttons, so that they hide no legend */
.camera-and-answer .html-container {padding: 0}
@media (max-width: 767px) {
  .camera-and-answer {flex-direction: column}
  .camera-and-answer > * {flex: none; width: 100%}
  .camera video {max-height: 45vh; object-fit: cover}  /* upright cameras leave room below */
  .mirror {min-height: 0}
  .mirror .emoji, .mirror h3 {display: inline-block; margin: 0 6px; vertical-align: middle}
  .timeline {contain: inline-size}
  .timeline .image-frame {overflow-x: auto; justify-content: start}  /* legible: scroll sideways */
  .timeline .image-frame img {min-width: 680px}
}
.notice {padding: 18px; border-radius: 12px; text-align: center;
  color: var(--body-text-color-subdued); background: var(--background-fill-secondary);
  border: 1px dashed var(--border-color-primary)}
"""


def notice(text: str) -> str:
    return f'<div class="notice">{escape(text)}</div>'


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


def thumbnail(image: Image.Image, side: int = 96) -> str:
    """A small picture as a data URL, for use inside the page."""
    buffer = io.BytesIO()
    image.convert("RGB").resize((side, side)).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


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
