"""HOG + SVM: the same answers as scikit-learn's SVC, from buffers that a file can hold.

Everything is drawn on the spot; where FER2013_DATA names that folder, a few hundred real faces
are tried too.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from expression.checkpoint import load_checkpoint
from lab import models
from lab.export import save_network
from lab.models.hog_svm import HogSvm, bars, hog

Split = tuple[Tensor, Tensor]


def muddled(count: int, seed: int, num_classes: int = 3) -> Split:
    """Bars in heavy noise, a fifth of the labels wrong: many support vectors, close votes."""
    images, labels = bars(count, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    drawn = torch.randint(0, num_classes, (count,), generator=generator)
    wrong = torch.rand(count, generator=generator) < 0.2
    noise = 0.5 * torch.randn(images.shape, generator=generator)
    return images + noise, torch.where(wrong, drawn, labels % num_classes)


@pytest.fixture(scope="module")
def train() -> Split:
    return muddled(150, 0)


@pytest.fixture(scope="module")
def validation() -> Split:
    return muddled(90, 1)


@pytest.fixture(scope="module")
def fitted(train: Split, validation: Split) -> HogSvm:
    return HogSvm(num_classes=3).fit(*train, calibrate=validation)


def by_sklearn(train: Split, components: int = 0, **settings: object) -> Callable[[Tensor], tuple]:
    """scikit-learn's own pipeline: images → (decision values, predictions)."""
    steps = [StandardScaler()] + ([PCA(components, random_state=0)] if components else [])
    machine: Pipeline = make_pipeline(*steps, SVC(**{"C": 10, "break_ties": True, **settings}))
    machine.fit(hog(train[0]).double().numpy(), train[1].numpy())

    def answer(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        features = hog(images).double().numpy()
        return machine.decision_function(features), machine.predict(features)

    return answer


# --- the same answers as scikit-learn ---


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"components": 20},
        {"class_weight": "balanced", "C": 0.5},
        {"gamma": 0.002},
        {"gamma": "auto"},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_classes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_answers_are_those_of_sklearn(num_classes: int, settings: dict) -> None:
    # A pair with the wrong sign, or LIBSVM's coefficient rows in the wrong order, still learns.
    images, labels = muddled(140, 0, num_classes)
    keep = (labels == 0) | (torch.arange(140) % 2 == 0)  # uneven, or no weight would matter
    train, faces = (images[keep], labels[keep]), muddled(50, 1, num_classes)
    model = HogSvm(num_classes=num_classes).fit(*train, calibrate=faces, **settings)
    values, labels = by_sklearn(train, **settings)(faces[0])
    np.testing.assert_allclose(model.decision(model.hog(faces[0])).numpy(), values, atol=1e-4)
    logits = model(faces[0])
    assert logits.shape == (50, num_classes)
    assert (logits.argmax(1).numpy() == labels).all()
    if num_classes == 2:  # one value d for each face: positive is the second class
        torch.testing.assert_close(logits[:, 1] - logits[:, 0], 2 * logits[:, 1])


def test_a_black_border_is_no_number_divided_by_zero(train: Split, validation: Split) -> None:
    # Aligned faces often have one: features that are 0 in all faces have no std.
    framed = torch.nn.functional.pad(train[0][:60, :, 20:28, 20:28], [20] * 4)
    model = HogSvm(num_classes=3).fit(framed, train[1][:60])
    assert model(validation[0][:5]).isfinite().all()


def test_ties_between_votes_are_broken_by_confidence() -> None:
    # a beats b, b beats c, c beats a: one vote each, and argmax would always say a.
    from lab.models.hog_svm import one_vs_rest

    pairs = torch.tensor([[0.1, -5.0, 0.2]])  # a-b, a-c, b-c
    values = one_vs_rest(pairs, 3)
    assert values.floor().clamp(min=0).tolist() == [[0, 1, 1]] and values.argmax() == 2


