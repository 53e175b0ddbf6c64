"""Serve the checkpoints in the browser: python demo.py, then http://127.0.0.1:7860

Three tabs: a photo, the webcam as an emoji mirror, a video. Faces are found and cropped as
each checkpoint's card says: all answers come from `predict.ExpressionPredictor`.
"""

import argparse
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
from sources import synthetic
from studio.commands import answer_pictures, watch
from studio.drawing import draw_faces
from studio.follow import Seen
from studio.page import CSS, faces_html, mirror_html, notice
from studio.pictures import open_picture

TITLE = "Expression Detect"
INTRO = (
    "What does a face **show**? Every face is found, cropped as the network was trained, and "
    "named. What you show it goes no further than the machine that runs this page, and is "
    "deleted there within minutes."
)
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


class FaceImage(gr.Image):
    """gr.Image that hands on the file as sent: `photo` opens it and says what is wrong.

    A class, because gradio makes every visitor's components anew from their class. (It also
    writes a stub, demo.pyi, beside this file; git ignores it.)
    """

    def preprocess(self, payload: Any) -> str | None:
        return payload.path if payload else None

    def get_block_name(self) -> str:
        return "image"


class MirrorImage(gr.Image):
    """The webcam's frames; one that came as a file is deleted as soon as it is read."""

    def preprocess(self, payload: Any) -> Image.Image | None:
        frame = super().preprocess(payload)
        if payload is not None and payload.path:
            Path(payload.path).unlink(missing_ok=True)
        return frame

    def get_block_name(self) -> str:
        return "image"


def refuse(reason: str, title: str = "No answer") -> gr.Error:
    return gr.Error(reason, title=title, print_exception=False)


def spoken(error: Exception, file: str) -> str:
    """The reason, without where an upload lies here, which is nobody's business."""
    return str(error).replace(file, Path(file).name)


def photo(
    image: str | None, checkpoint: str, whole: bool, cam: bool, folder: Path = CHECKPOINTS
) -> tuple[Image.Image, str, list[Image.Image], list[dict[str, Any]]]:
    """A picture file → (drawn picture, HTML of its faces, Grad-CAM maps, faces as JSON).

    Without a face the lists are empty and the HTML says so. gr.Error, one sentence, for a
    picture that cannot be read.
    """
    if image is None:
        raise refuse(
            "There is no picture yet: upload one, paste one or take a snapshot.", "No picture"
        )
    try:
        server = predictor(checkpoint, folder)
        picture = open_picture(Path(image), longest=2048)
        if whole:
            seen = [Seen((0, 0, *picture.size), server.predict(picture))]
        else:
            seen = server.find(picture)
    except (OSError, ValueError, ImportError) as error:
        raise refuse(spoken(error, image)) from error
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
    try:
        maps = grad_cam(server.model, batch, last_layer(server.model, batch, smallest=5))
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
    return (
        f"**What answers.** {headline(card)}. It knows {len(card['class_names'])} "
        f"expressions: {names}. Faces as it was trained on: {crop_words(card['crop'])}.\n\n"
        f"**What it cannot tell.** {LIMITS}"
    )


def portrait() -> list[list[Any]]:
    """A photo in the public domain that comes with scikit-image."""
    from skimage.data import astronaut

    return [[Image.fromarray(astronaut())]]


def drawn_faces(count: int = 7, size: int = 224) -> list[list[Any]]:
    """Faces that the project draws itself, so that no person's picture is shipped."""
    faces = synthetic.load(train=1, validation=1, test=count, seed=7, size=size, label_noise=0.0)
    return [[face.convert("RGB")] for face in faces["test"]["image"]]


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
        found = photo(image, model, False, False, self.folder)[3]
        found = found or photo(image, model, True, False, self.folder)[3]
        return found[0]["probabilities"]

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


