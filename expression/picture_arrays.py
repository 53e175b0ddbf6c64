"""NumPy arrays and torch tensors → PIL pictures, one or several.

Why: OpenCV gives blue first and the channels last, torch red first and the channels first, and
neither says so. Each is read as its library means it; what fits neither is refused in one sentence.
Needs no torch: a tensor is known by its methods.
"""

from typing import Any

import numpy as np
from PIL import Image

from expression.preprocessing import to_8_bit, value_range

__all__ = ["from_array", "from_tensor", "is_tensor", "split_array", "split_tensor"]

ARRAYS = "uint8 (H, W) gray, (H, W, 3) BGR or (H, W, 4) BGRA"
TENSORS = "uint8, or floats in [0, 1], of shape (3, H, W) RGB, (4, H, W) RGBA, (1, H, W) or (H, W)"
INTEGERS = (np.uint16, np.int16, np.uint32, np.int32)  # pictures with more than 8 bits


def told(array: Any) -> str:
    return f"shape {tuple(array.shape)} and dtype {array.dtype}"


def from_array(array: np.ndarray, name: str = "the array") -> Image.Image:
    """OpenCV's (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA → PIL picture.

    uint8, or integers of 16 or 32 bits, which are scaled by `value_range`.
    """
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    channels = shape[2] if len(shape) == 3 else None
    known = len(shape) == 2 or channels in (3, 4)
    if array.dtype not in (np.uint8, *INTEGERS) or not known or not array.size:
        raise ValueError(f"{name} has {told(array)}; give {ARRAYS}")
    if array.dtype != np.uint8:
        array = to_8_bit(array, *value_range([array]))
    order: Any = {None: ..., 3: np.s_[..., ::-1], 4: np.s_[..., [2, 1, 0, 3]]}[channels]
    return Image.fromarray(np.ascontiguousarray(array.reshape(shape)[order]))


def split_array(array: np.ndarray) -> list[np.ndarray]:
    """A batch (N, H, W) or (N, H, W, channels) → its pictures; ValueError for one picture."""
    if array.dtype == object and array.ndim == 1:  # pictures of different sizes
        return list(array)
    if array.ndim == 4 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        return list(array)
    raise ValueError(
        f"the array has {told(array)}, which is one picture or none; give several, as a list or "
        "(N, H, W, 3)"
    )


def is_tensor(value: object) -> bool:
    """Whether this is a torch tensor."""
    return all(hasattr(value, name) for name in ("detach", "cpu", "is_floating_point"))


def from_tensor(tensor: Any, name: str = "the tensor") -> Image.Image:
    """torch's (3, H, W) RGB, (4, H, W) RGBA, (1, H, W) or (H, W), uint8 or floats in [0, 1]."""
    channels = tensor.shape[0] if tensor.ndim == 3 else 1
    floats = tensor.is_floating_point()
    whole = str(tensor.dtype) == "torch.uint8"
    if tensor.ndim not in (2, 3) or channels not in (1, 3, 4) or not tensor.numel():
        raise ValueError(f"{name} has {told(tensor)}; give {TENSORS}")
    if not (floats or whole):
        raise ValueError(f"{name} has {told(tensor)}; give {TENSORS}")
    pixels = tensor.detach().cpu()
    pixels = (pixels.float() if floats else pixels).numpy()
    if floats:
        lowest, highest = pixels.min(), pixels.max()
        if not (lowest >= -1e-3 and highest <= 1 + 1e-3):  # also where a value is no number
            raise ValueError(
                f"{name} has values from {lowest:.3g} to {highest:.3g}; give {TENSORS}, not "
                "normalised by mean and std"
            )
        pixels = to_8_bit(pixels, 0, 1)
    if channels == 1:
        return Image.fromarray(np.ascontiguousarray(pixels.reshape(pixels.shape[-2:])))
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def split_tensor(tensor: Any) -> list[Any]:
    """A batch (N, channels, H, W) → its pictures; ValueError for one picture."""
    if tensor.ndim == 4:
        return list(tensor)
    raise ValueError(
        f"the tensor has {told(tensor)}, which is one picture or none; give several, as a list or "
        "(N, 3, H, W)"
    )
