"""HOG and a support vector machine: the classical baseline of facial expression recognition.

Why: a network should be compared with what hand-made features reach. The fitted SVM is a torch
module whose numbers are all buffers: it is saved as safetensors and served like every network, and
loading it runs no code (loading a pickle would).
Source: HOG (Dalal & Triggs 2005) from scikit-image; SVC and its one-vs-one votes as in
scikit-learn, which wraps LIBSVM (Chang & Lin 2011); written for this project.
Needs torch, numpy, tqdm, scikit-image and, for fitting only, scikit-learn; copy freely
(MIT, see LICENSE).

    python hog_svm.py       # fits on drawn bars
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

__all__ = ["HogSvm", "hog"]

CHUNK = 512  # faces compared with all support vectors at once, to limit memory
SCALES = torch.logspace(-2, 2, 801)  # of the logits, tried in calibration; steps of 1.2 %


def hog(
    images: Tensor, orientations: int = 9, cell: int = 8, block: int = 2, progress: bool = False
) -> Tensor:
    """Images (N, C, H, W) float → histograms of oriented gradients (N, F) float32, on the CPU.

    F = (H // cell - block + 1) (W // cell - block + 1) block² orientations. Blocks are normalised
    by L2-Hys, so brightness and contrast (and normalisation by mean and std) hardly matter. With
    several channels, each pixel uses the one with the largest gradient. Raises ValueError for
    another shape, or a picture smaller than one block.
    """
    from skimage.feature import hog as skimage_hog  # slow to import: only where it is used

    if images.ndim != 4:
        raise ValueError(f"images are {tuple(images.shape)}; expected (N, C, H, W)")
    height, width = images.shape[2] // cell - block + 1, images.shape[3] // cell - block + 1
    if height < 1 or width < 1:
        raise ValueError(
            f"pictures of {images.shape[3]} × {images.shape[2]} pixels hold no block of "
            f"{block} × {block} cells of {cell} pixels; make cell or block smaller"
        )
    features = np.empty((len(images), height * width * block**2 * orientations), np.float32)
    pixels = images.detach().float().cpu().numpy()
    for row, image in enumerate(tqdm(pixels, "HOG", disable=not progress, leave=False)):
        several = len(image) > 1
        features[row] = skimage_hog(
            image if several else image[0],
            orientations,
            (cell, cell),
            (block, block),
            block_norm="L2-Hys",
            channel_axis=0 if several else None,
        )
    return torch.from_numpy(features)


class HogSvm(nn.Module):
    """Images (N, in_channels, size, size) → logits (N, num_classes), by HOG and an RBF SVM.

    Logits are `scale` × scikit-learn's one-vs-rest decision values (votes of the pairs of classes
    plus their confidences scaled below a vote), for two classes (-d, d): their argmax is
    `SVC.predict`, their softmax the probabilities. Images may be normalised or not (see `hog`).
    Nothing is trained by gradient descent, and train() and eval() change nothing; HOG always runs
    on the CPU.

    `fit` sets the numbers. To load them, build the module from `arguments()` of the fitted one: the
    numbers of `support` vectors and of PCA `components` (0: no PCA) give the shapes. Raises
    ValueError for settings that do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 7,
        size: int = 48,
        orientations: int = 9,
        cell: int = 8,
        block: int = 2,
        support: int = 0,
        components: int = 0,
    ) -> None:
        super().__init__()
        if min(in_channels, orientations, cell, block) < 1 or min(support, components) < 0:
            raise ValueError(
                f"in_channels {in_channels}, orientations {orientations}, cell {cell}, "
                f"block {block} must be 1 or more, support {support}, "
                f"components {components} not negative"
            )
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; an SVM needs 2 or more")
        side = size // cell - block + 1
        if side < 1:
            raise ValueError(f"size {size} holds no block of {block} cells of {cell} pixels")
        self.in_channels, self.num_classes, self.size = in_channels, num_classes, size
        self.orientations, self.cell, self.block = orientations, cell, block
        self.features = side**2 * block**2 * orientations
        self.shape_buffers(support, components)

    def shape_buffers(self, support: int, components: int) -> None:
        """Buffers of zeros in the shapes of a fitted SVM."""
        if components > self.features:
            raise ValueError(f"{components} components of {self.features} HOG features")
        pairs = self.num_classes * (self.num_classes - 1) // 2
        self.register_buffer("mean", torch.zeros(self.features))
        # sqrt(gamma) / std: with gamma in the features the kernel is exp(-distance²), and no
        # buffer is so small that half precision loses it.
        self.register_buffer("spread", torch.ones(self.features))
        self.register_buffer("projection", torch.zeros(self.features, components))
        self.register_buffer("vectors", torch.zeros(support, components or self.features))
        self.register_buffer("coefficients", torch.zeros(self.num_classes - 1, support))
        self.register_buffer("intercepts", torch.zeros(pairs))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("counts", torch.zeros(self.num_classes, dtype=torch.int64))

    @property
    def support(self) -> int:
        return len(self.vectors)

    @property
    def components(self) -> int:
        return self.projection.shape[1]

    def arguments(self) -> dict[str, int]:
        """The arguments, beside in_channels and num_classes, for an empty module of this shape."""
        names = ("size", "orientations", "cell", "block", "support", "components")
        return {name: getattr(self, name) for name in names}

    def count(self) -> int:
        """How many fitted numbers there are, to compare with a network's parameters."""
        return sum(b.numel() for b in self.buffers() if b.is_floating_point())

    def hog(self, images: Tensor, progress: bool = False) -> Tensor:
        """Images → HOG features (N, F) float32 on the CPU, with this module's settings."""
        expected = (self.in_channels, self.size, self.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images are {tuple(images.shape)}; expected (N, {', '.join(map(str, expected))})"
            )
        return hog(images, self.orientations, self.cell, self.block, progress)

    def embed(self, features: Tensor) -> Tensor:
        """HOG features (N, F) → the space of the support vectors: (N, components or F)."""
        x = (features.to(self.mean) - self.mean) * self.spread
        return x @ self.projection if self.components else x

    def decision(self, features: Tensor) -> Tensor:
        """HOG features (N, F) → `SVC.decision_function`: (N, num_classes), of two classes (N,).

        Raises RuntimeError before `fit` or `load_state_dict`.
        """
        if not self.support or int(self.counts.sum()) != self.support:
            raise RuntimeError("this HogSvm is not fitted; call fit(), or load_state_dict()")
        pairs = torch.cat([self.pairwise(x) for x in self.embed(features).split(CHUNK)])
        return pairs[:, 0] if self.num_classes == 2 else one_vs_rest(pairs, self.num_classes)

    def pairwise(self, x: Tensor) -> Tensor:
        """Embedded faces (n, K) → one decision for each pair of classes (n, pairs), i < j."""
        squares = (x**2).sum(1, keepdim=True) + (self.vectors**2).sum(1)
        kernel = (2 * x @ self.vectors.T - squares).clamp(max=0).exp()  # (n, support)
        sizes = self.counts.tolist()  # LIBSVM keeps the support vectors class by class
        parts = [
            k @ c.T  # (n, num_classes - 1): this class's term in each of its pairs
            for k, c in zip(kernel.split(sizes, 1), self.coefficients.split(sizes, 1), strict=True)
        ]
        i, j = torch.triu_indices(self.num_classes, self.num_classes, 1).tolist()
        sums = [parts[a][:, b - 1] + parts[b][:, a] for a, b in zip(i, j, strict=True)]
        return torch.stack(sums, dim=1) + self.intercepts

    def forward(self, images: Tensor) -> Tensor:
        values = self.decision(self.hog(images))
        if values.ndim == 1:
            values = torch.stack([-values, values], dim=1)
        return (self.scale * values).to(images.device)

    def fit(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        C: float = 10.0,
        gamma: float | str = "scale",
        class_weight: str | dict[int, float] | None = None,
        components: int | None = None,
        seed: int = 0,
        cache_mb: int = 2000,
        calibrate: tuple[Tensor, Tensor] | None = None,
        progress: bool = False,
    ) -> "HogSvm":
        """Fit to images (N, in_channels, size, size) and labels (N,) int64; returns itself.

        `C`, `gamma` ("scale", "auto" or a number) and `class_weight` are SVC's, on features with
        mean 0 and std 1, reduced to `components` by a PCA (None: as constructed, 0: no PCA).
        `calibrate` (images, labels), the validation split, sets the scale of the logits by its
        loss, which never changes an argmax. Without it a tenth of each class is held out for that,
        and then the SVM is fitted again to all faces: twice the work. `cache_mb` is the memory for
        kernel rows. Time grows with the square of the number of faces; components=128 is several
        times faster and cost no accuracy on 5,000 faces of FER2013 (best there: C=3, gamma=0.003).
        Raises ValueError for images or labels that do not fit, or a class without a face.
        """
        components = self.components if components is None else components
        labels = self.checked(labels, len(images))
        if bare := [c for c in range(self.num_classes) if not (labels == c).any()]:
            raise ValueError(f"no training face of class {bare}; give some, or lower num_classes")
        settings = {"C": C, "gamma": gamma, "class_weight": class_weight, "cache_size": cache_mb}
        features = self.hog(images, progress)
        if calibrate is None:
            held = held_out(labels, seed)
            self.fit_features(features[~held], labels[~held], components, seed, **settings)
            scale = self.best_scale(features[held], labels[held])
            self.fit_features(features, labels, components, seed, **settings)
        else:
            val_labels = self.checked(calibrate[1], len(calibrate[0]))
            val_features = self.hog(calibrate[0], progress)  # errors come before the long fit
            self.fit_features(features, labels, components, seed, **settings)
            scale = self.best_scale(val_features, val_labels)
        self.scale.fill_(scale)
        return self

    def checked(self, labels: Tensor, count: int) -> Tensor:
        """Labels on the CPU as int64; ValueError when they do not fit."""
        labels = torch.as_tensor(labels).cpu().long()
        if labels.shape != (count,) or not count:
            raise ValueError(f"{count} images, but labels {tuple(labels.shape)}")
        outside = (labels < 0) | (labels >= self.num_classes)
        if outside.any():
            row = int(outside.int().argmax())
            raise ValueError(
                f"row {row}: label {labels[row].item()} is outside 0 to {self.num_classes - 1}"
            )
        return labels

    def fit_features(
        self, features: Tensor, labels: Tensor, components: int, seed: int, **settings: Any
    ) -> None:
        """Set all buffers but `scale`, from HOG features (N, F); `settings` are SVC's."""
        from sklearn.decomposition import PCA
        from sklearn.svm import SVC

        if components > min(features.shape):
            raise ValueError(f"{components} components of {tuple(features.shape)} HOG features")
        device = self.mean.device
        x = features.double()
        mean, std = x.mean(0), x.std(0, correction=0)
        std[std < 1e-6] = 1  # a constant feature, as at an empty border
        x = (x - mean) / std
        projection = torch.zeros(x.shape[1], 0)
        if components:
            pca = PCA(components, random_state=seed).fit(x.numpy())
            projection = torch.from_numpy(pca.components_.T.copy())
            x = x @ projection.to(x)
        named = {"scale": 1 / (x.shape[1] * x.var(correction=0).item()), "auto": 1 / x.shape[1]}
        gamma = float(named.get(settings["gamma"], settings["gamma"]))
        svc = SVC(kernel="rbf", **{**settings, "gamma": 1.0})
        svc.fit((x * gamma**0.5).numpy(), labels.numpy())
        self.shape_buffers(len(svc.support_), components)
        fitted = {
            "mean": mean,
            "spread": gamma**0.5 / std,
            "projection": projection,
            "vectors": svc.support_vectors_,
            "coefficients": svc.dual_coef_,
            "intercepts": svc.intercept_,
            "counts": svc.n_support_,
            "scale": 1.0,
        }
        self.load_state_dict({name: torch.as_tensor(value) for name, value in fitted.items()})
        self.to(device)

    @torch.inference_mode()
    def best_scale(self, features: Tensor, labels: Tensor) -> float:
        """The scale of the decision values with the least loss (nats) on these faces."""
        values = self.decision(features).cpu()
        values = torch.stack([-values, values], dim=1) if values.ndim == 1 else values
        losses = [nn.functional.cross_entropy(s * values, labels) for s in SCALES]
        return SCALES[torch.stack(losses).argmin()].item()


