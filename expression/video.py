"""Write videos, and annotate one: the same film with the faces drawn into it.

Why: videos are long, and runs get interrupted. Here memory stays constant whatever the length, and
an output gets its name only when it is complete.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any

import av
from PIL import Image

from expression.face_prediction import FacePrediction, enlarged
from expression.files import atomic_path
from expression.frames import read_frames, video_info
from expression.output_files import same_file
from expression.timeline import Timeline

__all__ = ["EachFrame", "Summary", "VideoWriter", "annotate_video", "first_encoder"]

TICKS = 60_000  # a second, in written files: below 2^16 (MPEG-4's limit), exact at 30000/1001 fps
ENCODERS = ("libx264", "libopenh264", "h264", "mpeg4")

# --- writing ---


@lru_cache
def first_encoder(names: Sequence[str] = ENCODERS) -> str:
    """The first of these encoders that this build of FFmpeg holds and this machine can open.

    Raises RuntimeError when there is none.
    """
    for name in names:
        try:  # a hardware encoder is listed on machines without the hardware
            trial = av.CodecContext.create(name, "w")
            trial.width, trial.height, trial.pix_fmt = 256, 256, "yuv420p"
            trial.time_base, trial.framerate = Fraction(1, TICKS), Fraction(30)
            trial.open()
            return name
        except (av.FFmpegError, ValueError):  # a ValueError where the name is unknown
            continue
    raise RuntimeError(f"av can encode with none of {', '.join(names)}; install av from PyPI")


class VideoWriter:
    """An MP4 that browsers play; a context manager. `encoder` is FFmpeg's name of the encoder.

    The first frame sets the size, less an odd row or column; later frames are scaled to
    it. Without any frame no file is made. Raises OSError when it cannot be written.
    """

    def __init__(self, path: Path | str, encoder: str | None = None) -> None:
        self.path = Path(path)
        self.encoder = encoder or first_encoder()
        self._container: Any = None  # av's, from the first picture on
        self._last = -1  # ticks of the frame before
        self._stack = ExitStack()

    def __enter__(self) -> "VideoWriter":
        self._part = self._stack.enter_context(atomic_path(self.path))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _start(self, width: int, height: int) -> None:
        if width < 2 or height < 2:
            raise ValueError(f"a {width} × {height} picture is too small for a video; give 2 × 2")
        options = {"movflags": "faststart"}  # a browser can start before the file is loaded
        container = av.open(self._part, "w", format="mp4", options=options)
        self._container = self._stack.enter_context(container)
        fast = {"preset": "veryfast", "crf": "22"} if self.encoder == "libx264" else {}
        self._stream = self._container.add_stream(self.encoder, rate=30, options=fast)
        self._stream.width, self._stream.height = width - width % 2, height - height % 2
        self._stream.pix_fmt = "yuv420p"
        if not fast:  # otherwise 1 Mbit/s, whatever the size
            self._stream.bit_rate = max(1_000_000, 6 * width * height)
        context = self._stream.codec_context
        context.time_base = Fraction(1, TICKS)
        context.max_b_frames = 0  # reordered, uneven frames get too short a length in the header
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1
        self._stack.push(self._flush)

    def _flush(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._container.mux(self._stream.encode())

    def write(self, image: Image.Image, seconds: float) -> None:
        """Add a picture shown from `seconds` on; a time that does not rise is moved behind."""
        if self._container is None:
            self._start(*image.size)
        width, height = self._stream.width, self._stream.height
        if (image.width - image.width % 2, image.height - image.height % 2) == (width, height):
            image = image.crop((0, 0, width, height))
        ticks = max(round(seconds * TICKS), self._last + 1)
        frame = av.VideoFrame.from_image(image.convert("RGB")).reformat(
            width, height, "yuv420p", dst_colorspace="ITU709"
        )
        frame.pts, frame.time_base, self._last = ticks, Fraction(1, TICKS), ticks
        self._container.mux(self._stream.encode(frame))


# --- both ---


@dataclass(frozen=True)
class Summary:
    """What was read: `tracks` counts followed faces, `faces` counts faces in all frames.

    Of `faces`, `expressions` counts the sure ones by class name, and `not_sure` the others.
    """

    frames: int
    seconds: float
    tracks: int
    faces: int
    expressions: dict[str, int]
    not_sure: int


EachFrame = Callable[[float, Sequence[FacePrediction]], object]  # seconds, faces of the frame


def annotate_video(
    source: Path | str,
    follow: Callable[[Image.Image, float], Sequence[FacePrediction]],
    *,
    class_names: Sequence[str],
    video_out: Path | str | None,
    csv_out: Path | str | None,
    draw: Callable[[Image.Image, Sequence[FacePrediction]], Image.Image],
    each_frame: EachFrame | None = None,
    progress: Callable[[float, float | None], object] | None = None,
    longest: int | None = 1280,
    max_seconds: float | None = None,
) -> Summary:
    """Follow faces through a video into an annotated one, a table, both, or neither.

    `follow(image, seconds)` finds the faces of a frame, `draw(image, faces)` draws them;
    `each_frame(seconds, faces)` is told them with boxes in pixels of the file, whereas boxes in
    the table are in pixels of the annotated video, which is at most `longest` wide and high;
    `progress(done, total or None)`, in seconds of video, is called at most ten times a second, and
    once at the end, when all is done whatever the header said of the length.
    Ctrl-C keeps what was written so far and is raised again; any other error keeps nothing.
    Raises as `read_frames`, and ValueError if an output would replace the source.
    """
    for path in (video_out, csv_out):
        if path is not None and same_file(path, source):
            raise ValueError(f"{path} is the video to be read; give the new file another name")
    info = video_info(source)
    total = info.seconds
    if max_seconds is not None and total is not None:
        total = min(total, max_seconds)
    frames, not_sure, seconds, reported = 0, 0, 0.0, -1.0
    expressions: Counter[str] = Counter()
    tracks: set[int] = set()
    interrupt: KeyboardInterrupt | None = None
    with ExitStack() as stack:
        video = stack.enter_context(VideoWriter(video_out)) if video_out is not None else None
        table = stack.enter_context(Timeline(csv_out, class_names)) if csv_out is not None else None
        reader = stack.enter_context(closing(read_frames(source, longest=longest)))
        try:
            for frame in reader:
                if max_seconds is not None and frame.seconds >= max_seconds:
                    break
                faces = follow(frame.image, frame.seconds)
                if table is not None:
                    for face in faces:
                        table.add(frame.seconds, frame.index, face)
                if each_frame is not None:
                    times = info.width / frame.image.width
                    each_frame(frame.seconds, [enlarged(face, times) for face in faces])
                tracks.update(face.track for face in faces if face.track is not None)
                if video is not None:
                    video.write(draw(frame.image, faces), frame.seconds)
                frames, seconds = frames + 1, frame.seconds
                expressions.update(face.expression for face in faces if face.sure)
                not_sure += sum(not face.sure for face in faces)
                if progress is not None and monotonic() - reported >= 0.1:
                    reported = monotonic()
                    progress(seconds, total)
            if progress is not None:
                progress(total or seconds, total or seconds)
        except KeyboardInterrupt as stop:
            interrupt = stop
    if interrupt is not None:
        raise interrupt
    counts = dict(expressions.most_common())
    face_count = expressions.total() + not_sure
    return Summary(frames, seconds, len(tracks), face_count, counts, not_sure)