def test_many_faces_get_the_answers_of_one(fitted: HogSvm, validation: Split) -> None:
    # Faces meet the support vectors in chunks; a wrong chunk shows only in a large batch.
    few = validation[0][:7]
    many = fitted(few.repeat(75, 1, 1, 1))
    torch.testing.assert_close(many[-7:], fitted(few))
    torch.testing.assert_close(many[:1], fitted(few[:1]))


# --- probabilities ---


def test_calibration_scales_and_decides_nothing(fitted: HogSvm, validation: Split) -> None:
    # Votes 0, 1, 2 are no probabilities: their softmax is too timid or too sure.
    features = fitted.hog(validation[0])
    values = fitted.decision(features)
    torch.testing.assert_close(fitted(validation[0]), fitted.scale * values)

    def loss(scale: float) -> float:
        return torch.nn.functional.cross_entropy(scale * values, validation[1]).item()

    best = fitted.scale.item()
    assert loss(best) < min(loss(best * 1.1), loss(best / 1.1))
    assert abs(best - 1) > 0.05, "scale 1 is where it started: nothing was fitted"


def test_without_calibration_faces_a_tenth_is_held_out(train: Split) -> None:
    # Scaled on the faces it was fitted to, which it knows by heart, a machine is too sure.
    model, again = (HogSvm(num_classes=3).fit(*train, seed=3) for _ in range(2))
    own = model.best_scale(model.hog(train[0]), train[1])
    assert model.scale.item() < own / 2
    torch.testing.assert_close(dict(model.state_dict()), dict(again.state_dict()))
    # and the machine itself is fitted to all of them
    other = HogSvm(num_classes=3).fit(*train, calibrate=train)
    torch.testing.assert_close(model.vectors, other.vectors)


# --- what a file holds ---


@pytest.mark.parametrize("components", [0, 24])
def test_a_saved_machine_answers_the_same(
    components: int, train: Split, validation: Split, tmp_path: Path, card
) -> None:
    # The number of support vectors is known only after fitting; an empty module must fit them.
    model = HogSvm(num_classes=3).fit(*train, components=components, calibrate=validation)
    empty = HogSvm(num_classes=3, **model.arguments())
    with pytest.raises(RuntimeError, match="not fitted"):
        empty(validation[0])
    whole, _ = load_checkpoint(save_network(tmp_path / "svm.safetensors", model, card, False))
    empty.load_state_dict(models.as_tensors(whole))
    assert torch.equal(empty(validation[0]), model(validation[0]))

    # Half precision: 2 ** -11 of each number; a tiny gamma of its own would be lost.
    path = save_network(tmp_path / "half.safetensors", model, card)
    halved, _ = load_checkpoint(path)
    empty.load_state_dict(models.as_tensors(halved))
    logits, before = empty(validation[0]), model(validation[0])
    assert (logits.argmax(1) == before.argmax(1)).float().mean() >= 0.98
    assert (logits.softmax(1) - before.softmax(1)).abs().median() < 0.01
    assert model.count() == sum(t.size for n, t in whole.items() if n != "counts")


def test_half_precision_keeps_a_tiny_gamma(train: Split, validation: Split) -> None:
    # 1e-8 is zero in half precision: as a buffer it would make all faces alike.
    model = HogSvm(num_classes=3).fit(*train, gamma=1e-8, C=1e4, calibrate=validation)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    for name, tensor in before.items():
        halved = tensor.half() if tensor.is_floating_point() else tensor
        assert halved.isfinite().all(), f"{name} overflows"
    assert (before["spread"].half() > 0).all()


# --- a module like the others ---


def test_modes_and_gradients_change_nothing(fitted: HogSvm, validation: Split) -> None:
    expected = fitted.eval()(validation[0])
    with torch.inference_mode():
        assert torch.equal(fitted.train()(validation[0]), expected)
    assert not expected.requires_grad and not list(fitted.parameters())


def test_brightness_and_contrast_change_no_answer(fitted: HogSvm, validation: Split) -> None:
    # The card's mean and std are affine; were HOG to feel them, each card needed its own fit.
    other = fitted(validation[0] * 0.25 + 0.5)
    torch.testing.assert_close(other, fitted(validation[0]), atol=1e-3, rtol=0)


