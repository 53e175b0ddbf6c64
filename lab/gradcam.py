"""Where a network looks: Grad-CAM of any spatial layer, attention maps, and pictures of both.

Why: a right answer for a wrong reason (the background, a watermark) shows in no accuracy.
Grad-CAM weights the channels of a late layer by the gradient of one class and keeps the evidence
for it. It shows coarsely where that evidence is; it does not show that the evidence is sound, and
the map of a wrong answer looks just as convincing. A channel has one weight for all places, so it
shows what a class looks like; for a class that is a place ("left") it may mislead.
Source: Grad-CAM (Selvaraju et al. 2017), attention rollout (Abnar & Zuidema 2020), both
written for this project from the papers; the tests compare with the package `grad-cam`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = ["attention_maps", "grad_cam", "last_layer", "overlay"]

COLOURS = "inferno"  # brightness rises with the value, also in gray and for the colour-blind


@contextmanager
def hooked(
    model: nn.Module, modules: Mapping[str, nn.Module], hook: Callable[[str, Any], Any]
) -> Iterator[None]:
    """Evaluation mode with `hook(name, output)` after each module; restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    handles = [
        module.register_forward_hook(lambda _module, _args, output, name=name: hook(name, output))
        for name, module in modules.items()
    ]
    model.eval()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training


def prepare(model: nn.Module, images: Tensor) -> Tensor:
    """The images on the model's device; ValueError unless they are (N, C, H, W), N ≥ 1."""
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; expected (N, C, H, W), N ≥ 1")
    weights = next(model.parameters(), images)
    return images.detach().to(weights.device).clone()  # a clone is no inference tensor


def as_map(output: Any, images: Tensor) -> Tensor | None:
    """A layer's output as (N, C, h, w) with more than one place; None when it is no such map.

    Tokens (N, 1 + h·w, C), or without the class token (N, h·w, C), are reshaped into a map.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or len(output) != len(images):
        return None
    height, width = images.shape[2:]
    if output.ndim == 3:
        for first in (0, 1):
            places = output.shape[1] - first
            h = round(math.sqrt(places * height / width))
            if h and places % h == 0 and h * width == places // h * height:
                output = output[:, first:].mT.unflatten(2, (h, places // h))
                break
    if output.ndim != 4 or output.shape[2:].numel() == 1:
        return None
    h, w = output.shape[2:]
    # Another aspect ratio than the picture's (up to rounding): channels last, or not places at all
    return output if abs(h * width - w * height) < 2 * max(height, width) else None


@torch.no_grad()
def spatial_layers(model: nn.Module, images: Tensor, smallest: int = 1) -> list[str]:
    """Names of the layers with a spatial map, in the order in which they finish.

    These are 4-d outputs from the first convolution on, channels first, and a transformer's
    `norm1`. Left out are maps with a side below `smallest` and the layers inside an attention
    module, whose outputs (heads, tokens, …) are 4-d, but no maps.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    inside = tuple(f"{name}." for name, module in modules.items() if hasattr(module, "num_heads"))
    found: dict[str, None] = {}
    convolved = False

    def look(name: str, output: Any) -> None:
        nonlocal convolved
        convolved |= isinstance(modules[name], nn.Conv2d)
        fits = name.split(".")[-1] == "norm1" or (convolved and getattr(output, "ndim", 0) == 4)
        if not fits or name.startswith(inside):
            return
        places = as_map(output, images)
        if places is not None and min(places.shape[2:]) >= smallest:
            found.pop(name, None)  # used twice: the last time counts
            found[name] = None

    with hooked(model, modules, look):
        model(images)
    return list(found)


