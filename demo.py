"""Serve a checkpoint in the browser: python demo.py, then http://127.0.0.1:7860

Picture in, probabilities out, preprocessed exactly as validation was: both come
from `predict.ExpressionPredictor`, and so from the checkpoint's card.
"""

import argparse
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from insight.model_card import LIMITS, headline
from predict import CHECKPOINTS, ExpressionPredictor, Picture, checkpoints
from sources import synthetic

TITLE = "Expression Detect"
INTRO = (
    "Show it **one face, cropped to the face**: upload a picture, paste or drag one, or take a "
    "snapshot with the webcam. It goes no further than the machine that runs this page, and is "
    "deleted there within minutes."
)


@lru_cache(maxsize=4)
def load(path: Path, changed: float) -> ExpressionPredictor:
    """One predictor for each file; `changed` (its time) makes a new export count at once."""
    return ExpressionPredictor(path)


class FaceImage(gr.Image):
    """gr.Image that hands on the file as sent: `predict` opens it and says what is wrong.

    A class, because gradio makes every visitor's components anew from their class. (It also
    writes a stub, demo.pyi, beside this file; git ignores it.)
    """

    def preprocess(self, payload: Any) -> str | None:
        return payload.path if payload else None

    def get_block_name(self) -> str:
        return "image"


def predict(image: Picture | None, checkpoint: str, folder: Path = CHECKPOINTS) -> dict[str, float]:
    """{class name: probability in [0, 1]}; gr.Error, one sentence, where there is no answer."""
    if image is None:
        raise gr.Error(
            "There is no picture yet: upload one, paste one or take a snapshot.",
            title="No picture",
            print_exception=False,
        )
    path = folder / f"{checkpoint}.safetensors"
    try:
        return load(path, path.stat().st_mtime if path.exists() else 0.0).predict(image)
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(image, str):  # where an upload lies here is nobody's business
            reason = reason.replace(image, Path(image).name)
        raise gr.Error(reason, title="No answer", print_exception=False) from error


def about(checkpoint: str, folder: Path = CHECKPOINTS) -> str:
    """What trained the chosen checkpoint, and what it cannot tell, as Markdown."""
    card = checkpoints(folder).get(checkpoint)
    if card is None:
        return f"`{checkpoint}` is no longer in {folder}."
    names = ", ".join(card["class_names"])
    return (
        f"**What answers.** {headline(card)}. It knows {len(card['class_names'])} "
        f"expressions: {names}. Faces as it was trained on: {card['crop']}.\n\n"
        f"**What it cannot tell.** {LIMITS}"
    )


def example_faces(count: int = 7, size: int = 224) -> list[list[Any]]:
    """Faces that the project draws itself, so that no person's picture is shipped."""
    faces = synthetic.load(train=1, validation=1, test=count, seed=7, size=size, label_noise=0.0)
    return [[face.convert("RGB")] for face in faces["test"]["image"]]


def build_demo(folder: Path = CHECKPOINTS) -> gr.Blocks:
    """The app; raises FileNotFoundError when there is no checkpoint to serve."""
    names = list(checkpoints(folder))
    if not names:
        raise FileNotFoundError(f"no checkpoint in {folder}; `make notebook` exports one")
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as app:
        gr.Markdown(f"# {TITLE}\n{INTRO}")
        with gr.Row():
            with gr.Column():
                image = FaceImage(
                    sources=["upload", "clipboard", "webcam"], label="Face", height=380
                )
                model = gr.Dropdown(names, value=names[0], label="Checkpoint")
                button = gr.Button("Name the expression", variant="primary")
            with gr.Column():
                label = gr.Label(label="Expression shown")
                words = gr.Markdown(about(names[0], folder))
        gr.Examples(example_faces(), image, label="Faces drawn by this project")

        def answer(image: str | None, checkpoint: str) -> dict[str, float]:
            return predict(image, checkpoint, folder)

        def follow(image: str | None, checkpoint: str) -> dict[str, float] | None:
            return answer(image, checkpoint) if image else None  # cleared: no complaint

        both, quiet = [image, model], {"api_visibility": "private"}
        button.click(answer, both, label, api_name="predict")
        image.change(follow, both, label, **quiet)
        model.change(follow, both, label, **quiet)
        model.change(lambda name: about(name, folder), model, words, **quiet)
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
            quiet=True,
        )
    except OSError as error:  # the port is taken, or the address is not this machine's
        reason = str(error).split(". ")[0]
        parser.exit(2, f"error: {args.host}:{args.port} cannot be served ({reason}); try --port\n")


if __name__ == "__main__":
    main()
