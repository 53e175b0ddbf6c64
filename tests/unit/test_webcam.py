"""A camera that is never late, a mirror that is one, and words for all that can be missing."""

import sys
from types import SimpleNamespace

import av
import av.device
import pytest
from PIL import Image

from expression import camera as reading
from expression import webcam
from expression.camera import Camera, Device, locate
from expression.drawing import draw_faces
from expression.face_prediction import FacePrediction
from expression.video import VideoWriter
from expression.webcam import mirror, play, step

SMILE = FacePrediction((4, 6, 40, 40), {"happy": 0.9, "sad": 0.1}, track=1)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs X11 and v4l2")


class Tracker:
    """A stand-in without networks: one face, always at the same place."""

    def __init__(self):
        self.times = []

    def __call__(self, image, seconds):
        self.times.append(seconds)
        return [SMILE]


PREDICTOR = SimpleNamespace(tracker=Tracker)


class Keys:
    """A window without a screen: these keys, one after each picture that was shown."""

    def __init__(self, *keys):
        self.keys, self.shown, self.titles = list(keys), [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def key(self):
        return self.keys.pop(0) if self.shown and self.keys else None

    def show(self, image, title):
        self.shown.append(image)
        self.titles.append(title)


def clip(path, times):
    """Black, then lighter with every frame."""
    with VideoWriter(path) as video:
        for index, seconds in enumerate(times):
            video.write(Image.new("RGB", (160, 120), (index * 20,) * 3), seconds)
    return str(path)


def light(image):
    return round(image.convert("L").resize((1, 1)).getpixel((0, 0)) / 20)


# --- the camera ---


def test_a_slow_consumer_gets_the_newest_frame_and_never_a_queue(tmp_path):
    with Camera(clip(tmp_path / "a.mp4", [i / 40 for i in range(10)])) as camera:
        camera.thread.join(10)  # so slow that all ten frames came
        image, seconds = camera.latest()
        assert (light(image), seconds) == (9, pytest.approx(9 / 40, abs=1e-3))
        assert camera.latest() is None  # each frame once
        assert camera.ended


def test_a_file_plays_at_its_own_pace_and_quitting_does_not_wait_for_it(tmp_path):
    with Camera(clip(tmp_path / "a.mp4", [0.0, 3600.0])) as camera:
        assert light(camera.latest()[0]) == 0
        assert camera.latest() is None  # the next is due in an hour
        assert not camera.ended
    assert not camera.thread.is_alive()
    assert camera.ended


def test_a_device_is_read_in_time_and_scaled_to_the_window():
    with Camera("lavfi:testsrc=size=1920x1080:rate=50") as camera:
        first, early = camera.latest(wait=5)
        _, late = camera.latest(wait=5)
    assert first.size == (960, 540)
    assert late > early
    assert not camera.thread.is_alive()


class Container:
    """What av.open gives, of a camera that does these things in turn."""

    def __init__(self, *acts):
        self.acts, self.closed = iter(acts), False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def demux(self, video):
        for act in self.acts:
            if isinstance(act, Exception):
                raise act
            yield SimpleNamespace(decode=act)


def frames():
    return [av.VideoFrame(32, 24, "rgb24")]


def torn():
    raise av.error.InvalidDataError(1, "torn")


def test_a_camera_that_hesitates_goes_on_and_one_that_is_unplugged_is_told(monkeypatch):
    again = av.error.BlockingIOError(35, "Resource temporarily unavailable")
    gone = av.error.OSError(19, "No such device")
    container = Container(again, torn, frames, again, frames, gone)
    monkeypatch.setattr(av, "open", lambda *_, **__: container)
    with Camera("0") as camera:
        camera.thread.join(10)
        assert camera.latest()[0].size == (32, 24)  # what came before is still shown
        with pytest.raises(OSError, match="camera 0 went away; check its cable"):
            camera.latest()
    assert container.closed


def test_a_camera_is_asked_for_a_small_fast_picture_but_may_refuse(monkeypatch):
    asked = []

    def open(address, format, options):
        asked.append(options)
        if options:
            raise av.error.OSError(5, "Input/output error")
        return Container(frames, frames)

    monkeypatch.setattr(av, "open", open)
    with Camera("0") as camera:
        assert camera.latest() is not None
    assert asked == [{"video_size": "640x480", "framerate": "30"}, {"framerate": "30"}, {}]


def test_a_camera_that_gives_no_picture_is_not_waited_for_for_ever(monkeypatch):
    class Silent(Container):
        def demux(self, video):
            raise av.error.BlockingIOError(35, "Resource temporarily unavailable")
            yield

    silent = Silent()
    monkeypatch.setattr(reading, "PATIENCE", 0.05)
    monkeypatch.setattr(av, "open", lambda *_, **__: silent)
    camera = Camera("0")
    with pytest.raises(OSError, match="gave no picture"), camera:
        pass
    assert silent.closed  # its light goes out


# --- which camera ---


def cameras(monkeypatch, *devices):
    found = [SimpleNamespace(name=n, description=d, media_types=[t]) for n, d, t in devices]
    monkeypatch.setattr(av.device, "enumerate_input_devices", lambda format: found)


def test_a_number_means_another_address_on_every_system(monkeypatch, tmp_path):
    assert locate("0", "linux") == Device("0", "/dev/video0", "v4l2")
    assert locate("/dev/video2", "linux").address == "/dev/video2"
    assert locate("1", "darwin") == Device("1", "1", "avfoundation")
    cameras(monkeypatch, ("Microphone", "", "audio"), ("A", "", "video"), ("B", "", "video"))
    assert locate("1", "win32") == Device("1", "video=B", "dshow")
    assert locate("video=A", "win32").address == locate("A", "win32").address == "video=A"
    path = tmp_path / "a.mp4"
    path.touch()
    assert locate(str(path), "win32") == path


def test_a_camera_that_is_not_there_is_told_with_those_that_are(monkeypatch):
    cameras(monkeypatch, ("A", "front", "video"))
    with pytest.raises(FileNotFoundError, match=r"no camera 1; found: A \(front\)$"):
        locate("1", "win32")


@LINUX
def test_neither_camera_nor_video_of_that_name(monkeypatch):
    cameras(monkeypatch)
    with pytest.raises(FileNotFoundError, match="no camera 77; none was found: connect one"):
        Camera("77").__enter__()
    with pytest.raises(FileNotFoundError, match="no camera or video nothing.mp4"):
        Camera("nothing.mp4").__enter__()


@pytest.mark.parametrize(
    "error, message",
    [
        (av.error.PermissionError(13, "Permission denied"), "may not use camera 0.*usermod"),
        (av.error.OSError(16, "Device or resource busy"), "is busy; close the other program"),
        (av.error.OSError(5, "Input/output error"), r"cannot be opened \(Input/output error\)"),
        (ValueError("no container format 'v4l2'"), "cannot be opened .no container format"),
    ],
)
def test_a_camera_that_refuses_says_why_and_what_to_do(monkeypatch, error, message):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(av, "open", refuse)
    camera = Camera("0")
    with pytest.raises(OSError, match=message), camera:
        pass
    assert not camera.thread.is_alive()


def test_a_file_that_is_no_video_is_told(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("no video")
    with pytest.raises(ValueError, match="not a video that can be read"), Camera(str(path)):
        pass


# --- the mirror ---


def test_the_mirror_swaps_left_and_right_before_faces_are_looked_for():
    image = Image.new("RGB", (160, 120), "blue")
    image.paste("red", (0, 0, 80, 120))
    looked = []
    drawn = step(image, 1.5, lambda picture, seconds: looked.append((picture, seconds)) or [SMILE])
    (picture, seconds) = looked[0]
    assert seconds == 1.5
    assert picture.getpixel((10, 10)) == (0, 0, 255)
    assert picture.getpixel((150, 10)) == (255, 0, 0)
    assert drawn.tobytes() == draw_faces(picture, [SMILE]).tobytes()  # labels are not mirrored


def test_s_saves_what_is_shown_and_q_quits(tmp_path, capsys):
    window, follow, folder = Keys("s", "s", "q"), Tracker(), tmp_path / "new" / "out"
    with Camera("lavfi:color=c=gray:size=160x120:rate=50") as camera:
        play(camera, follow, window, folder)
        assert not camera.ended
    saved = sorted(folder.iterdir())
    assert len(saved) == 2  # also within one second
    for path in saved:
        assert path.match("screenshot-????????-??????*.png")
        with Image.open(path) as image:
            assert image.tobytes() in [shown.tobytes() for shown in window.shown]
    said = capsys.readouterr().out.splitlines()
    assert sorted(said) == sorted(f"saved {path}" for path in saved)
    assert "frames a second" in window.titles[-1]
    assert follow.times == sorted(follow.times)


def test_the_end_of_a_file_is_shown_and_ends_it(monkeypatch, tmp_path):
    window = Keys()
    monkeypatch.setattr(webcam, "Window", lambda: window)
    monkeypatch.setattr(webcam, "draw_faces", lambda image, seen: image)
    assert mirror(PREDICTOR, clip(tmp_path / "a.mp4", [0.0, 0.02, 0.1]), tmp_path) == 0
    assert light(window.shown[-1]) == 2


def test_ctrl_c_quits_and_lets_go_of_the_camera(monkeypatch, tmp_path):
    window, opened = Keys(), []

    class Noted(Camera):
        def __enter__(self):
            opened.append(self)
            return super().__enter__()

    def interrupt(image, title):
        raise KeyboardInterrupt

    window.show = interrupt
    monkeypatch.setattr(webcam, "Window", lambda: window)
    monkeypatch.setattr(webcam, "Camera", Noted)
    assert mirror(PREDICTOR, "lavfi:testsrc=size=64x48", tmp_path) == 0
    assert not opened[0].thread.is_alive()


# --- the window ---


def test_without_tkinter_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(OSError, match="install python3-tk"):
        mirror(PREDICTOR, "0", tmp_path)


@LINUX
def test_without_a_display_it_names_the_demo(monkeypatch, tmp_path):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(OSError, match=r"no window can be opened here .*python demo\.py"):
        mirror(PREDICTOR, "0", tmp_path)
