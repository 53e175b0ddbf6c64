"""Serve the checkpoints in the browser: python demo.py, then http://127.0.0.1:7860

Three tabs: a photo, the webcam as an emoji mirror, a video. Faces are found and cropped as
each checkpoint's card says: all answers come from `predict.ExpressionPredictor`.
"""

import argparse
import base64
import signal
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from predict import CHECKPOINTS, checkpoints
from sources import synthetic
from studio.answers import SECONDS, Answers, refuse
from studio.page import CSS, notice
from studio.pictures import open_picture

TITLE = "Expression Detect"
INTRO = (
    "What does a face **show**? Every face is found, cropped as the network was trained, and "
    "named. What you show it goes no further than the machine that runs this page, and is "
    "deleted there within minutes."
)


class FaceImage(gr.Image):
    """gr.Image that hands on the file as sent: `photo` opens it and says what is wrong.

    Only an upload: gradio's own class opens any path that a request names. (A class, because
    gradio makes every visitor's components anew from theirs. It also writes a stub, demo.pyi,
    beside this file; git ignores it.)
    """

    def preprocess(self, payload: Any) -> str | None:
        if payload is None or payload.path is None:
            return None
        if not Path(payload.path).resolve().is_relative_to(Path(self.GRADIO_CACHE).resolve()):
            raise refuse("Only pictures that were uploaded are opened.")
        return payload.path

    def get_block_name(self) -> str:
        return "image"


class MirrorImage(gr.Image):
    """The webcam's frames: they come inside the request, and no file is read or written."""

    def preprocess(self, payload: Any) -> Image.Image | None:
        url = (payload.url if payload else None) or ""
        if not url.startswith("data:image/"):
            return None
        try:
            return open_picture(base64.b64decode(url.partition(",")[2]))
        except ValueError as error:
            raise refuse(str(error)) from error

    def get_block_name(self) -> str:
        return "image"


def portrait() -> list[list[Any]]:
    """A photo in the public domain that comes with scikit-image."""
    from skimage.data import astronaut

    return [[Image.fromarray(astronaut())]]


def drawn_faces(count: int = 7, size: int = 224) -> list[list[Any]]:
    """Faces that the project draws itself, so that no person's picture is shipped."""
    faces = synthetic.load(train=1, validation=1, test=count, seed=7, size=size, label_noise=0.0)
    return [[face.convert("RGB")] for face in faces["test"]["image"]]


def photo_tab(answers: Answers, model: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column():
            image = FaceImage(sources=["upload", "clipboard", "webcam"], label="Photo", height=360)
            with gr.Row():
                whole = gr.Checkbox(label="already cropped to one face")
                cam = gr.Checkbox(label="show where it looks (Grad-CAM)")
            button = gr.Button("Name the expressions", variant="primary")
            photos = gr.Examples(
                portrait(), image, label="A photo (NASA)", api_visibility="private"
            )
            drawings = gr.Examples(
                drawn_faces(), image, label="Faces drawn by this project, already cropped",
                api_visibility="private",
            )  # fmt: skip
            drawings.dataset.click(lambda: True, None, whole, api_visibility="private")
            gr.on(
                [image.clear, photos.dataset.click], lambda: False, None, whole,
                api_visibility="private",
            )  # fmt: skip
        with gr.Column():
            drawn = gr.Image(
                label="drawn", show_label=False, height=360, interactive=False, format="jpeg",
                buttons=["download", "fullscreen"],
            )  # fmt: skip
            cards = gr.HTML(notice("Faces appear here."), label="cards")
            maps = gr.Gallery(
                label="Where the network looks", columns=4, height=240, object_fit="contain",
                preview=False, visible=False, elem_classes="maps",
                buttons=["download", "fullscreen"],
            )  # fmt: skip
    faces = gr.JSON(label="faces", visible=False)
    given, shown = [image, model, whole, cam], [drawn, cards, maps, faces]
    button.click(answers.photo, given, shown, api_name="photo")
    gr.on(
        [image.change, model.change, whole.change, cam.change], answers.again, given, shown,
        api_visibility="private", show_progress="minimal",
    )  # fmt: skip
    label = gr.Label(label="expression", visible=False)
    gr.Button(visible=False).click(answers.predict, [image, model], label, api_name="predict")
    with gr.Accordion("Several pictures at once", open=False):
        files = gr.File(file_count="multiple", file_types=["image"], label="Pictures", height=140)
        gallery = gr.Gallery(
            label="Faces found", columns=4, object_fit="contain",
            buttons=["download", "fullscreen"],
        )  # fmt: skip
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
            file = gr.Video(sources=["upload", "webcam"], label="Video", height=400)
            button = gr.Button("Follow the faces", variant="primary")
            gr.Markdown(f"The first {SECONDS} seconds are watched.")
        with gr.Column():
            shown = gr.Video(
                label="Faces followed", height=360, interactive=False, buttons=["download"]
            )
            words = gr.Markdown(label="words")
            table = gr.File(label="Timeline as CSV")
    timeline = gr.Image(
        label="timeline", show_label=False, interactive=False, buttons=["download", "fullscreen"]
    )
    button.click(
        answers.video, [file, model], [shown, timeline, table, words], api_name="video",
        concurrency_limit=1,
    )  # fmt: skip


def build_demo(folder: Path = CHECKPOINTS) -> gr.Blocks:
    """The app; raises FileNotFoundError when there is no checkpoint to serve.

    It offers first what the notebook exported on this machine, if it was run (see `checkpoints`).
    """
    names = list(checkpoints(folder, notebook_first=True))
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
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="0.0.0.0 shows it to your network, without its cameras",
    )
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="their folder")
    args = parser.parse_args(arguments)
    try:
        app = build_demo(args.checkpoints)
    except FileNotFoundError as error:
        parser.exit(2, f"error: {error}\n")
    print(
        f"serving {args.checkpoints} at http://{args.host}:{args.port} (Ctrl-C stops)", flush=True
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped kindly: uploads go
    try:
        app.launch(
            server_name=args.host,
            server_port=args.port,
            footer_links=["api"],
            max_file_size="500mb",
            theme=gr.themes.Soft(),
            css=CSS,
            quiet=True,
        )
    except OSError as error:  # the port is taken, or the address is not this machine's
        reason = str(error).split(". ")[0]
        parser.exit(2, f"error: {args.host}:{args.port} cannot be served ({reason}); try --port\n")


if __name__ == "__main__":
    main()
