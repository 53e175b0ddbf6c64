"""A camera's picture in a window, mirrored, with the expression of each face.

Why: camera, loop and window are separate, so that each can be tested without the others. The window
asks for the newest picture when it is ready (`expression/camera.py`).
"""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Protocol

from PIL import Image

from expression.camera import Camera
from expression.drawing import draw_faces
from expression.face_prediction import FacePrediction
from expression.files import shown as printable
from expression.output_files import OutputFiles, save_picture

__all__ = ["Window", "mirror", "play", "step"]

KEYS = {"q": "q", "escape": "q", "s": "s"}
Follow = Callable[[Image.Image, float], Sequence[FacePrediction]]


class Predictor(Protocol):
    """What `mirror` needs of `expression.predictor.ExpressionPredictor`."""

    def tracker(self) -> Follow: ...


# --- the window ---


class Window:
    """A tkinter window for pictures; a context manager. Raises OSError where none can open."""

    def __init__(self) -> None:
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise OSError(
                f"the window needs tkinter, which this Python lacks ({error}); install python3-tk "
                "(with Homebrew: python-tk), or use the demo's Mirror tab: python demo.py"
            ) from None
        try:
            self.root = tkinter.Tk()
        except tkinter.TclError as error:
            raise OSError(
                f"no window can be opened here ({error}); the demo's Mirror tab works in a "
                "browser: python demo.py"
            ) from None
        self.root.withdraw()  # until the first picture
        self.root.resizable(False, False)
        self.keys: deque[str] = deque()
        self.root.bind("<Key>", lambda event: self.keys.append(event.keysym.lower()))
        self.root.protocol("WM_DELETE_WINDOW", lambda: self.keys.append("q"))
        self.label = tkinter.Label(self.root, borderwidth=0)
        self.label.pack()
        self.make = ImageTk.PhotoImage
        self.photo: ImageTk.PhotoImage | None = None

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        self.root.destroy()
        # Tcl aborts the program if another thread's garbage collection deletes these.
        del self.photo, self.label, self.root

    def key(self) -> str | None:
        """Process the window's events; the next key pressed: "q" (also closing), "s" or None."""
        self.root.update()
        return KEYS.get(self.keys.popleft()) if self.keys else None

    def show(self, image: Image.Image, title: str) -> None:
        """Show this picture in place of the one before."""
        if self.photo is None:
            self.root.deiconify()
            self.root.lift()
            self.root.focus_force()  # otherwise the keys go to the terminal
        self.photo = self.make(image, master=self.root)
        self.label.configure(image=self.photo)
        self.root.title(title)


# --- camera, faces and window together ---


def step(image: Image.Image, seconds: float, follow: Follow) -> Image.Image:
    """A picture, mirrored, with its faces drawn; mirrored first, so that labels can be read."""
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return draw_faces(mirrored, follow(mirrored, seconds))


def save(image: Image.Image, folder: Path) -> Path:
    """Write folder/screenshot-YYYYmmdd-HHMMSS.png; more in the same second get -2, -3, …"""
    stem = f"screenshot-{datetime.now():%Y%m%d-%H%M%S}"
    with OutputFiles().reserve(folder, stem, [".png"]) as group:
        save_picture(image, group.path(".png"))
        group.keep(".png")
    return group.written[0]


def play(camera: Camera, follow: Follow, window: Window, folder: Path) -> None:
    """Show the camera's newest picture, again and again, until `q` or the end of a file."""
    shown: Image.Image | None = None
    times: deque[float] = deque(maxlen=20)
    while (key := window.key()) != "q":
        if key == "s" and shown is not None:
            try:
                print(f"saved {save(shown, folder)}", flush=True)
            except OSError as error:  # a full disk is no reason to end the mirror
                print(f"error: no screenshot was saved ({error})", file=sys.stderr, flush=True)
        picture = camera.latest(wait=0.02)
        if picture is None:
            if camera.ended:
                return
            continue
        shown = step(*picture, follow)
        times.append(monotonic())
        rate = (len(times) - 1) / max(times[-1] - times[0], 1e-3)
        name = printable(camera.name)
        window.show(shown, f"{name} – {rate:.0f} frames a second – q quits, s saves")


def mirror(predictor: Predictor, camera: str, folder: Path) -> int:
    """Open camera and window until the user quits; the exit code, 0.

    `s` saves the picture shown into `folder`. Raises OSError or ValueError, which say what to do,
    where no window or no camera can be opened, or the camera is disconnected.
    """
    try:
        with Window() as window, Camera(camera) as source:
            play(source, predictor.tracker(), window, folder)
    except KeyboardInterrupt:  # Ctrl-C in the terminal quits as well
        pass
    return 0
