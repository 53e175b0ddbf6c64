"""Broken videos, of every container that is opened."""

import random
from pathlib import Path

import av
from PIL import Image

from expression.app.examples import EXAMPLES
from expression.frames import read_frames, video_info
from expression.output_files import OutputFiles
from expression.predictor import ExpressionPredictor
from expression.video_files import follow_video
from tools.torture.cases import FileAttack, Wrong
from tools.torture.mutate import broken_bytes
from tools.torture.pictures import check_faces

__all__ = ["Attack", "write_film"]

FRAMES, SIDE, LONGEST = 8, 96, 320
MOST_FRAMES = 2000  # a broken file of 8 frames that gives more than these would not end
FOLLOWED = 0.25  # of the files go through the whole pipeline, with three files written
KINDS = {  # ending: encoders, the first that this build of FFmpeg has is taken
    ".mp4": ("libx264", "mpeg4"), ".mov": ("mpeg4",), ".mkv": ("libx264", "mpeg4"),
    ".webm": ("libvpx", "libvpx-vp9"), ".avi": ("mjpeg",), ".ts": ("mpeg2video",),
    ".mpg": ("mpeg1video",), ".flv": ("flv",), ".ogv": ("libtheora", "libvpx"), ".wmv": ("wmv2",),
}  # fmt: skip


def write_film(path: Path, encoders: tuple[str, ...]) -> bool:
    """A film of a face that moves; False where no encoder or container for it is there."""
    with Image.open(EXAMPLES / "portrait.jpg") as photo:
        face = photo.convert("RGB").resize((SIDE, SIDE))
    for encoder in encoders:
        try:
            with av.open(path, "w") as film:
                stream = film.add_stream(encoder, rate=25)
                stream.width = stream.height = SIDE
                stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
                for number in range(FRAMES):
                    frame = av.VideoFrame.from_image(face.rotate(number))
                    film.mux(stream.encode(frame))
                film.mux(stream.encode())
            return True
        except (av.FFmpegError, ValueError):
            path.unlink(missing_ok=True)
    return False


class Attack(FileAttack):
    count = 2000
    control_every = 200

    def __init__(self, scratch: Path) -> None:
        self.whole, self.first = {}, {}
        for ending, encoders in KINDS.items():
            path = scratch / f"whole{ending}"
            if write_film(path, encoders):
                self.whole[ending] = path.read_bytes()
        self.endings = sorted(self.whole)
        self.predictor = ExpressionPredictor()
        self.scratch = scratch
        self.first = {ending: self.frames(scratch / f"whole{ending}") for ending in self.endings}

    def frames(self, path: Path) -> int:
        """Read a video to its end; how many frames it gave."""
        count, before = 0, -1.0
        for frame in read_frames(path, longest=LONGEST):
            if frame.image.mode != "RGB" or max(frame.image.size) > LONGEST:
                raise Wrong(f"a frame of mode {frame.image.mode}, {frame.image.size}")
            if not frame.seconds >= 0:
                raise Wrong(f"a frame at {frame.seconds} s")
            count, before = count + 1, frame.seconds
            if count > MOST_FRAMES:
                raise Wrong(f"more than {MOST_FRAMES} frames in a file of {FRAMES}, at {before} s")
        return count

    def try_one(self, rng: random.Random, folder: Path) -> None:
        ending = rng.choice(self.endings)
        content = broken_bytes(self.whole[ending], self.whole[rng.choice(self.endings)], rng)
        path = folder / f"film{ending}"
        path.write_bytes(content)
        if rng.random() < FOLLOWED:
            self.follow(path, folder / "out")
        else:
            video_info(path)
            self.frames(path)

    def follow(self, path: Path, out: Path) -> None:
        """The whole pipeline: a film with boxes, a table and a timeline, or none of the three."""
        out.mkdir()
        try:
            told = follow_video(
                self.predictor, str(path), out, files=OutputFiles(inputs=[path]),
                each_frame=lambda seconds, faces: check_faces(list(faces)), max_seconds=60,
            )  # fmt: skip
        except ValueError:
            if left := list(out.iterdir()):
                raise Wrong(f"refused, and left {left[0].name}") from None
            raise
        if len(told["files"]) != len(list(out.iterdir())):
            raise Wrong(f"{told['files']} told, {sorted(p.name for p in out.iterdir())} there")

    def control(self, folder: Path) -> None:
        for ending in self.endings:
            if (count := self.frames(self.scratch / f"whole{ending}")) != self.first[ending]:
                raise Wrong(f"{ending}: {count} frames, {self.first[ending]} before")
