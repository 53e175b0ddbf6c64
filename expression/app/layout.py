"""How the demo's page is laid out: three tabs, photo, mirror and video, over its handlers."""

import base64
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from expression.app.handlers import SECONDS, Handlers, refuse
from expression.app.page import notice
from expression.checkpoint import list_checkpoints
from expression.file_kinds import picture_endings
from expression.networks import can_answer
from expression.pictures import open_picture

__all__ = ["build_demo"]

TITLE = "Expression Detect"
INTRO = (
    "What does a face **show**? Every face is found, cropped as the network was trained, and "
    "named. What you show it goes no further than the machine that runs this page, and is "
    "deleted there within minutes."
)


class FaceImage(gr.Image):
    """gr.Image that hands on the file as sent: `photo` opens it and says what is wrong.

    Only an upload: gradio's own class opens any path that a request names. (A class, because
    gradio makes every visitor's components anew from theirs. It also writes a stub,
    layout.pyi, beside this file; git ignores it.)
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


def photo_tab(
    handlers: Handlers,
    model: gr.Dropdown,
    photos: list[list[Image.Image]],
    faces: list[list[Image.Image]],
) -> None:
    with gr.Row():
        with gr.Column():
            image = FaceImage(sources=["upload", "clipboard", "webcam"], label="Photo", height=360)
            with gr.Row():
                whole = gr.Checkbox(label="already cropped to one face")
                cam = gr.Checkbox(label=f"show where it looks ({handlers.kind_of_maps})")
            button = gr.Button("Name the expressions", variant="primary")
            cleared = [image.clear]
            if photos:
                shown = gr.Examples(photos, image, label="A photo (NASA)", api_visibility="private")
                cleared.append(shown.dataset.click)
            if faces:
                shown = gr.Examples(
                    faces, image, label="Faces drawn by this project, already cropped",
                    api_visibility="private",
                )  # fmt: skip
                shown.dataset.click(lambda: True, None, whole, api_visibility="private")
            gr.on(cleared, lambda: False, None, whole, api_visibility="private")
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
    answer = gr.JSON(label="faces", visible=False)
    given, outputs = [image, model, whole, cam], [drawn, cards, maps, answer]
    button.click(handlers.show_photo, given, outputs, api_name="photo")
    changes = [image.change, model.change, whole.change, cam.change]
    gr.on(
        changes, handlers.update_photo, given, outputs,
        api_visibility="private", show_progress="minimal",
    )  # fmt: skip
    label = gr.Label(label="expression", visible=False)
    gr.Button(visible=False).click(handlers.predict, [image, model], label, api_name="predict")
    with gr.Accordion("Several pictures at once", open=False):
        files = gr.File(
            file_count="multiple", file_types=["image", *sorted(picture_endings())],
            label="Pictures", height=140,
        )  # fmt: skip
        gallery = gr.Gallery(
            label="Faces found", columns=4, object_fit="contain", elem_classes="found",
            buttons=["download", "fullscreen"],
        )  # fmt: skip
        files.upload(handlers.several, [files, model], gallery, api_name="several")


def mirror_tab(handlers: Handlers, model: gr.Dropdown) -> None:
    with gr.Row(elem_classes="camera-and-answer"):
        camera = MirrorImage(
            sources=["webcam"], streaming=True, type="pil", format="webp", label="You",
            elem_classes="camera",
            webcam_options=gr.WebcamOptions(
                mirror=True, constraints={"video": {"width": 640, "height": 480}}
            ),
        )  # fmt: skip
        answer = gr.HTML(notice("Allow the camera and press Record: the mirror answers at once."))
    held = gr.State(None)
    camera.stream(
        handlers.mirror, [camera, held, model], [answer, held], stream_every=0.05,
        concurrency_limit=8, show_progress="hidden", api_visibility="private",
    )  # fmt: skip


def video_tab(handlers: Handlers, model: gr.Dropdown) -> None:
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
        label="timeline", show_label=False, interactive=False, buttons=["download", "fullscreen"],
        elem_classes="timeline",
    )  # fmt: skip
    button.click(
        handlers.video, [file, model], [shown, timeline, table, words], api_name="video",
        concurrency_limit=1,
    )  # fmt: skip


def build_demo(
    handlers: Handlers,
    photos: list[list[Image.Image]] | None = None,
    faces: list[list[Image.Image]] | None = None,
) -> gr.Blocks:
    """The app, with example `photos` and example `faces` that are cropped already.

    What the notebook exported on this machine is offered first (see `list_checkpoints`); without
    torch, only what has an .onnx file is offered. Raises FileNotFoundError when there is no
    checkpoint to serve.
    """
    folder = handlers.folder
    names = [
        name
        for name in list_checkpoints(folder, notebook_first=True)
        if can_answer(folder / f"{name}.safetensors")
    ]
    if not names:
        raise FileNotFoundError(
            f"no checkpoint in {folder} that can answer here; `make notebook` exports one"
        )
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as app:
        gr.Markdown(f"# {TITLE}\n{INTRO}")
        model = gr.Dropdown(names, value=names[0], label="Checkpoint")
        with gr.Tab("Photo"):
            photo_tab(handlers, model, photos or [], faces or [])
        with gr.Tab("Mirror"):
            mirror_tab(handlers, model)
        with gr.Tab("Video"):
            video_tab(handlers, model)
        words = gr.Markdown(handlers.about(names[0]))
        model.change(handlers.about, model, words, api_visibility="private")
    return app
