"""What the demo answers: a photo, several, a webcam frame, a video; about a checkpoint.

Everything that a person can show gets an answer, or `gr.Error` with one sentence. Nothing
here knows the page: `demo.py` lays it out.
"""

import copy
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from insight.gradcam import grad_cam, last_layer, overlay
from insight.model_card import LIMITS, crop_words, headline
from predict import CHECKPOINTS, ExpressionPredictor, checkpoints
from studio.commands import answer_pictures, watch
from studio.drawing import draw_faces
from studio.follow import Seen
from studio.page import faces_html, mirror_html, notice
from studio.pictures import open_picture

__all__ = ["SECONDS", "Answers", "refuse"]

NO_FACE = (
    "No face was found. Is it large enough, and not covered? A picture that is nothing but a "
    "face: tick “already cropped”."
)
SECONDS = 120  # of a video, at most
FILES = 50


@lru_cache(maxsize=4)
def load(path: Path, changed: float) -> ExpressionPredictor:
    """One predictor for each file; `changed` (its time) makes a new export count at once."""
    return ExpressionPredictor(path)


def predictor(checkpoint: str, folder: Path) -> ExpressionPredictor:
    path = folder / f"{checkpoint}.safetensors"
    return load(path, path.stat().st_mtime if path.exists() else 0.0)


def refuse(reason: str, title: str = "No answer") -> gr.Error:
    return gr.Error(reason, title=title, print_exception=False)


def spoken(error: Exception, file: str) -> str:
    """The reason, without where an upload lies here, which is nobody's business."""
    if not Path(file).exists():
        return f"{Path(file).name} is no longer kept here; choose it again."
    return str(error).replace(file, Path(file).name)


def look(
    image: str | None, checkpoint: str, whole: bool, folder: Path
) -> tuple[ExpressionPredictor, Image.Image, list[Seen]]:
    """A picture file → (what answered, the picture, its faces); `whole`: it is one face.

    gr.Error, one sentence, for a picture that cannot be read.
    """
    if image is None:
        raise refuse(
            "There is no picture yet: upload one, paste one or take a snapshot.", "No picture"
        )
    try:
        server = predictor(checkpoint, folder)
        picture = open_picture(Path(image), longest=2048)
        if whole:
            return server, picture, [Seen((0, 0, *picture.size), server.predict(picture))]
        return server, picture, server.find(picture)
    except (OSError, ValueError, ImportError) as error:
        raise refuse(spoken(error, image)) from error


def photo(
    image: str | None, checkpoint: str, whole: bool, cam: bool, folder: Path = CHECKPOINTS
) -> tuple[Image.Image, str, list[Image.Image], list[dict[str, Any]]]:
    """A picture file → (drawn picture, HTML of its faces, Grad-CAM maps, faces as JSON).

    Without a face the lists are empty and the HTML says so. gr.Error as from `look`.
    """
    server, picture, seen = look(image, checkpoint, whole, folder)
    if not seen:
        return picture, notice(NO_FACE), [], []
    crops = [picture] if whole else [server.crop(picture, s.box, s.tilt) for s in seen]
    numbered = [replace(s, track=i) for i, s in enumerate(seen, 1)]
    drawn = picture if whole else draw_faces(picture, numbered, bars=False)
    times = picture.info.get("reduced", 1)
    faces = [{"box": [v * times for v in s.box], "probabilities": s.probs} for s in seen]
    return drawn, faces_html(seen, crops), explain(server, crops) if cam else [], faces


def explain(server: ExpressionPredictor, crops: list[Image.Image]) -> list[Image.Image]:
    """Where the network looked, over each crop; at most twelve."""
    batch = torch.stack([server.preprocess(crop) for crop in crops[:12]])
    own = copy.deepcopy(server.model)  # Grad-CAM's hooks must not meet another visitor's face
    try:
        maps = grad_cam(own, batch, last_layer(own, batch, smallest=5))
    except ValueError as error:  # no convolution, as in an SVM
        raise refuse(str(error), "No Grad-CAM") from error
    shown = [server.preprocess.pixels(crop) for crop in crops[:12]]
    return [
        Image.fromarray(overlay(p[0] if len(p) == 1 else p.transpose(1, 2, 0), m)).resize(
            (240, 240), Image.Resampling.BICUBIC
        )
        for p, m in zip(shown, maps, strict=True)
    ]


