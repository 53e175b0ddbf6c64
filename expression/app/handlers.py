"""What the demo does with a photo, several photos, a webcam frame or a video.

The page itself is in `expression.app.layout`.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from expression.about import (
    LIMITS,
    crop_words,
    headline,
    markdown_text,
    not_sure_share,
    not_sure_words,
    plain_words,
)
from expression.app.page import faces_html, mirror_html, notice, told
from expression.app.several import answer_several
from expression.app.time_left import TimeLeft
from expression.checkpoint import CHECKPOINTS, list_checkpoints
from expression.drawing import draw_faces
from expression.face_prediction import FacePrediction, enlarged
from expression.files import shown
from expression.networks import Network, open_network
from expression.occlusion import occlusion_maps
from expression.pictures import LONGEST, open_picture, reduced
from expression.predictor import ExpressionPredictor
from expression.video_files import follow_video

__all__ = ["SECONDS", "Handlers", "refuse"]

NO_FACE = (
    "No face was found. Is it large enough, and not covered? A picture that is nothing but a "
    "face: tick “already cropped”."
)
SECONDS = 120  # of a video, at most
FILES = 50
FaceMaps = Callable[[Path, Sequence[Image.Image]], list[Image.Image]]


def refuse(reason: str, title: str = "No answer") -> gr.Error:
    return gr.Error(reason, title=title, print_exception=False)


def without_path(error: Exception, file: str) -> str:
    """The reason, without the folder of an upload, which visitors must not learn."""
    name = shown(Path(file).name)
    if not Path(file).exists():
        return f"{name} is no longer kept here; choose it again."
    return str(error).replace(file, name).replace(shown(file), name)


def without_folder(error: Exception, folder: Path) -> str:
    """The reason, without the place of the checkpoints, which visitors must not learn."""
    words, place = str(error), folder.resolve()
    for inside in (f"{place}{os.sep}", f"{folder}{os.sep}"):
        words = words.replace(inside, "")
    return words.replace(str(place), "its folder")


def is_name(checkpoint: object) -> bool:
    """Whether it can be the name of a checkpoint: text, and no path."""
    return isinstance(checkpoint, str) and Path(checkpoint).name == checkpoint


def no_checkpoint(checkpoint: object) -> str:
    if not is_name(checkpoint):
        return "No checkpoint was chosen: choose one of the list."
    return f"There is no checkpoint {shown(checkpoint)} here any more: choose another."


def visible(value: Any) -> Any:
    return gr.update(value=value, visible=True)


def hidden() -> Any:
    return gr.update(value=None, visible=False)


def photo_page(
    drawn: Image.Image | None,
    html: str,
    maps: Sequence[Image.Image] = (),
    faces: Sequence[dict[str, Any]] | None = None,
) -> list:
    """What `Handlers.photo` answers, as updates of the page; what is empty is not shown."""
    picture = visible(drawn) if drawn else hidden()
    return [picture, html, visible(list(maps)) if maps else hidden(), faces]


@dataclass
class Handlers:
    """What the page's buttons call, for one folder of checkpoints.

    `load_network` opens a checkpoint's network. `face_maps(checkpoint, crops)` draws Grad-CAM of
    where the network looks over each crop; None: parts of each face are covered instead, which does
    without torch. Whatever cannot be answered raises `gr.Error` with one sentence.
    """

    folder: Path = CHECKPOINTS
    load_network: Callable[[Path], Network] = open_network
    face_maps: FaceMaps | None = None
    _opened: dict[str, tuple[float, ExpressionPredictor]] = field(default_factory=dict)

    def predictor(self, checkpoint: str) -> ExpressionPredictor:
        """One predictor for each file, loaded again when the file has changed; four are kept."""
        path = self.folder / f"{checkpoint}.safetensors"
        if not is_name(checkpoint) or not path.is_file():  # of another folder: must not answer
            raise refuse(no_checkpoint(checkpoint))
        changed = path.stat().st_mtime
        if checkpoint not in self._opened or self._opened[checkpoint][0] != changed:
            try:
                opened = ExpressionPredictor(path, load_network=self.load_network)
            except (OSError, ValueError, ImportError) as error:
                raise refuse(without_folder(error, self.folder)) from error
            self._opened[checkpoint] = changed, opened
            for oldest in list(self._opened)[:-4]:
                del self._opened[oldest]
        return self._opened[checkpoint][1]

    def find(
        self, image: str | None, checkpoint: str, whole: bool
    ) -> tuple[ExpressionPredictor, Image.Image, list[FacePrediction]]:
        """A picture file → (predictor, picture, faces); `whole`: the picture is one face."""
        if image is None:
            raise refuse(
                "There is no picture yet: upload one, paste one or take a snapshot.", "No picture"
            )
        try:
            predictor = self.predictor(checkpoint)
            picture = open_picture(Path(image), longest=LONGEST)
            if whole:
                return predictor, picture, predictor.predict_whole([picture])
            return predictor, picture, predictor.find(picture)
        except (OSError, ValueError, ImportError) as error:
            raise refuse(without_path(error, image)) from error

    def photo(
        self, image: str | None, checkpoint: str, whole: bool, maps: bool
    ) -> tuple[Image.Image, str, list[Image.Image], list[dict[str, Any]]]:
        """A picture file → (drawn picture, HTML of its faces, maps, faces as JSON).

        Without a face the lists are empty and the HTML says so.
        """
        predictor, picture, found = self.find(image, checkpoint, whole)
        if not found:
            return picture, told(NO_FACE), [], []
        crops = [picture] if whole else [predictor.crop(picture, f.box, f.tilt) for f in found]
        numbered = [replace(f, track=i) for i, f in enumerate(found, 1)]
        drawn = picture if whole else draw_faces(picture, numbered, bars=False)
        faces = [
            {"box": list(enlarged(f, reduced(picture)).box), "sure": f.sure,
             "probabilities": f.probs}
            for f in found
        ]  # fmt: skip
        shown = self.maps(predictor.path, crops) if maps else []
        return drawn, faces_html(found, crops), shown, faces

    @property
    def kind_of_maps(self) -> str:
        return "Grad-CAM" if self.face_maps else "by covering parts of it"

    def maps(self, checkpoint: Path, crops: Sequence[Image.Image]) -> list[Image.Image]:
        """Where the network looked, over each crop; at most twelve."""
        if self.face_maps is None:
            asked = self.predictor(checkpoint.stem)
            return occlusion_maps(crops[:12], asked.preprocess, asked.answer)
        try:
            return self.face_maps(checkpoint, crops[:12])
        except ValueError as error:  # no convolution, as in an SVM
            raise refuse(str(error), "No Grad-CAM") from error

    def update_photo(self, image: str | None, checkpoint: str, whole: bool, maps: bool) -> list:
        """As `photo`, for the page: the reason stands where the answer would; a cleared picture
        is no error."""
        if image is None:
            return photo_page(None, notice("Faces appear here."))
        return self.show_photo(image, checkpoint, whole, maps)

    def show_photo(self, image: str | None, checkpoint: str, whole: bool, maps: bool) -> list:
        """As `update_photo`, but without a picture it says what is missing."""
        try:
            return photo_page(*self.photo(image, checkpoint, whole, maps))
        except gr.Error as error:
            return photo_page(None, told(error.message))

    def predict(self, image: str | None, checkpoint: str) -> dict[str, float]:
        """{class name: probability} of the largest face, or of a picture that is one face."""
        predictor, picture, found = self.find(image, checkpoint, False)
        return (found or predictor.predict_whole([picture]))[0].probs

    def several(
        self, files: list[str] | None, checkpoint: str
    ) -> Iterator[tuple[list[tuple[str, str]], str, str, str]]:
        """Picture files → ([(drawn picture, caption)], HTML table, CSV, ZIP).

        The table has a row a face; a file that cannot be read is a sentence above it.
        """
        if not files:
            raise refuse("There are no pictures yet: choose some.", "No pictures")
        if len(files) > FILES:
            raise refuse(f"{len(files)} pictures are too many at once; at most {FILES}.")
        with tempfile.TemporaryDirectory() as out:
            predictor = self.predictor(checkpoint)
            found = answer_several(predictor, files, Path(out))
            drawn = [(str(path), caption) for path, caption in found.drawn]
            html = found.html(predictor.class_names)
            yield drawn, html, str(found.table), str(found.archive)  # gradio copies the files

    def show_several(self, files: list[str] | None, checkpoint: str) -> Iterator[tuple]:
        """As `several`, for the page; without pictures, nothing is shown."""
        if not files:
            yield [], "", hidden(), hidden()
            return
        try:
            for drawn, html, table, archive in self.several(files, checkpoint):
                yield drawn, html, visible(table), visible(archive)
        except gr.Error as error:
            yield [], told(error.message), hidden(), hidden()

    def mirror(self, frame: Image.Image | None, state: Any, checkpoint: str) -> tuple[str, Any]:
        """One webcam frame → (HTML, this visitor's checkpoint and tracker for the next frame)."""
        if frame is None:
            return notice("Allow the camera and press Record: the mirror answers at once."), None
        if state is None or state[0] != checkpoint:
            state = checkpoint, self.predictor(checkpoint).tracker()
        found = state[1](frame, time.monotonic())
        return mirror_html(found, state[1].class_names), state

    def video(
        self,
        file: str | None,
        checkpoint: str,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[str, str, str, str]]:
        """A video file → (video with boxes, timeline picture, CSV, a sentence)."""
        if file is None:
            raise refuse("There is no video yet: upload one or record one.", "No video")

        time_left = TimeLeft()

        def report(done: float, total: float | None) -> None:
            share, words = time_left(done, total)
            progress(share, desc=words)

        with tempfile.TemporaryDirectory() as out:
            try:
                predictor = self.predictor(checkpoint)
                summary = follow_video(predictor, file, Path(out), report, max_seconds=SECONDS)
            except (OSError, ValueError) as error:
                raise refuse(without_path(error, file)) from error
            if not summary["tracks"]:
                raise refuse("No face was found in the whole video.", "No face")
            faces = "1 face" if summary["tracks"] == 1 else f"{summary['tracks']} faces"
            words = f"{faces} followed through {summary['seconds']:.1f} seconds."
            if unsure := not_sure_share(summary):
                reason = not_sure_words(predictor.min_confidence)
                words += f" {unsure.capitalize()}: {reason} there."
            shown, timeline, table = (
                str(next(Path(out).glob(f"*{end}"))) for end in (".mp4", ".png", ".csv")
            )
            yield shown, timeline, table, words  # gradio copies the files before they go

    def show_video(
        self,
        file: str | None,
        checkpoint: str,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple]:
        """As `video`, for the page: what stood there is cleared first."""
        if file is None:
            yield hidden(), hidden(), hidden(), told("There is no video yet: upload or record one.")
            return
        yield hidden(), hidden(), hidden(), notice("Watching …")
        try:
            for *results, words in self.video(file, checkpoint, progress):
                yield *map(visible, results), words
        except gr.Error as error:
            yield hidden(), hidden(), hidden(), told(error.message)

    def card(self, checkpoint: str) -> dict[str, Any] | None:
        """The card of a checkpoint of the folder; None for whatever else a visitor names."""
        return list_checkpoints(self.folder).get(checkpoint) if is_name(checkpoint) else None

    def about(self, checkpoint: str) -> str:
        """What trained the chosen checkpoint, and what it cannot tell, as Markdown."""
        card = self.card(checkpoint)
        if card is None:
            return markdown_text(no_checkpoint(checkpoint))
        return f"{plain_words(card)}\n\n**What it cannot tell.** {LIMITS}"

    def details(self, checkpoint: str) -> str:
        """Network, data, validation figures and crop rule, for whoever wants to know."""
        card = self.card(checkpoint)
        if card is None:
            return ""
        crop = crop_words(card.get("crop") or "not measured")
        line, crop = markdown_text(headline(card)), markdown_text(crop)
        return f"{line}.\n\nFaces as it was trained on: {crop}."
