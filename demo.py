"""Serve the checkpoints in the browser: python demo.py, then http://127.0.0.1:7860

Three tabs: a photo, the webcam as an emoji mirror, a video. Faces are found and cropped as
each checkpoint's card says: all answers come from `expression.ExpressionPredictor`. None of it
needs torch; where torch is installed, the maps of where a network looks are Grad-CAM.
"""

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from expression.extras import end_without

try:
    import gradio as gr
except ModuleNotFoundError as missing:  # what answers is installed alone
    end_without(missing, "the page needs", "demo")
from PIL import Image

from expression.app.examples import CLIPS, DRAWN, EXAMPLES, PHOTOS
from expression.app.handlers import Handlers
from expression.app.layout import build_demo
from expression.app.serving import HELP, Serving
from expression.app.style import page_style
from expression.app.uploads import upload_folder
from expression.checkpoint import CHECKPOINTS
from expression.memory import give_back_large_blocks
from expression.networks import has_torch
from expression.terminal import escape_unprintable

PASSWORD = "EXPRESSION_PASSWORD"  # environment variable: an argument is seen by other users


def make_handlers(folder: Path) -> Handlers:
    """Answers from the checkpoints of a folder; with torch, maps by Grad-CAM."""

    def face_maps(checkpoint: Path, crops: list[Image.Image]) -> list[Image.Image]:
        from lab.face_maps import face_maps as draw  # torch: not before a map is wanted

        return draw(checkpoint, crops)

    return Handlers(folder, face_maps=face_maps if has_torch() else None)


def page(handlers: Handlers, shared: bool = False) -> gr.Blocks:
    """The page with its examples; raises FileNotFoundError without a checkpoint to serve."""
    return build_demo(handlers, PHOTOS, DRAWN, CLIPS, shared)


def read_options(arguments: list[str] | None) -> tuple[Serving, Path]:
    """(how to serve, folder of checkpoints); ends the program for what does not fit."""
    parser = argparse.ArgumentParser(
        description="Serve the checkpoints of a folder in the browser.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=7860)
    add("--host", default="127.0.0.1", help="0.0.0.0 shows it to your network (see below)")
    add("--share", action="store_true", help="an https address for everybody")
    add("--self-signed", action="store_true", help="https for phones; needs openssl")
    add("--ssl-certfile", type=Path, metavar="FILE", help="https by a certificate of your own")
    add("--ssl-keyfile", type=Path, metavar="FILE", help="its key")
    add("--password", metavar="WORD", help=f"asked before the page opens; also from {PASSWORD}")
    add("--user", default="guest", help="the name asked beside the password (default: guest)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a proxy's (see below)")
    add("--checkpoints", type=Path, default=CHECKPOINTS, help="their folder")
    args = parser.parse_args(arguments)
    password = args.password if args.password is not None else os.environ.get(PASSWORD, "")
    try:
        how = Serving(
            args.host, args.port, args.share, args.ssl_certfile, args.ssl_keyfile,
            args.self_signed, args.user, password, tuple(args.allow_host),
        )  # fmt: skip
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    return how, args.checkpoints


def main(arguments: list[str] | None = None) -> None:
    escape_unprintable()
    give_back_large_blocks()
    how, folder = read_options(arguments)
    with ExitStack() as stack:
        stack.enter_context(upload_folder())  # before the page, whose parts ask for it
        try:
            app = page(make_handlers(folder), how.share)
            settings = how.launch_settings(stack)
        except (FileNotFoundError, RuntimeError) as error:
            raise SystemExit(refused(str(error))) from None
        for note in how.notes():
            print(f"note: {note}.")
        print(f"serving {folder} at {' and '.join(how.addresses())} (Ctrl-C stops)", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped kindly: uploads go
        try:
            app.launch(
                **settings,
                **page_style(),
                footer_links=["api"],
                max_file_size="500mb",
                allowed_paths=[str(EXAMPLES)],
                quiet=True,
            )
        except OSError as error:  # the port is taken, or the address is not this machine's
            reason = str(error).split(". ")[0]
            place = f"{how.host}:{how.port}"
            raise SystemExit(refused(f"{place} cannot be served ({reason}); try --port")) from None


def refused(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