def several(files: list[str] | None, checkpoint: str, folder: Path = CHECKPOINTS) -> list[Any]:
    """Picture files → [(drawn picture, caption)]; one that cannot be read is said, not shown."""
    if not files:
        raise refuse("There are no pictures yet: choose some.", "No pictures")
    if len(files) > FILES:
        raise refuse(f"{len(files)} pictures are too many at once; at most {FILES}")
    gallery = []
    for answer in answer_pictures(predictor(checkpoint, folder), files):
        name = Path(answer.name).name
        if answer.image is None:
            gr.Warning(answer.error.replace(answer.name, name))
            continue
        words = ", ".join(face.expression for face in answer.seen) or "no face found"
        gallery.append((draw_faces(answer.image, answer.seen, bars=False), f"{name}: {words}"))
    return gallery


def mirror(frame: Image.Image | None, held: Any, checkpoint: str, folder: Path = CHECKPOINTS):
    """One webcam frame → (HTML, what is held of this visitor's faces until the next frame)."""
    if frame is None:
        return notice("Allow the camera and press Record: the mirror answers at once."), None
    if held is None or held[0] != checkpoint:
        held = checkpoint, predictor(checkpoint, folder).follower()
    seen = held[1](frame, time.monotonic())
    return mirror_html(seen, held[1].class_names), held


def video(
    file: str | None, checkpoint: str, folder: Path = CHECKPOINTS, progress: Any = None
) -> Iterator[tuple[str, str, str, str]]:
    """A video file → (video with boxes, timeline picture, CSV, a sentence)."""
    if file is None:
        raise refuse("There is no video yet: upload one or record one.", "No video")
    with tempfile.TemporaryDirectory() as out:
        try:
            told = watch(
                predictor(checkpoint, folder), file, Path(out), progress, max_seconds=SECONDS
            )
        except (OSError, ValueError) as error:
            raise refuse(spoken(error, file)) from error
        if not told["tracks"]:
            raise refuse("No face was found in the whole video.", "No face")
        faces = "1 face" if told["tracks"] == 1 else f"{told['tracks']} faces"
        words = f"{faces} followed through {told['seconds']:.1f} seconds."
        files = [next(Path(out).glob(f"*{end}")) for end in (".mp4", ".png", ".csv")]
        yield *(str(path) for path in files), words  # gradio copies them before they go


def about(checkpoint: str, folder: Path = CHECKPOINTS) -> str:
    """What trained the chosen checkpoint, and what it cannot tell, as Markdown."""
    card = checkpoints(folder).get(checkpoint)
    if card is None:
        return f"`{checkpoint}` is no longer in {folder}."
    names = ", ".join(card["class_names"])
    crop = crop_words(card.get("crop") or "not told")
    return (
        f"**What answers.** {headline(card)}. It knows {len(card['class_names'])} "
        f"expressions: {names}. Faces as it was trained on: {crop}.\n\n"
        f"**What it cannot tell.** {LIMITS}"
    )


class Answers:
    """What the buttons call: the functions above for one folder of checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def photo(self, image: str | None, model: str, whole: bool, cam: bool) -> list[Any]:
        drawn, html, maps, faces = photo(image, model, whole, cam, self.folder)
        return [drawn, html, gr.update(value=maps, visible=bool(maps)), faces]

    def again(self, image: str | None, model: str, whole: bool, cam: bool) -> list[Any]:
        """As `photo`; a cleared picture is no complaint."""
        if image is None:
            return [None, notice("Faces appear here."), gr.update(visible=False), None]
        return self.photo(image, model, whole, cam)

    def predict(self, image: str | None, model: str) -> dict[str, float]:
        """{class name: probability} of the largest face, or of a picture that is one face."""
        *_, seen = look(image, model, False, self.folder)
        if not seen:
            *_, seen = look(image, model, True, self.folder)
        return seen[0].probs

    def several(self, files: list[str] | None, model: str) -> list[Any]:
        return several(files, model, self.folder)

    def mirror(self, frame: Image.Image | None, held: Any, model: str) -> tuple[str, Any]:
        return mirror(frame, held, model, self.folder)

    def video(self, file: str | None, model: str, progress: Any = gr.Progress()):  # noqa: B008
        def tell(done: float, total: float | None) -> None:
            progress((round(done), round(total)) if total else None, unit="s", desc="Watching")

        yield from video(file, model, self.folder, tell)

    def about(self, model: str) -> str:
        return about(model, self.folder)
