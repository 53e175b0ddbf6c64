"""What the demo does with a photo, several photos, a webcam frame or a video.

The page itself is in `expression.app.layout`.
"""

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
    not_sure_share,
    not_sure_words,
)
from expression.app.page import faces_html, mirror_html, notice
from expression.checkpoint import CHECKPOINTS, list_checkpoints
from expression.drawing import draw_faces
from expression.face_prediction import FacePrediction
from expression.files import shown
from expression.networks import Network, open_network
from expression.occlusion import occlusion_maps
from expression.picture_batches import answer_pictures
from expression.pictures import LONGEST, open_picture
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
        if not path.is_file():  # one of another folder may have this name: it must not answer
            raise refuse(f"There is no checkpoint {checkpoint} here any more: choose another.")
        changed = path.stat().st_mtime
        if checkpoint not in self._opened or self._opened[checkpoint][0] != changed:
            opened = ExpressionPredictor(path, load_network=self.load_network)
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
            return picture, notice(NO_FACE), [], []
        crops = [picture] if whole else [predictor.crop(picture, f.box, f.tilt) for f in found]
        numbered = [replace(f, track=i) for i, f in enumerate(found, 1)]
        drawn = picture if whole else draw_faces(picture, numbered, bars=False)
        times = picture.info.get("reduced", 1)
        faces = [
            {"box": [v * times for v in f.box], "sure": f.sure, "probabilities": f.probs}
            for f in found
        ]
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
        """As `photo`, for the page; a cleared picture is no error."""
        if image is None:
            return [None, notice("Faces appear here."), gr.update(visible=False), None]
        drawn, html, shown, faces = self.photo(image, checkpoint, whole, maps)
        return [drawn, html, gr.update(value=shown, visible=bool(shown)), faces]

    def show_photo(self, image: str | None, checkpoint: str, whole: bool, maps: bool) -> list:
        """As `update_photo`, but without a picture it says what is missing."""
        if image is None:
            self.find(None, checkpoint, whole)
        return self.update_photo(image, checkpoint, whole, maps)

    def predict(self, image: str | None, checkpoint: str) -> dict[str, float]:
        """{class name: probability} of the largest face, or of a picture that is one face."""
        *_, found = self.find(image, checkpoint, False)
        if not found:
            *_, found = self.find(image, checkpoint, True)
        return found[0].probs

    def several(self, files: list[str] | None, checkpoint: str) -> list[tuple[Image.Image, str]]:
        """Picture files → [(drawn picture, caption)]; one that cannot be read is a warning."""
        if not files:
            raise refuse("There are no pictures yet: choose some.", "No pictures")
        if len(files) > FILES:
            raise refuse(f"{len(files)} pictures are too many at once; at most {FILES}")
        gallery = []
        for answer in answer_pictures(self.predictor(checkpoint), files):
            name = shown(Path(answer.name).name)
            if answer.image is None:
                gr.Warning(
                    answer.error.replace(answer.name, name).replace(shown(answer.name), name)
                )
                continue
            words = ", ".join(face.label for face in answer.faces) or "no face found"
            drawn = draw_faces(answer.image, answer.faces, bars=False)
            gallery.append((drawn, f"{name}: {words}"))
        return gallery

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

        def report(done: float, total: float | None) -> None:
            progress((round(done), round(total)) if total else None, unit="s", desc="Watching")

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

    def about(self, checkpoint: str) -> str:
        """What trained the chosen checkpoint, and what it cannot tell, as Markdown."""
        card = list_checkpoints(self.folder).get(checkpoint)
        if card is None:
            return f"`{checkpoint}` is no longer in {self.folder}."
        names = ", ".join(card["class_names"])
        crop = crop_words(card.get("crop") or "not measured")
        threshold = card.get("min_confidence", 0)
        unsure = (
            f" Where {not_sure_words(threshold)}, the answer is “not sure”." if threshold else ""
        )
        return (
            f"**What answers.** {headline(card)}. It knows {len(card['class_names'])} "
            f"expressions: {names}.{unsure} Faces as it was trained on: {crop}.\n\n"
            f"**What it cannot tell.** {LIMITS}"
        )