def one_vs_rest(pairs: Tensor, num_classes: int) -> Tensor:
    """Decisions of pairs (N, pairs), positive for the first class → values (N, num_classes)."""
    order = torch.triu_indices(num_classes, num_classes, 1)  # of the pairs: (2, pairs)
    first, second = torch.eye(num_classes)[order].to(pairs)  # (pairs, num_classes) each
    votes = (pairs >= 0).to(pairs) @ first + (pairs < 0).to(pairs) @ second
    confidences = pairs @ (first - second)
    return votes + confidences / (3 * (confidences.abs() + 1))  # below 1/3: only breaks ties


def held_out(labels: Tensor, seed: int) -> Tensor:
    """A mask (N,) of a tenth of each class, at least one of two or more faces, drawn by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        held[rows[: max(len(rows) // 10, min(1, len(rows) - 1))]] = True
    if not held.any():
        raise ValueError("one face of each class leaves none to set the scale; give calibrate")
    return held


def bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (count, 1, 48, 48) of a bar in noise: 0 horizontal, 1 vertical, 2 diagonal."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    normal = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5**0.5, 0.5**0.5]])[labels]  # (count, 2)
    centre = 14 + 20 * torch.rand(count, 2, generator=generator)
    offset = torch.stack([y, x]) - centre[:, :, None, None]  # (count, 2, 48, 48)
    distance = (offset * normal[:, :, None, None]).sum(1, keepdim=True).abs()
    noise = 0.35 * torch.randn(count, 1, 48, 48, generator=generator)
    return (distance < 4).float() + noise, labels


if __name__ == "__main__":
    model = HogSvm(num_classes=3).fit(*bars(300, seed=0), components=32)
    images, labels = bars(150, seed=1)
    hits = (model(images).argmax(1) == labels).sum().item()
    print(f"horizontal, vertical or diagonal bars in noise: {hits}/150 right")
    print(f"{model.support} support vectors of 300 pictures, {model.count():,} numbers")
    print(f"a module of the same shape: HogSvm(num_classes=3, **{model.arguments()})")