def photo_tab(answers: Answers, model: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column():
            image = FaceImage(sources=["upload", "clipboard", "webcam"], label="Photo", height=360)
            with gr.Row():
                whole = gr.Checkbox(label="already cropped to one face")
                cam = gr.Checkbox(label="show where it looks (Grad-CAM)")
            button = gr.Button("Name the expressions", variant="primary")
            gr.Examples(portrait(), image, label="A photo (NASA)", api_visibility="private")
            drawings = gr.Examples(
                drawn_faces(), image, label="Faces drawn by this project, already cropped",
                api_visibility="private",
            )  # fmt: skip
            drawings.dataset.click(lambda: True, None, whole, api_visibility="private")
        with gr.Column():
            drawn = gr.Image(show_label=False, height=360, interactive=False, format="jpeg")
            cards = gr.HTML(notice("Faces appear here."))
            maps = gr.Gallery(
                label="Where the network looks", columns=4, height=240, object_fit="contain",
                preview=False, visible=False,
            )  # fmt: skip
    faces = gr.JSON(visible=False)
    given, shown = [image, model, whole, cam], [drawn, cards, maps, faces]
    button.click(answers.photo, given, shown, api_name="photo")
    gr.on(
        [image.change, model.change, whole.change, cam.change], answers.again, given, shown,
        api_visibility="private", show_progress="minimal",
    )  # fmt: skip
    label = gr.Label(visible=False)
    gr.Button(visible=False).click(answers.predict, [image, model], label, api_name="predict")
    with gr.Accordion("Several pictures at once", open=False):
        files = gr.File(file_count="multiple", file_types=["image"], label="Pictures", height=140)
        gallery = gr.Gallery(label="Faces found", columns=4, object_fit="contain")
        files.upload(answers.several, [files, model], gallery, api_name="several")


def mirror_tab(answers: Answers, model: gr.Dropdown) -> None:
    with gr.Row():
        camera = MirrorImage(
            sources=["webcam"], streaming=True, type="pil", format="webp", label="You",
            webcam_options=gr.WebcamOptions(
                mirror=True, constraints={"video": {"width": 640, "height": 480}}
            ),
        )  # fmt: skip
        answer = gr.HTML(notice("Allow the camera and press Record: the mirror answers at once."))
    held = gr.State(None)
    camera.stream(
        answers.mirror, [camera, held, model], [answer, held], stream_every=0.05,
        concurrency_limit=8, show_progress="hidden", api_visibility="private",
    )  # fmt: skip


def video_tab(answers: Answers, model: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column():
            file = gr.Video(sources=["upload", "webcam"], label="Video", height=360)
            button = gr.Button("Follow the faces", variant="primary")
            gr.Markdown(f"The first {SECONDS} seconds are watched.")
        with gr.Column():
            shown = gr.Video(label="Faces followed", height=360, interactive=False)
            words = gr.Markdown()
            table = gr.File(label="Timeline as CSV")
    timeline = gr.Image(show_label=False, interactive=False)
    button.click(
        answers.video, [file, model], [shown, timeline, table, words], api_name="video",
        concurrency_limit=1,
    )  # fmt: skip


def build_demo(folder: Path = CHECKPOINTS) -> gr.Blocks:
    """The app; raises FileNotFoundError when there is no checkpoint to serve."""
    names = list(checkpoints(folder))
    if not names:
        raise FileNotFoundError(f"no checkpoint in {folder}; `make notebook` exports one")
    answers = Answers(folder)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as app:
        gr.Markdown(f"# {TITLE}\n{INTRO}")
        model = gr.Dropdown(names, value=names[0], label="Checkpoint")
        for title, tab in (("Photo", photo_tab), ("Mirror", mirror_tab), ("Video", video_tab)):
            with gr.Tab(title):
                tab(answers, model)
        words = gr.Markdown(answers.about(names[0]))
        model.change(answers.about, model, words, api_visibility="private")
    return app


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Serve the checkpoints of a folder in the browser."
    )
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 shows it to your network")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="their folder")
    args = parser.parse_args(arguments)
    try:
        app = build_demo(args.checkpoints)
    except FileNotFoundError as error:
        parser.exit(2, f"error: {error}\n")
    print(
        f"serving {args.checkpoints} at http://{args.host}:{args.port} (Ctrl-C stops)", flush=True
    )
    try:
        app.launch(
            server_name=args.host,
            server_port=args.port,
            footer_links=["api"],
            theme=gr.themes.Soft(),
            css=CSS,
            quiet=True,
        )
    except OSError as error:  # the port is taken, or the address is not this machine's
        reason = str(error).split(". ")[0]
        parser.exit(2, f"error: {args.host}:{args.port} cannot be served ({reason}); try --port\n")


if __name__ == "__main__":
    main()