def test_every_block_has_length_one() -> None:
    # Another normalisation learns too, but its figures are not those of Dalal and Triggs.
    blocks = hog(bars(5, 0)[0]).view(-1, 2 * 2 * 9)
    torch.testing.assert_close(blocks.norm(dim=1), torch.ones(5 * 25), atol=1e-3, rtol=0)
    assert blocks.max() > 0.2, "Hys clips at 0.2, then makes the length 1 again"


def test_gray_in_three_channels_is_gray(fitted: HogSvm, validation: Split) -> None:
    torch.testing.assert_close(hog(validation[0].expand(-1, 3, -1, -1)), hog(validation[0]))
    model = HogSvm(3, num_classes=3, **fitted.arguments())
    model.load_state_dict(fitted.state_dict())
    torch.testing.assert_close(model(validation[0].expand(-1, 3, -1, -1)), fitted(validation[0]))


@pytest.mark.parametrize("settings", [{}, {"cell": 6}, {"size": 64, "block": 3}, {"cell": 7}])
def test_the_number_of_features_is_known_beforehand(settings: dict) -> None:
    # An empty module is built from it; skimage says it only after the first picture.
    model = HogSvm(**settings)
    assert model.hog(torch.rand(2, 1, model.size, model.size)).shape == (2, model.features)


# --- what is refused ---


def test_pictures_that_do_not_fit_are_refused(fitted: HogSvm) -> None:
    for shape in [(2, 3, 48, 48), (2, 1, 32, 48), (1, 48, 48)]:
        with pytest.raises(ValueError, match=r"expected \(N, 1, 48, 48\)"):
            fitted(torch.zeros(shape))
    with pytest.raises(ValueError, match="no block"):
        hog(torch.zeros(1, 1, 12, 48))
    with pytest.raises(RuntimeError, match="not fitted"):
        HogSvm()(torch.zeros(1, 1, 48, 48))


def test_labels_that_do_not_fit_are_refused(train: Split) -> None:
    # SVC would take labels 1, 2, 3 and answer 0, 1, 2: every class one off.
    images, labels = train
    with pytest.raises(ValueError, match="row 2: label 3 is outside 0 to 2"):
        HogSvm(num_classes=3).fit(images, labels + 1)
    with pytest.raises(ValueError, match="150 images, but labels"):
        HogSvm(num_classes=3).fit(images, labels[1:])
    with pytest.raises(ValueError, match=r"no training face of class \[3\]"):
        HogSvm(num_classes=4).fit(images, labels)
    with pytest.raises(ValueError, match="calibrate"):
        HogSvm(num_classes=3).fit(images[:3], torch.arange(3))


@pytest.mark.parametrize(
    "wrong",
    [{"num_classes": 1}, {"size": 8}, {"cell": 0}, {"support": -1}, {"components": 901}],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        HogSvm(**wrong)


def test_more_components_than_faces_are_refused(train: Split) -> None:
    with pytest.raises(ValueError, match="200 components"):
        HogSvm(num_classes=3).fit(*train, components=200)


# --- real faces ---


@pytest.mark.slow
def test_real_faces_beat_the_majority(fer2013_folder: Path) -> None:
    from expression.preprocessing import Preprocess
    from hf_collate import Collate
    from lab import datasets

    splits = datasets.load(fer2013_folder)
    collate = Collate(Preprocess(48, "L"))
    train, validation = (
        collate([splits[name][row] for row in range(count)])
        for name, count in (("train", 600), ("validation", 300))
    )
    model = HogSvm().fit(*train, components=64, calibrate=validation)
    values, labels = by_sklearn(train, 64)(validation[0])
    preds = model(validation[0]).argmax(1)
    np.testing.assert_allclose(model.decision(model.hog(validation[0])), values, atol=1e-4)
    assert (preds.numpy() == labels).all()
    majority = validation[1].bincount().max().item()
    assert (preds == validation[1]).sum().item() > majority + 10
