"""How the server describes itself: the shapes of its answers for /openapi.json, and a short page.

The page loads nothing from elsewhere; the pages that FastAPI brings fetch their scripts from a CDN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from expression.about import LIMITS

__all__ = ["PAGE_HEADERS", "PICTURE_BODY", "Answer", "Face", "Health", "Problem", "page"]

PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "properties": {"picture": {"type": "string", "format": "binary"}},
        "required": ["picture"],
    }
}
PICTURE_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"image/*": BINARY, "multipart/form-data": FORM}}
}


@dataclass(frozen=True)
class Face:
    """A face, named as in the JSON of the command line.

    `box`: x, y, width, height in pixels of the file. `score`: the detector's, in [0, 1].
    `expression`: the most likely class; `sure`: whether its probability is enough to say so;
    `label`: the word to show, "not sure" where it is not. `probabilities`: in [0, 1] by class, the
    most likely first. `tilt`: degrees, positive where the face would have to be turned
    counter-clockwise to be upright.
    """

    box: tuple[int, int, int, int]
    score: float | None
    expression: str
    sure: bool
    probabilities: dict[str, float | None]
    label: str
    tilt: float


@dataclass(frozen=True)
class Answer:
    """The faces of a picture, the largest first; none is no error."""

    faces: list[Face]
    model: str


@dataclass(frozen=True)
class Problem:
    """Why there is no answer, in one sentence."""

    error: str


@dataclass(frozen=True)
class ModelInfo:
    """The checkpoint's name and the SHA-256 of its file."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Health:
    """Whether pictures are answered, by which network, with which classes."""

    ready: bool
    model: ModelInfo
    classes: list[str]


def page(model: str, class_names: Sequence[str]) -> str:
    """A page for whoever opens the server in a browser, as HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Expressions of faces</title>
<meta name="viewport" content="width=device-width">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto;
padding: 0 1rem }} pre {{ overflow-x: auto }}</style></head><body>
<h1>Expressions of faces</h1>
<p>This server answers programs. The network is <b>{escape(model)}</b>; it knows
{escape(", ".join(class_names))}.</p>
<pre>curl --data-binary @photo.jpg http://this-server/predict
curl -F picture=@photo.jpg http://this-server/predict
curl --data-binary @face.jpg "http://this-server/predict?whole=1"   # one face, cropped</pre>
<ul>
<li><a href="openapi.json">openapi.json</a>: every address, parameter and answer</li>
<li><a href="health">health</a>: whether it answers, and the SHA-256 of its network</li>
<li><a href="metrics">metrics</a>: figures for Prometheus</li>
</ul>
<p>No picture is kept. {escape(LIMITS)}</p>
</body></html>
"""