def last_layer(model: nn.Module, images: Tensor, smallest: int = 1) -> str:
    """Name of Grad-CAM's default layer: the last one with a spatial map.

    That is the last output (N, C, h, w) with h·w > 1 in the order of the forward pass, or a
    transformer's last `norm1` (after it only the class token reaches the answer). `smallest` is the
    least side of the map: the last one of a small picture can be as coarse as 2 × 2.
    Raises ValueError when there is none, as in an SVM.
    """
    names = spatial_layers(model, prepare(model, images)[:1], smallest)
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no layer with a spatial map (convolution or transformer "
            "tokens); Grad-CAM needs one"
        )
    return names[-1]


def layer_choices(model: nn.Module, images: Tensor) -> str:
    names = spatial_layers(model, images[:1])
    return f"layers with a spatial map: {', '.join(names) or 'none'}"


def chosen_layer(
    model: nn.Module, images: Tensor, layer: nn.Module | str | None
) -> tuple[str, nn.Module]:
    if layer is None:
        layer = last_layer(model, images)
    for name, module in model.named_modules():
        if module is layer or name == layer:
            return name, module
    shown = repr(layer) if isinstance(layer, str) else f"{type(layer).__name__}(…)"
    raise ValueError(f"no layer {shown} in {type(model).__name__}; {layer_choices(model, images)}")


def chosen_classes(logits: Tensor, classes: int | Sequence[int] | Tensor | None) -> Tensor:
    """Classes (N,) int64 on the logits' device."""
    n, num_classes = logits.shape
    if classes is None:
        return logits.argmax(dim=1)
    targets = torch.as_tensor(classes, device=logits.device)
    targets = targets.expand(n) if targets.ndim == 0 else targets
    if targets.shape != (n,) or targets.is_floating_point():
        kind = f"{targets.dtype} {tuple(targets.shape)}"
        raise ValueError(f"classes are {kind}; expected ints ({n},)")
    outside = (targets < 0) | (targets >= num_classes)
    if outside.any():
        row = int(outside.int().argmax())
        raise ValueError(
            f"class {targets[row].item()} for picture {row}, "
            f"but the model has classes 0 to {num_classes - 1}"
        )
    return targets.long()


