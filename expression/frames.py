"""Read videos frame by frame.

Why: videos are long, stored sideways by phones, have uneven frame times and broken packets. Here
memory stays constant whatever the length, and times are those of the file. A thread decodes the
next frames while the last one is looked at.
"""

import errno
import struct
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

from expression.file_kinds import special_kind
from expression.files import shown

__all__ = ["Frame", "VideoInfo", "picture_of", "read_frames", "video_info"]

# FFmpeg also opens text files, and playlists of other files and addresses; an uploaded file must
# not make it open anything but itself.
SAFE = {
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif",
    "protocol_whitelist": "file",
}
KINDS = "MP4, MOV, WebM, MKV or AVI"
# The signs of a display matrix's a, b, c, d → what turns the picture upright. `frame.rotation`
# is wrong for mirrored pictures.
TURNS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
}
SIDEWAYS = {turn for signs, turn in TURNS.items() if signs[0] == 0}
AHEAD = 2  # frames that are decoded before they are asked for
Item = TypeVar("Item")


@dataclass(frozen=True)
class Frame:
    """One picture of a video, RGB and upright; `seconds` from the video's start."""

    seconds: float
    index: int  # of the frames that could be decoded, from 0
    image: Image.Image


@dataclass(frozen=True)
class VideoInfo:
    """Upright size in pixels; None where the file does not say, `fps` then 0.0."""

    width: int
    height: int
    fps: float
    seconds: float | None
    frames: int | None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    if not path.exists():
        raise FileNotFoundError(f"there is no video at {shown(path)}")
    if kind := special_kind(path):  # FFmpeg would wait for a pipe, or read a device, for ever
        raise ValueError(f"{shown(path)} is a {kind}, not a file; give {KINDS}")
    try:
        # Absolute: FFmpeg takes what stands before a colon in "day 1:walk.mp4" for a protocol.
        container = av.open(path.absolute(), options=SAFE, metadata_errors="replace")
    except av.FFmpegError as error:
        reason = str(error.strerror)
        if error.errno == errno.ENOMEM:  # FFmpeg refused it: nothing was taken
            reason = "broken: it asks for more memory than a video needs"
        raise ValueError(
            f"{shown(path)} is not a video that can be read ({reason}); give {KINDS}, "
            "and record or export it again if it is cut off"
        ) from None
    with container:
        moving = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not moving:
            raise ValueError(
                f"{shown(path)} holds no moving picture, only sound or data; give a video"
            )
        moving[0].thread_type = "AUTO"
        yield container, moving[0]


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Frames in order; damaged packets are skipped, and a file that is cut off ends there."""
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            yield from frames
    except av.FFmpegError:
        return


def _nothing(path: Path) -> ValueError:
    return ValueError(
        f"{shown(path)} holds no frame that can be decoded; export it again as H.264 MP4"
    )


def _turn(frame: av.VideoFrame) -> Image.Transpose | None:
    # A frame and its side data hold each other until the next garbage collection.
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = struct.unpack("9i", bytes(data))[:5]
    return TURNS.get(tuple((v > 0) - (v < 0) for v in (a, b, c, d)))


def _size(frame: av.VideoFrame, stream: VideoStream, longest: int | None) -> tuple[int, int]:
    """Width and height with square pixels, before turning, at most `longest`."""
    width, height = frame.width * float(stream.sample_aspect_ratio or 1), frame.height
    scale = min(1.0, longest / max(width, height)) if longest else 1.0
    return max(1, round(width * scale)), max(1, round(height * scale))


def picture_of(frame: av.VideoFrame, width: int, height: int) -> Image.Image:
    """A frame as an RGB picture of this size: as `frame.to_image`, in a fifth of the time."""
    plane = frame.reformat(width, height, "rgb24").planes[0]
    return Image.frombytes("RGB", (width, height), plane, "raw", "RGB", plane.line_size)  # a copy


def ahead(items: Generator[Item, None, None], most: int = AHEAD) -> Generator[Item, None, None]:
    """The same items, of which the next `most` are made by a thread meanwhile."""
    with closing(items), ThreadPoolExecutor(1, "frames") as worker:
        waiting = deque(worker.submit(next, items, None) for _ in range(most))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(worker.submit(next, items, None))
            yield item


def _decoded_from(
    container: InputContainer, stream: VideoStream, path: Path, begin: float
) -> Iterator[av.VideoFrame]:
    """As `_decoded`, from a frame at or before `begin`, in seconds from the film's start.

    Some indices lead behind the place that was asked for: then from earlier on, and at last from
    the beginning of the file, opened anew (MPEG-TS does not find its first frame again).
    """
    start = (container.start_time or 0) / av.time_base
    for at in (begin, begin - 10, begin - 60):
        if at <= 0:
            break
        try:
            container.seek(round((start + at) * av.time_base))
        except av.FFmpegError:
            break
        frames = _decoded(container, stream)
        first = next(frames, None)
        if first is not None and first.time is not None and first.time - start <= begin:
            yield first
            yield from frames
            return
    with _opened(path) as anew:
        yield from _decoded(*anew)


def read_frames(
    path: Path | str, *, longest: int | None = 1280, begin: float = 0.0
) -> Generator[Frame, None, None]:
    """The frames of a video in order, the long side at most `longest` pixels.

    With `begin` only those from this time on, in seconds, and without an error where there is none;
    what lies before is passed over by the file's index, and `index` counts from there.
    Times are the file's own, so uneven ones stay so. Damaged packets are skipped. Errors
    come with the first frame: FileNotFoundError, or ValueError for a file that is no
    video, has no picture track or holds nothing that can be decoded.
    """
    yield from ahead(decode_frames(Path(path), longest, begin))


def decode_frames(
    path: Path, longest: int | None, begin: float = 0.0
) -> Generator[Frame, None, None]:
    """As `read_frames`, one frame at a time, when it is asked for."""
    index, seconds, turn = 0, 0.0, None
    with _opened(path) as (container, stream):
        start = (container.start_time or 0) / av.time_base
        step = 1 / float(stream.guessed_rate or 30)
        frames = _decoded_from(container, stream, path, begin) if begin else None
        for frame in frames or _decoded(container, stream):
            if frame.time is not None:
                seconds = max(0.0, frame.time - start)
            elif index:  # some broken files time only some of their frames
                seconds += step
            if seconds < begin:
                continue
            if not index:  # the first counts for all: reading side data keeps a frame in memory
                turn = _turn(frame)
            width, height = _size(frame, stream, longest)
            image = picture_of(frame, width, height)
            yield Frame(seconds, index, image if turn is None else image.transpose(turn))
            index += 1
    if not index and not begin:
        raise _nothing(path)


def video_info(path: Path | str) -> VideoInfo:
    """What a progress bar needs, from the header and one frame. Errors as in `read_frames`."""
    path = Path(path)
    with _opened(path) as (container, stream):
        frame = next(_decoded(container, stream), None)
        if frame is None:
            raise _nothing(path)
        width, height = _size(frame, stream, None)
        if _turn(frame) in SIDEWAYS:
            width, height = height, width
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        seconds = container.duration / av.time_base if container.duration else None
        return VideoInfo(width, height, fps, seconds, stream.frames or None)
