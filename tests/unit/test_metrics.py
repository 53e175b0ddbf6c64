"""Metrics, figures and cards against what they should say."""

import json

import matplotlib.pyplot as plt
import pytest
import torch

from lab import metrics, model_card, plots

NAMES = ("happy", "neutral", "sad")


@pytest.fixture
def evaluation():
    # happy: 3 of 4 right; neutral: 1 of 2; sad: 0 of 1, and nobody is called sad
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    preds = torch.tensor([0, 0, 0, 1, 1, 0, 0])
    return metrics.evaluate(5.0 * torch.eye(3)[preds], labels, NAMES)


def test_counts_and_shares_by_hand(evaluation):
    assert (evaluation.k, evaluation.n, evaluation.accuracy) == (4, 7, 4 / 7)
    assert evaluation.majority == 4 / 7
    assert evaluation.confusion.tolist() == [[3, 1, 0], [1, 1, 0], [1, 0, 0]]
    figures = evaluation.per_class()
    assert figures["happy"] == {"precision": 3 / 5, "recall": 3 / 4, "f1": 6 / 9, "support": 4}
    assert figures["sad"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert evaluation.macro_f1 == pytest.approx((6 / 9 + 2 / 4 + 0) / 3)
    json.dumps(evaluation.as_dict())


def test_wilson_interval_stays_inside_and_matches_published_values():
    # The normal approximation says 0 ± 0 for 0/10; Wilson does not
    assert metrics.wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert metrics.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    low, high = metrics.wilson(2620, 3589)
    assert (high - low) / 2 == pytest.approx(0.0145, abs=2e-4)
    with pytest.raises(ValueError, match="no share"):
        metrics.wilson(3, 2)


@pytest.mark.parametrize("views", [2, 18])
def test_mirror_images_are_averaged_and_the_model_is_left_in_eval(views):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    images = torch.rand(3, 1, 2, 2)
    plain, _ = metrics.collect(model, [(images, torch.zeros(3))], views=views)
    mirrored, _ = metrics.collect(model, [(images.flip(-1), torch.zeros(3))], views=views)
    assert torch.allclose(plain, mirrored, atol=1e-6) and not model.training


def test_eighteen_views_are_the_picture_at_nine_places_and_mirrored():
    images = torch.rand(2, 1, 48, 48)
    views = list(metrics.seen(images, 18))
    assert len(views) == 18 and all(view.shape == images.shape for view in views)
    assert sum(torch.equal(view, images) for view in views) == 1
    assert sum(torch.equal(view, images.flip(-1)) for view in views) == 1
    moved = views[0]  # down and to the right by two pixels of 48, its first row and column repeated
    assert torch.equal(moved[..., 2:, 2:], images[..., :-2, :-2])
    assert torch.equal(moved[..., 0, 2:], images[..., 0, :-2])
    assert [torch.equal(view, images) for view in metrics.seen(images, 1)] == [True]
    with pytest.raises(ValueError, match="views is 10"):
        next(metrics.seen(images, 10))


def test_paired_gain_is_smaller_in_error_than_unpaired_runs():
    assert metrics.paired_gain([0.1, 0.5, 0.9], [0.2, 0.6, 1.0]) == pytest.approx(
        (0.1, 0), abs=1e-9
    )
    with pytest.raises(ValueError):
        metrics.paired_gain([0.1], [0.2, 0.3])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit together"):
        metrics.evaluate(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), NAMES)
    with pytest.raises(ValueError, match="do not fit together"):
        metrics.evaluate(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), NAMES)


def test_figures_have_labels_a_baseline_and_a_caption(evaluation):
    history = {f"{s}_{k}": [1.0, 0.5] for s in ("train", "val") for k in ("loss", "accuracy")}
    for figure, words in (
        (
            plots.curves({"": history}, "the point", chance=1 / 3, guess_loss=1.1),
            {"epoch", "accuracy", "loss (nats per face)"},
        ),
        (plots.runs({"a": [0.1, 0.2], "b": [0.3]}, "the point", ylabel="accuracy"), {"accuracy"}),
        (plots.confusion(evaluation.confusion, NAMES, "the point"), {"predicted", "labelled"}),
    ):
        labels = {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel())}
        assert words <= labels and figure.get_supxlabel() == "the point"
        plt.close(figure)


def test_a_normalised_tensor_can_be_looked_at_again():
    x = torch.linspace(0, 1, 12).view(3, 2, 2)
    picture = plots.as_picture((x - 0.5) / 0.25, (0.5,), (0.25,))
    assert picture.shape == (2, 2, 3) and picture.max() == 255 and picture.min() == 0


def test_card_says_data_figures_and_limits():
    card = {
        "system": "tinyvgg",
        "class_names": list(NAMES),
        "validation": {"k": 31, "n": 45},
        "data": {"name": "photos", "fingerprint": "abc"},
        "crop": "tight",
        "preprocess": {
            "size": 64,
            "mode": "L",
            "channels": 1,
            "resize": "squash",
            "mean": [0.5],
            "std": [0.25],
        },
    }
    text = model_card.markdown(card, "tinyvgg-photos")
    for part in (
        "trained on photos",
        "31/45 = 68.9 %",
        "happy, neutral, sad",
        "abc",
        "64 × 64",
        model_card.LIMITS,
    ):
        assert part in text


def test_every_figure_is_scikit_learns():
    from sklearn import metrics as theirs

    torch.manual_seed(0)
    labels = torch.randint(0, 5, (400,))
    logits = torch.randn(400, 5) + 1.2 * torch.nn.functional.one_hot(labels, 5)
    logits[:, 4] = -9  # a class that is never named: precision 0, not an error
    ours = metrics.evaluate(logits, labels, list("abcde"))
    preds = logits.argmax(1)
    assert ours.confusion.tolist() == theirs.confusion_matrix(labels, preds).tolist()
    assert ours.accuracy == theirs.accuracy_score(labels, preds)
    options = {"average": None, "zero_division": 0}
    each = theirs.precision_recall_fscore_support(labels, preds, **options)
    for figures, expected in zip(ours.per_class().values(), zip(*each, strict=True), strict=True):
        assert tuple(figures.values()) == pytest.approx(expected)
    macro = theirs.f1_score(labels, preds, average="macro", zero_division=0)
    assert ours.macro_f1 == pytest.approx(macro)
    assert ours.loss == pytest.approx(theirs.log_loss(labels, logits.double().softmax(1)), rel=1e-5)
