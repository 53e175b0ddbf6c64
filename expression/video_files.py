"""From a video to its summary and, where they are wanted, three files: the video with boxes drawn,
a table, a timeline.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from expression.drawing import draw_faces
from expression.files import shown
from expression.output_files import OutputFiles, safe_stem, save_picture
from expression.predictor import ExpressionPredictor
from expression.timeline import read_timeline
from expression.timeline_figure import timeline_figure
from expression.timeline_picture import draw_timeline
from expression.video import EachFrame, annotate_video

__all__ = ["Progress", "follow_video"]

Progress = Callable[[float, float | None], None]  # seconds done, and in all (None: unknown)


def follow_video(
    predictor: ExpressionPredictor,
    video: str,
    folder: Path | None,
    progress: Progress | None = None,
    max_seconds: float | None = None,
    files: OutputFiles | None = None,
    each_frame: EachFrame | None = None,
) -> dict[str, Any]:
    """One video → NAME.mp4 with boxes, NAME.csv and NAME.png (the timeline) in `folder`; without
    `folder` no file is written.

    Where one of the names is in use, all three get the same number. `progress` is called with the
    seconds done and in all (None: unknown); `each_frame` with the seconds and the faces of every
    frame, boxes in pixels of the file. Returns a summary: video, frames, seconds, tracks (how many
    faces were followed), expressions (faces in all frames, by the expression shown), not_sure
    (those that name none) and files. Ctrl-C keeps what was written so far.
    """
    files = files or OutputFiles(inputs=[video])
    with ExitStack() as stack:
        group = None
        if folder is not None:
            ends = [".mp4", ".csv", ".png"]
            group = stack.enter_context(files.reserve(folder, safe_stem(Path(video).stem), ends))
            group.keep(".mp4", ".csv")  # their writers leave complete files or none
        summary = annotate_video(
            Path(video), predictor.tracker(), class_names=predictor.class_names,
            video_out=group.path(".mp4") if group else None,
            csv_out=group.path(".csv") if group else None,
            draw=draw_faces, each_frame=each_frame, progress=progress, max_seconds=max_seconds,
        )  # fmt: skip
        if group is not None:
            title = shown(Path(video).name)
            save_timeline(group.path(".csv"), group.path(".png"), title, predictor.min_confidence)
            group.keep(".png")
    return {
        "video": shown(video),
        "frames": summary.frames,
        "seconds": summary.seconds,
        "tracks": summary.tracks,
        "expressions": summary.expressions,
        "not_sure": summary.not_sure,
        "files": [shown(path) for path in group.written] if group else [],
    }


def save_timeline(table: Path, picture: Path, title: str, threshold: float) -> None:
    """Draw the figure of a video's table."""
    names, rows = read_timeline(table)
    save_picture(draw_timeline(timeline_figure(rows, names, title, threshold)), picture)
