"""Serve the checkpoints in the browser: python demo.py, then http://127.0.0.1:7860

Three tabs: a photo, the webcam as an emoji mirror, a video. Faces are found and cropped as
each checkpoint's card says: all answers come from `expression.ExpressionPredictor`. None of it
needs torch; where torch is installed, the maps of where a network looks are Grad-CAM.
"""

import argparse
import signal
from pathlib import Path

import gradio as gr
from PIL import Image

from expression.app.examples import drawn_faces, portrait
from expression.app.handlers import Handlers
from expression.app.layout import build_demo
from expression.app.page import CSS
from expression.checkpoint import CHECKPOINTS
from expression.networks import has_torch
from expression.terminal import escape_unprintable


def make_handlers(folder: Path) -> Handlers:
    """Answers from the checkpoints of a folder; with torch, maps by Grad-CAM."""

    def face_maps(checkpoint: Path, crops: list[Image.Image]) -> list[Image.Image]:
        from lab.face_maps import face_maps as draw  # torch: not before a map is wanted

        return draw(checkpoint, crops)

    return Handlers(folder, face_maps=face_maps if has_torch() else None)


def main(arguments: list[str] | None = None) -> None:
    escape_unprintable()
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
        app = build_demo(make_handlers(args.checkpoints), portrait(), drawn_faces())
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
