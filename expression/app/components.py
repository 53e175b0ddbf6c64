"""The parts of the page that gradio does not have as the demo needs them."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from expression.app.examples import Example
from expression.app.handlers import refuse
from expression.app.page import examples_html
from expression.pictures import open_picture

__all__ = ["CheckpointMenu", "FaceImage", "MirrorImage", "camera_note", "example_buttons"]

# A click on a picture or its name tells which example it was.
TELL_EXAMPLE = """element.addEventListener('click', event => {
    const button = event.target.closest('[data-example]');
    if (button) trigger('click', {name: button.dataset.example});
})"""


class FaceImage(gr.Image):
    """gr.Image that hands on the file as sent: `photo` opens it and says what is wrong.

    Only an upload: gradio's own class opens any path that a request names. (A class, because
    gradio makes every visitor's components anew from theirs. It also writes a stub,
    components.pyi, beside this file; git ignores it.)
    """

    def preprocess(self, payload: Any) -> str | None:
        if payload is None or payload.path is None:
            return None
        if not Path(payload.path).resolve().is_relative_to(Path(self.GRADIO_CACHE).resolve()):
            raise refuse("Only pictures that were uploaded are opened.")
        return payload.path

    def get_block_name(self) -> str:
        return "image"


class CheckpointMenu(gr.Dropdown):
    """gr.Dropdown that refuses what is not in it as all else is refused: without a traceback in the
    terminal of whoever runs the demo."""

    def preprocess(self, payload: Any) -> Any:
        try:
            return super().preprocess(payload)
        except gr.Error as error:
            raise refuse(error.message) from None

    def get_block_name(self) -> str:
        return "dropdown"


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


def camera_note() -> None:
    """Where the page's script says why there is no camera."""
    gr.HTML('<p class="camera-note notice told" role="alert"></p>')


def example_buttons(
    title: str,
    examples: Sequence[Example],
    chosen: Callable[[Example], Any],
    outputs: Sequence[Any],
    words: str = "",
) -> None:
    """Examples as buttons with their names; `chosen(example)` gives the outputs' values."""
    if not examples:
        return
    by_name = {one.name: one for one in examples}
    shown = [(one.name, one.caption, one.thumbnail()) for one in examples]
    buttons = gr.HTML(
        examples_html(title, shown, words), elem_classes="examples", js_on_load=TELL_EXAMPLE
    )

    def answer(event: gr.EventData) -> Any:
        if event.name not in by_name:
            raise refuse("There is no such example.")
        return chosen(by_name[event.name])

    buttons.click(answer, None, list(outputs), api_visibility="private", show_progress="hidden")
