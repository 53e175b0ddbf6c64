"""The mirror in a real window, on a screen that nobody sees (Xvfb)."""

import atexit
import os
import shutil
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
from PIL import Image

from expression import webcam
from expression.face_prediction import FacePrediction
from expression.webcam import Window, mirror

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs X11")
SMILE = FacePrediction((4, 6, 40, 40), {"happy": 0.9, "sad": 0.1}, track=1)
PREDICTOR = SimpleNamespace(tracker=lambda: lambda image, seconds: [SMILE])


@pytest.fixture(scope="module")
def display():
    """A screen that nobody sees."""
    program = shutil.which("Xvfb")
    assert program, "Xvfb is not installed: apt-get install xvfb"
    reading, writing = os.pipe()
    # It ends with its last client: also where the tests are killed.
    command = [program, "-displayfd", str(writing), "-screen", "0", "800x600x24", "-terminate"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    # Not earlier: Tk keeps its connection after the last window, and hangs when that breaks.
    atexit.register(server.kill)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    return f":{number}"


@pytest.mark.parametrize("quit", ["<q>", "<Q>", "<Escape>", "close"])
def test_a_real_window_shows_saves_and_quits(display, monkeypatch, tmp_path, capsys, quit):
    monkeypatch.setenv("DISPLAY", display)
    shown, windows = [], []

    class Pressed(Window):
        def __init__(self):
            super().__init__()
            windows.append(weakref.ref(self.root))

        def show(self, image, title):
            super().show(image, title)
            self.root.update()
            shown.append((image.tobytes(), self.label.winfo_width(), self.root.title()))
            if len(shown) == 1:
                assert self.root.state() == "normal"
                self.root.event_generate("<s>")
            elif quit == "close":
                self.root.tk.call(self.root.protocol("WM_DELETE_WINDOW"))
            else:
                self.root.event_generate(quit)

    monkeypatch.setattr(webcam, "Window", Pressed)
    assert mirror(PREDICTOR, "lavfi:testsrc=size=160x120:rate=50", tmp_path) == 0
    (saved,) = tmp_path.iterdir()
    with Image.open(saved) as image:
        assert image.tobytes() == shown[0][0]
    assert capsys.readouterr().out == f"saved {saved}\n"
    assert shown[0][1] == 160
    assert "frames a second" in shown[-1][2]
    # Left to the garbage collection of another thread, Tcl would abort the program.
    assert windows[0]() is None
