"""From a video to three files: the video with boxes drawn, a table, a timeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from expression.drawing import draw_faces
from expression.output_files import OutputFiles
from expression.predictor import ExpressionPredictor
from expression.timeline import read_timeline
from expression.timeline_figure import timeline_figure
from expression.timeline_picture import draw_timeline
from expression.video import annotate_video

__all__ = ["Progress", "follow_video"]

Progress = Callable[[float, float | None], None]  # seconds done, and in all (None: unknown)


def follow_video(
    predictor: ExpressionPredictor,
    video: str,
    folder: Path,
    progress: Progress | None = None,
    max_seconds: float | None = None,
    files: OutputFiles | None = None,
) -> dict[str, Any]:
    """One video → NAME.mp4 with boxes, NAME.csv and NAME.png (the timeline) in `folder`.

    Where one of the names is in use, all three get the same number. `progress` is called with the
    seconds done and in all (None: unknown). Returns a summary: video, frames, seconds, tracks (how
    many faces were followed), expressions (faces in all frames, by the expression shown), not_sure
    (those that name none) and files. Ctrl-C keeps what was written so far.
    """
    files = files or OutputFiles(inputs=[video])
    with files.reserve(folder, Path(video).stem, [".mp4", ".csv", ".png"]) as group:
        group.keep(".mp4", ".csv")  # their writers leave complete files or none
        summary = annotate_video(
            Path(video), predictor.tracker(), class_names=predictor.class_names,
            video_out=group.path(".mp4"), csv_out=group.path(".csv"), draw=draw_faces,
            progress=progress, max_seconds=max_seconds,
        )  # fmt: skip
        names, rows = read_timeline(group.path(".csv"))
        title, threshold = Path(video).name, predictor.min_confidence
        draw_timeline(timeline_figure(rows, names, title, threshold)).save(group.path(".png"))
        group.keep(".png")
    return {
        "video": video,
        "frames": summary.frames,
        "seconds": summary.seconds,
        "tracks": summary.tracks,
        "expressions": summary.expressions,
        "not_sure": summary.not_sure,
        "files": [str(path) for path in group.written],
    }
