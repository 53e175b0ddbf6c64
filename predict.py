"""Find the faces in pictures and videos and name the expression that each shows.

    python predict.py photo.jpg holiday/ "*.png" https://example.org/face.jpg
    python predict.py holiday/ clip.mp4 --annotate out --csv out.csv
    python predict.py --webcam                      (q quits, s saves a screenshot)

`expression.cli` is the same command without torch; here a checkpoint without an .onnx file
answers too, through torch, and can be exported.
"""

import sys
from pathlib import Path

from expression.cli import main
from expression.predictor import Network, open_onnx


def load_network(checkpoint: Path) -> Network:
    """The .onnx file beside a checkpoint, or else its weights in torch."""
    if checkpoint.with_suffix(".onnx").exists():
        return open_onnx(checkpoint)
    from lab.export import TorchNetwork

    return TorchNetwork.load(checkpoint)


def export(checkpoint: str | None, overwrite: bool) -> Path:
    from lab.export import export_checkpoint

    return export_checkpoint(checkpoint, overwrite)


if __name__ == "__main__":
    sys.exit(main(load_network=load_network, export=export))
