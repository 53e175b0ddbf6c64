"""What happens when a checkpoint without an .onnx file is used for the first time.

Why: whoever trained a network wants to use it, and not to learn what an export is. It takes some
seconds once; the next program that opens the checkpoint starts without torch.
Asked by `expression.networks.open_network`.
"""

import sys
from pathlib import Path

from expression.checkpoint import load_checkpoint
from expression.kept_files import mark_whole
from expression.networks import Network
from expression.onnx_network import OnnxNetwork
from lab.export import TorchNetwork, export_onnx

__all__ = ["export_or_torch"]


def export_or_torch(checkpoint: Path, path: Path) -> Network:
    """The checkpoint's network, exported to `path`; through torch where that cannot be done.

    One line on standard error says which. Raises as `TorchNetwork.load`, when the weights do not
    fit the card.
    """
    network = TorchNetwork.load(checkpoint)
    try:
        export_onnx(network.model, load_checkpoint(checkpoint)[1], path)
        mark_whole(path)
    except (ImportError, OSError, ValueError) as error:
        print(f"{checkpoint.name} answers through torch: {error}", file=sys.stderr)
        return network
    print(f"exported {checkpoint.name}, this once, to {path}", file=sys.stderr)
    return OnnxNetwork(path)
