"""A camera, or a video file played at its own speed: always the newest picture.

Why: a loop that both reads a camera and finds faces falls behind, because pictures queue up. Here a
thread reads the camera and keeps only the newest picture.
"""

import errno
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Thread
from time import monotonic

import av
import av.device
from av.container import InputContainer
from PIL import Image

from expression.frames import picture_of, read_frames

__all__ = ["Camera", "Device", "locate"]

LONGEST = 960  # pixels, of what is shown
PATIENCE = 20.0  # seconds to wait for the first picture: the system may ask for permission
FORMATS = {"darwin": "avfoundation", "win32": "dshow"}  # elsewhere v4l2
# Tried in this order. Without options, some cameras send large pictures a few times a second, and
# macOS refuses FFmpeg's default of 29.97 frames a second.
OPTIONS: list[dict[str, str]] = [
    {"video_size": "640x480", "framerate": "30"},
    {"framerate": "30"},
    {},
]
Picture = tuple[Image.Image, float]  # RGB, and seconds since the camera was opened


# --- which camera ---


@dataclass(frozen=True)
class Device:
    """A camera as FFmpeg opens it; messages call it `name`."""

    name: str
    address: str
    format: str


def list_cameras(format: str) -> dict[str, str]:
    """{address: description} of the cameras that the system knows."""
    try:
        devices = av.device.enumerate_input_devices(format)
    except (av.FFmpegError, ValueError):  # a ValueError: this FFmpeg lacks the format
        return {}
    return {d.name: d.description for d in devices if "video" in (d.media_types or ["video"])}


def camera_missing(name: str, format: str) -> FileNotFoundError:
    kind = "camera" if name.isdecimal() else "camera or video"
    names = ", ".join(f"{address} ({text})" for address, text in list_cameras(format).items())
    found = f"found: {names}" if names else "none was found: connect one, or give a video file"
    return FileNotFoundError(f"there is no {kind} {name}; {found}")


def locate(camera: str, platform: str = sys.platform) -> Device | Path:
    """The camera with this number or name, or "lavfi:" and an FFmpeg source; else a video file."""
    format, path = FORMATS.get(platform, "v4l2"), Path(camera)
    if camera.startswith("lavfi:"):
        return Device(camera, camera.removeprefix("lavfi:"), "lavfi")
    if not camera.isdecimal() and path.exists() and not path.is_char_device():
        return path
    address = camera
    if format == "v4l2" and camera.isdecimal():
        address = f"/dev/video{int(camera)}"
    elif format == "dshow":
        if camera.isdecimal():
            address = dict(enumerate(list_cameras(format))).get(int(camera), "")
            if not address:
                raise camera_missing(camera, format)
        address = f"video={address.removeprefix('video=')}"
    return Device(camera, address, format)


def opening_error(device: Device, error: Exception) -> OSError:
    """The error to raise when a camera does not open; it says what to do."""
    if isinstance(error, FileNotFoundError):
        return camera_missing(device.name, device.format)
    if isinstance(error, PermissionError):
        return PermissionError(
            f"this user may not use camera {device.name}; on Linux join its group (sudo usermod "
            "-aG video $USER, then log in again), elsewhere allow it in the system's settings"
        )
    if getattr(error, "errno", None) == errno.EBUSY:
        return OSError(f"camera {device.name} is busy; close the other program that uses it")
    return OSError(
        f"camera {device.name} cannot be opened ({getattr(error, 'strerror', None) or error}); "
        "close other programs that use it, and allow this one to in the system's settings"
    )


# --- its pictures ---


def open_camera(device: Device) -> InputContainer:
    """The camera, opened with the first OPTIONS that it accepts. Raises `opening_error`."""
    for options in OPTIONS:
        try:
            return av.open(device.address, format=device.format, options=options)
        except (av.FFmpegError, ValueError) as error:
            last = error  # the last error counts: without options
    raise opening_error(device, last) from None


def device_pictures(device: Device, stop: Event) -> Iterator[Picture]:
    """Pictures from the camera until `stop`. Raises OSError, also when it is disconnected."""
    start, drawn = monotonic(), device.format == "lavfi"  # FFmpeg draws faster than real time
    with open_camera(device) as container:
        packets = container.demux(video=0)
        while not stop.is_set():
            try:
                packet = next(packets, None)
            except av.error.BlockingIOError:  # macOS: no new picture yet
                packets = container.demux(video=0)
                stop.wait(0.005)
                continue
            except av.FFmpegError:  # unplugged
                packet = None
            if packet is None:
                break
            with suppress(av.FFmpegError):  # the first pictures of many cameras are damaged
                for frame in packet.decode():
                    scale = min(1.0, LONGEST / max(frame.width, frame.height))
                    width, height = round(frame.width * scale), round(frame.height * scale)
                    image = picture_of(frame, width, height)
                    yield image, frame.time if drawn else monotonic() - start
    if not (drawn or stop.is_set()):
        raise OSError(f"camera {device.name} went away; check its cable and start again")


class Camera:
    """A camera, or a video file played at its own speed; a context manager.

    `camera` is a number as text, a device's name, or a file. Entering waits for the first picture.
    Raises OSError or ValueError, which say what to do, where there is none.
    """

    def __init__(self, camera: str) -> None:
        self.name = camera
        self.source = locate(camera)
        self.stop = Event()
        self.changed = Condition()
        self.picture: Picture | None = None
        self.failure: Exception | None = None
        self.done = False
        # A daemon thread: a driver that never answers must not keep the program running.
        self.thread = Thread(target=self.read, name=f"camera {camera}", daemon=True)

    def __enter__(self) -> "Camera":
        self.thread.start()
        try:
            with self.changed:
                answered = self.changed.wait_for(lambda: self.picture or self.done, PATIENCE)
            if not answered:
                raise OSError(
                    f"camera {self.name} gave no picture in {PATIENCE:.0f} s; allow it in the "
                    "system's settings, and close other programs that use it"
                )
            if self.failure is not None and self.picture is None:
                raise self.failure
        except BaseException:  # Ctrl-C as well
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the reading thread, which closes the camera."""
        self.stop.set()
        self.thread.join(timeout=3.0)

    def pictures(self) -> Generator[Picture, None, None]:
        if isinstance(self.source, Device):
            yield from device_pictures(self.source, self.stop)
        else:
            with closing(read_frames(self.source, longest=LONGEST)) as frames:
                yield from ((frame.image, frame.seconds) for frame in frames)

    def read(self) -> None:
        """The thread. It opens, reads and closes: some systems need all three in one thread."""
        start = monotonic()
        try:
            with closing(self.pictures()) as pictures:
                for picture in pictures:
                    if self.stop.wait(picture[1] - (monotonic() - start)):
                        break
                    with self.changed:
                        self.picture = picture
                        self.changed.notify_all()
        except Exception as error:
            self.failure = error
        with self.changed:
            self.done = True
            self.changed.notify_all()

    def latest(self, wait: float = 0.0) -> Picture | None:
        """The newest picture and its time in seconds, each once; None after `wait` seconds.

        Earlier pictures are skipped. Raises OSError when the camera was disconnected.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.picture or self.done, wait)
            picture, self.picture = self.picture, None
        if picture is None and self.failure is not None:
            raise self.failure
        return picture

    @property
    def ended(self) -> bool:
        """Whether the file is over and its last picture was taken; `latest` raises failures."""
        with self.changed:
            return self.done and self.picture is None and self.failure is None
