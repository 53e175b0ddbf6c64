"""How the demo's page is laid out: three tabs, photo, mirror and video, over its handlers.

Whatever answers for pictures, the page or a program, waits in one queue: who comes first is
answered first. gradio's own rule is a queue with one worker for each button and endpoint, so that
one with many visitors keeps them waiting beside idle ones.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from expression.about import purpose
from expression.app.components import (
    CheckpointMenu,
    FaceImage,
    MirrorImage,
    camera_note,
    example_buttons,
)
from expression.app.examples import CREDITS, Example
from expression.app.handlers import SECONDS, Handlers
from expression.app.page import notice
from expression.checkpoint import list_checkpoints
from expression.file_kinds import picture_endings
from expression.networks import can_answer

__all__ = ["build_demo"]

TITLE = "Expression Detect"
INTRO = (
    "What does a face **show**? Every face is found, cropped as the network was trained, and named."
)
LOCAL = (
    "What you show it goes no further than the machine that runs this page, and is deleted there "
    "within minutes."
)
SHARED = (
    "What you show it passes through Gradio's server to the machine that runs this page, and is "
    "deleted there within minutes."
)
# As many at once as there are cores, and two where there is one: one reads while one computes
ONE_QUEUE = {"concurrency_id": "pictures", "concurrency_limit": max(os.cpu_count() or 1, 2)}
SHOW_ANSWER = "() => window.showAnswer?.()"
DRAWN_TITLE = "Drawings: most fool the network"
DRAWN_WORDS = (
    "A program drew these faces. The network learnt from photographs, and names few of them as "
    "they were drawn."
)
PRESENT = (
    '<button type="button" class="present-toggle" aria-pressed="false"><span class="enter">Large, '
    'for a projector</span><span class="leave">Leave the large layout (Esc)</span></button>'
)


def photo_tab(
    handlers: Handlers,
    model: gr.Dropdown,
    photos: Sequence[Example],
    drawn_faces: Sequence[Example],
) -> None:
    with gr.Row(elem_classes="photo-parts"):
        with gr.Column(elem_classes="photo"):
            image = FaceImage(sources=["upload", "clipboard", "webcam"], label="Photo", height=360)
            camera_note()
        with gr.Column(elem_classes="answer"):
            drawn = gr.Image(
                label="drawn", show_label=False, interactive=False, format="jpeg",
                buttons=["download", "fullscreen"], visible=False, elem_classes="drawn",
            )  # fmt: skip
            cards = gr.HTML(notice("Faces appear here."), label="cards")
            maps = gr.Gallery(
                label="Where the network looks", columns=4, height=240, object_fit="contain",
                preview=False, visible=False, elem_classes="maps",
                buttons=["download", "fullscreen"],
            )  # fmt: skip
        with gr.Column(elem_classes="more"):
            with gr.Row():
                whole = gr.Checkbox(label="already cropped to one face")
                cam = gr.Checkbox(label=f"show where it looks ({handlers.kind_of_maps})")
            button = gr.Button("Name the expressions", variant="primary")
            for title, examples, words in (
                ("Photos", photos, CREDITS),
                (DRAWN_TITLE, drawn_faces, DRAWN_WORDS),
            ):
                example_buttons(
                    title, examples, lambda one: (one.opened(), one.whole), [image, whole], words
                )
    answer = gr.JSON(label="faces", visible=False)
    given, outputs = [image, model, whole, cam], [drawn, cards, maps, answer]
    quiet = {
        "api_visibility": "private", "show_progress": "minimal", "show_progress_on": cards,
        **ONE_QUEUE,
    }  # fmt: skip
    button.click(handlers.show_photo, given, outputs, **quiet).then(
        None, None, None, js=SHOW_ANSWER
    )
    changes = [image.change, model.change, whole.change, cam.change]
    gr.on(changes, handlers.update_photo, given, outputs, **quiet).then(
        None, None, None, js=SHOW_ANSWER
    )
    image.clear(lambda: False, None, whole, api_visibility="private")
    label = gr.Label(label="expression", visible=False)
    for_programs(handlers.photo, given, outputs, "photo", **ONE_QUEUE)
    for_programs(handlers.predict, [image, model], [label], "predict", **ONE_QUEUE)


def for_programs(
    handler: Callable, inputs: list, outputs: list, name: str, **settings: Any
) -> None:
    """An endpoint of the API; the page has events of its own, which tell errors in their place."""
    gr.Button(visible=False).click(handler, inputs, outputs, api_name=name, **settings)


def several_part(handlers: Handlers, model: gr.Dropdown) -> None:
    with gr.Accordion("Several pictures at once", open=False):
        files = gr.File(
            file_count="multiple", file_types=["image", *sorted(picture_endings())],
            label="Pictures", height=140,
        )  # fmt: skip
        table = gr.HTML(label="table", elem_classes="face-rows")
        with gr.Row():
            rows = gr.File(label="Table as CSV", visible=False)
            archive = gr.File(label="Table and drawn pictures as ZIP", visible=False)
        gallery = gr.Gallery(
            label="Faces found", columns=3, object_fit="contain", elem_classes="found",
            buttons=["download", "fullscreen"],
        )  # fmt: skip
        given, outputs = [files, model], [gallery, table, rows, archive]
        files.change(
            handlers.show_several, given, outputs, api_visibility="private",
            show_progress_on=table, **ONE_QUEUE,
        )  # fmt: skip
        for_programs(handlers.several, given, outputs, "several", **ONE_QUEUE)


def mirror_tab(handlers: Handlers, model: gr.Dropdown) -> None:
    camera_note()
    with gr.Row(elem_classes="camera-and-answer"):
        camera = MirrorImage(
            sources=["webcam"], streaming=True, type="pil", format="webp", label="You",
            elem_classes="camera",
            webcam_options=gr.WebcamOptions(
                mirror=True, constraints={"video": {"width": 640, "height": 480}}
            ),
        )  # fmt: skip
        answer = gr.HTML(notice("Allow the camera and press Record: the mirror answers at once."))
    gr.HTML(PRESENT)
    held = gr.State(None)
    camera.stream(
        handlers.mirror, [camera, held, model], [answer, held], stream_every=0.05,
        concurrency_limit=8, show_progress="hidden", api_visibility="private",
    )  # fmt: skip


def video_tab(handlers: Handlers, model: gr.Dropdown, clips: Sequence[Example]) -> None:
    with gr.Row(elem_classes="photo-parts"):
        with gr.Column(elem_classes="photo"):
            file = gr.Video(sources=["upload", "webcam"], label="Video", height=400)
            camera_note()
            button = gr.Button("Follow the faces", variant="primary")
        with gr.Column(elem_classes="answer"):
            words = gr.HTML(notice("The video with its faces appears here."), label="words")
            shown = gr.Video(
                label="Faces followed", height=360, interactive=False, buttons=["download"],
                visible=False,
            )  # fmt: skip
            table = gr.File(label="Timeline as CSV", visible=False)
        with gr.Column(elem_classes="more"):
            gr.Markdown(f"The first {SECONDS} seconds are watched.")
            example_buttons("A clip", clips, lambda one: str(one.path), [file], CREDITS)
    timeline = gr.Image(
        label="timeline", show_label=False, interactive=False, buttons=["download", "fullscreen"],
        elem_classes="timeline", visible=False,
    )  # fmt: skip
    given, outputs = [file, model], [shown, timeline, table, words]
    one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "video"}
    button.click(
        handlers.show_video, given, outputs, api_visibility="private", show_progress_on=words,
        **one_at_a_time,
    )  # fmt: skip
    for_programs(handlers.video, given, outputs, "video", **one_at_a_time)


def build_demo(
    handlers: Handlers,
    photos: Sequence[Example] = (),
    drawn_faces: Sequence[Example] = (),
    clips: Sequence[Example] = (),
    shared: bool = False,
) -> gr.Blocks:
    """The app, with example `photos`, faces that are cropped already, and `clips`.

    `shared`: pictures come through Gradio's server, which the page then says. What the notebook
    exported on this machine is offered first (see `list_checkpoints`); without torch, only what
    has an .onnx file is offered. Raises FileNotFoundError when there is no checkpoint to serve.
    """
    folder = handlers.folder
    cards = {
        name: card
        for name, card in list_checkpoints(folder, notebook_first=True).items()
        if can_answer(folder / f"{name}.safetensors")
    }
    if not cards:
        raise FileNotFoundError(
            f"no checkpoint in {folder} that can answer here; `make notebook` exports one"
        )
    first = next(iter(cards))
    choices = [(f"{name}: {purpose(card)}", name) for name, card in cards.items()]
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as app:
        gr.Markdown(f"# {TITLE}\n{INTRO} {SHARED if shared else LOCAL}", elem_classes="page-title")
        model = CheckpointMenu(
            choices, value=first, label="Checkpoint", elem_classes="checkpoint-menu"
        )
        with gr.Tab("Photo"):
            photo_tab(handlers, model, photos, drawn_faces)
            several_part(handlers, model)
        with gr.Tab("Mirror"):
            mirror_tab(handlers, model)
        with gr.Tab("Video"):
            video_tab(handlers, model, clips)
        with gr.Column(elem_classes="about"):
            words = gr.Markdown(handlers.about(first))
            with gr.Accordion("Details", open=False):
                details = gr.Markdown(handlers.details(first))
        model.change(handlers.about, model, words, api_visibility="private")
        model.change(handlers.details, model, details, api_visibility="private")
    return app