def grad_cam(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module | str | None = None,
    classes: int | Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Normalised images (N, C, H, W) → maps (N, H, W) in [0, 1], on the CPU.

    1 is the strongest evidence for the class within its picture, 0 none: values of two pictures
    cannot be compared, and a map is all 0 where there is no evidence for the class. `layer` is a
    module or its dotted name (None: `last_layer`), `classes` one class or one for each picture
    (None: the predicted ones). Runs in evaluation mode, also on frozen models and under `no_grad`;
    the model's state is restored. Raises ValueError for a layer that is missing or has no spatial
    map, and for a class the model does not have.
    """
    with torch.inference_mode(False), torch.enable_grad():
        images = prepare(model, images)
        name, module = chosen_layer(model, images, layer)
        leaf: Tensor | None = None

        def restart(_name: str, output: Any) -> Tensor | None:
            """Start the gradient here, so that frozen and earlier layers need none."""
            nonlocal leaf
            if as_map(output, images) is None:
                return None
            leaf = output.detach().requires_grad_()
            return leaf.clone()  # an in-place ReLU may change the clone, not the leaf

        with hooked(model, {name: module}, restart):
            logits = model(images)
        if leaf is None:
            raise ValueError(f"layer {name!r} gives no spatial map; {layer_choices(model, images)}")
        scores = logits.gather(1, chosen_classes(logits, classes)[:, None])
        # In evaluation mode pictures of a batch are independent: one gradient serves them all
        total = scores.sum()
        gradients: Tensor | None = None
        if total.requires_grad:
            (gradients,) = torch.autograd.grad(total, leaf, allow_unused=True)
    if gradients is None:
        raise ValueError(f"no gradient leads from the answer of {type(model).__name__} to {name!r}")
    values, gradients = as_map(leaf.detach(), images), as_map(gradients, images)
    assert values is not None and gradients is not None  # `restart` took this output for a map
    values, gradients = values.float(), gradients.float()
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    cams = (weights * values).sum(dim=1, keepdim=True).relu()
    cams = interpolate(cams, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    top = cams.amax(dim=(1, 2), keepdim=True)
    return torch.where(top > 0, cams / top, 0.0).cpu()


@torch.no_grad()
def attention_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The attention of one forward pass by module name, (N, h, w) each, not rescaled.

    Two kinds are known; a model with neither gives an empty dict. A module with an attribute
    `attention` that holds its last map (N, 1, h, w) or (N, h, w); where it also has `keep`, that is
    set to True for the pass. And timm's ViT under the name "rollout": what share of the class token
    comes from each patch through all blocks, heads averaged, half of each block for the skip
    connection.
    """
    modules = dict(model.named_modules())
    keeping = [m for m in modules.values() if hasattr(m, "keep") and hasattr(m, "attention")]
    before = [(module, module.keep, module.attention) for module in keeping]
    parts = ("qkv", "q_norm", "k_norm", "num_heads", "scale")
    blocks = [m for m in modules.values() if all(hasattr(m, part) for part in parts)]
    kept: dict[str, Tensor] = {}
    modules_to_hook = {f"{i}.q": m.q_norm for i, m in enumerate(blocks)}
    modules_to_hook |= {f"{i}.k": m.k_norm for i, m in enumerate(blocks)}
    images = prepare(model, images)
    try:
        for module in keeping:
            module.keep = True
        with hooked(model, modules_to_hook, kept.__setitem__):
            model(images)
        found = {name: getattr(module, "attention", None) for name, module in modules.items()}
        maps = {
            name: value.detach().float().cpu().reshape(len(value), *value.shape[-2:])
            for name, value in found.items()
            if isinstance(value, Tensor) and value.ndim in (3, 4) and len(value) == len(images)
            if value.ndim == 3 or value.shape[1] == 1
        }
    finally:
        for module, keep, attention in before:
            module.keep, module.attention = keep, attention
    if kept:
        attentions = [  # (N, heads, tokens, tokens), from the first block to the last
            (kept[f"{i}.q"] @ kept[f"{i}.k"].mT * block.scale).softmax(dim=-1)
            for i, block in enumerate(blocks)
        ]
        shares = rollout(attentions)
        patches = as_map(shares[..., None], images)  # (N, 1, h, w)
        if patches is not None and patches[0].numel() == shares.shape[1] - 1:  # a class token
            maps["rollout"] = patches[:, 0].float().cpu()
    return maps


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """Attentions (N, heads, T, T), first block first → shares (N, T) in the first token."""
    joint = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    for attention in attentions:
        joint = (attention.mean(dim=1) @ joint + joint) / 2  # half is the skip connection
    return joint[:, 0]


def overlay(image: np.ndarray, cam: Any, alpha: float = 0.45) -> np.ndarray:
    """A map over its picture: uint8 (H, W) or (H, W, 3) → uint8 (H, W, 3).

    `cam` (h, w), no value below 0, is enlarged smoothly; its largest value gets the brightest
    colour, blended with weight `alpha` (0 to 1). Raises ValueError on other shapes or values.
    """
    picture = np.asarray(image)
    values = torch.as_tensor(cam, dtype=torch.float32).cpu()
    shaped = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if picture.dtype != np.uint8 or not shaped:
        raise ValueError(
            f"image is {picture.dtype} {picture.shape}; expected uint8 (H, W) or (H, W, 3)"
        )
    if values.ndim != 2 or not bool((values >= 0).all()):
        raise ValueError(f"cam is {tuple(values.shape)}; expected (h, w), numbers from 0 up")
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    values = interpolate(values[None, None], picture.shape[:2], mode="bicubic")[0, 0].clamp(min=0)
    values = (values / values.max().clamp(min=1e-12)).numpy()
    heat = 255 * matplotlib.colormaps[COLOURS](values)[..., :3]
    return ((1 - alpha) * colour + alpha * heat).round().astype(np.uint8)
