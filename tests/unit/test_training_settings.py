"""Weighted sampling, focal loss and the measured number format: each by facts computed by hand."""

import math
from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab import precision
from lab.checks import UsageError, check_recipe
from lab.heads import HeadLoss, head_targets
from lab.recipe import Recipe
from lab.recipes import RECIPES
from lab.sampling import class_sampling_weights, weighted_order

CPU = torch.device("cpu")
SKEWED = torch.tensor([0] * 80 + [1] * 16 + [2] * 4)


def shown(power: float, epoch: int = 0, seed: int = 0) -> list[int]:
    """The faces of one epoch, each by its pixel, which is its number."""
    pixels = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1)
    rule = Preprocess(1, "L", mean=(0,), std=(1,))
    loader = Batches(Decoded(pixels, SKEWED, ("a", "b", "c"), rule), 16, shuffle=True, seed=seed)
    loader.order = partial(weighted_order, class_sampling_weights(SKEWED, power))
    loader.epoch = epoch
    return [round(255 * x.item()) for images, _ in loader for x in images]


# --- weighted sampling ---


@pytest.mark.parametrize(
    ("power", "shares"),
    # 80, 16 and 4 faces, to the power of 1 - p: 80 : 16 : 4, then 8.94 : 4 : 2, then 1 : 1 : 1
    [(0.0, (0.8, 0.16, 0.04)), (0.5, (0.598, 0.268, 0.134)), (1.0, (1 / 3, 1 / 3, 1 / 3))],
)
def test_classes_are_shown_in_the_shares_that_the_power_says(
    power: float, shares: tuple[float, ...]
) -> None:
    counts = Counter(SKEWED[face].item() for epoch in range(50) for face in shown(power, epoch))
    assert counts.total() == 50 * 100  # an epoch stays as long as it was
    assert [counts[k] / 5000 for k in range(3)] == pytest.approx(shares, abs=0.005)


def test_a_face_comes_as_often_as_its_weight_says_rounded_up_or_down() -> None:
    # Independent draws would leave out 37 % of the faces even where all weigh the same.
    assert sorted(shown(0.0)) == list(range(100))
    counts = Counter(shown(1.0))
    assert {counts[face] for face in range(80)} == {0, 1}  # 33.3 / 80 = 0.42 times each
    assert {counts[face] for face in range(80, 96)} == {2, 3}  # 33.3 / 16 = 2.08
    assert {counts[face] for face in range(96, 100)} <= {8, 9}  # 33.3 / 4 = 8.33


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    # A resumed run sets the epoch and must meet the faces that an uninterrupted one meets.
    assert shown(1.0, epoch=3) == shown(1.0, epoch=3)
    assert shown(1.0, epoch=3) != shown(1.0, epoch=4)
    assert shown(1.0, epoch=3) != shown(1.0, epoch=3, seed=1)


def test_copies_of_a_face_are_spread_over_the_epoch() -> None:
    # Drawn in a row, one batch would hold nothing but copies of one rare face.
    order = shown(1.0)
    places = [k for k, face in enumerate(order) if face == 99]
    assert max(places) - min(places) > 30


def test_classes_are_not_evened_out_twice() -> None:
    both = Recipe("baseline_cnn", class_weights=True, weighted_sampling=0.5)
    with pytest.raises(UsageError, match="--weighted-sampling"):
        check_recipe(both)


# --- focal loss ---


def logits_and_targets() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(12, 7, generator=generator)
    labels = torch.randint(0, 7, (12,), generator=generator)
    return logits, labels, torch.randn(12, 7, generator=generator).softmax(1)


def test_without_gamma_the_focal_loss_is_cross_entropy() -> None:
    logits, labels, soft = logits_and_targets()
    weights = torch.arange(1.0, 8.0)
    for targets in (labels, soft):
        for smoothing in (0.0, 0.1):
            found = HeadLoss(None, smoothing)(logits, targets)
            wanted = cross_entropy(logits, targets, label_smoothing=smoothing)
            assert found.item() == pytest.approx(wanted.item(), abs=1e-6)
    found = HeadLoss(weights)(logits, soft)
    assert found.item() == pytest.approx(cross_entropy(logits, soft, weights).item(), abs=1e-5)
    tiny = HeadLoss(focal_gamma=1e-12)(logits, labels)  # the focal way, and no jump at 0
    assert tiny.item() == pytest.approx(cross_entropy(logits, labels).item(), abs=1e-6)


def test_the_focal_loss_by_hand() -> None:
    # p = 0.9 for the first face, 0.5 for the second: 0.1² · -ln 0.9, 0.5² · -ln 0.5
    logits = torch.tensor([[math.log(9), 0.0], [0.0, 0.0]])
    wanted = (0.01 * -math.log(0.9) + 0.25 * -math.log(0.5)) / 2
    loss = HeadLoss(focal_gamma=2.0)
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx(wanted)
    # half of each class: both terms of each face, weighed by one half
    soft = (0.01 * -math.log(0.9) + 0.81 * -math.log(0.1) + 2 * 0.25 * -math.log(0.5)) / 4
    assert loss(logits, torch.full((2, 2), 0.5)).item() == pytest.approx(soft)


def test_with_several_heads_the_focal_loss_is_the_mean_over_those_with_a_target() -> None:
    logits, labels, votes = logits_and_targets()
    votes[:4] = 0  # nobody voted on these
    targets = head_targets(("label", "votes"), labels, votes, 7)
    loss = HeadLoss(focal_gamma=2.0)
    both = loss(torch.cat([logits, logits.flip(1)], 1), targets)
    first, second = loss(logits, labels), loss(logits.flip(1)[4:], votes[4:])
    assert both.item() == pytest.approx((12 * first + 8 * second).item() / 20, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_face_that_is_certain_has_a_gradient_that_is_a_number(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    HeadLoss(label_smoothing=0.1, focal_gamma=gamma)(
        logits, one_hot(torch.tensor([0]), 2)
    ).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


# --- the number format ---


class FakeTimer:
    """Seconds of a step as told, by (format, whole batch); remembers what was asked."""

    def __init__(self, **seconds: float) -> None:
        self.told, self.asked = seconds, []

    def __call__(self, precision: torch.dtype, whole: bool) -> float:
        self.asked.append((name := str(precision)[6:], whole))
        return self.told[name if whole else f"{name}_few"]


@pytest.mark.parametrize(
    ("short", "chosen"),
    [(0.4, torch.bfloat16), (0.79, torch.bfloat16), (0.9, torch.float32), (30, torch.float32)],
)
def test_the_short_format_has_to_be_faster_by_a_margin(short: float, chosen: torch.dtype) -> None:
    timer = FakeTimer(float32=1.0, bfloat16=short)
    assert precision.faster_precision(timer, torch.bfloat16, True)[0] == chosen


def test_a_format_that_is_much_slower_is_tried_with_a_few_pictures_only() -> None:
    timer = FakeTimer(float32_few=0.03, bfloat16_few=0.9)
    assert precision.faster_precision(timer, torch.bfloat16, False)[0] == torch.float32
    assert timer.asked.count(("bfloat16", False)) == 1  # a step of 30 times as long is enough
    timer = FakeTimer(float32_few=0.03, bfloat16_few=0.07)
    assert precision.faster_precision(timer, torch.bfloat16, False)[0] == torch.float32
    # not expected to be fast, and fast all the same
    timer = FakeTimer(float32_few=0.03, bfloat16_few=0.03, float32=0.1, bfloat16=0.05)
    assert precision.faster_precision(timer, torch.bfloat16, False)[0] == torch.bfloat16


def test_long_steps_are_measured_in_two_rounds_short_ones_in_more() -> None:
    for seconds, rounds in ((10.0, 2), (0.01, precision.ROUNDS)):
        timer = FakeTimer(float32=seconds, bfloat16=seconds)
        precision.faster_precision(timer, torch.bfloat16, True)
        assert len(timer.asked) == 2 * rounds


def small_network() -> tuple[nn.Module, Batches]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )  # fmt: skip
    pixels = torch.randint(0, 255, (8, 1, 8, 8), dtype=torch.uint8)
    decoded = Decoded(pixels, torch.arange(8) % 3, ("a", "b", "c"), Preprocess(8, "L"))
    return model, Batches(decoded, 8)


def choose(recipe: Recipe, resumed: dict[str, Any]) -> torch.dtype:
    model, loader = small_network()
    return precision.precision_of(recipe, resumed, model, nn.CrossEntropyLoss(), loader)


def test_measuring_leaves_weights_statistics_and_random_numbers_as_they_were() -> None:
    model, loader = small_network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    seconds = precision.step_timer(model, nn.CrossEntropyLoss(), loader, CPU)
    assert seconds(torch.float32, True) > 0 and seconds(torch.bfloat16, False) > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_format_is_measured_only_where_nothing_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = RECIPES["tinyvgg"]
    monkeypatch.setattr(precision, "step_timer", lambda *_: pytest.fail("measured again"))
    assert choose(Recipe("tinyvgg", precision="float16"), {}) == torch.float16
    assert choose(auto, {"precision": "bfloat16"}) == torch.bfloat16  # a resumed run keeps it
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        fake = SimpleNamespace(_is_avx512_bf16_supported=lambda has=has: has,
                               _is_amx_tile_supported=lambda: False)  # fmt: skip
        monkeypatch.setattr(torch, "cpu", fake)
        # a state of an earlier version, whose format followed from the processor
        assert choose(auto, {"history": {}}) == expected
    timer = FakeTimer(float32_few=1, bfloat16_few=1, float32=1, bfloat16=0.2)
    monkeypatch.setattr(precision, "step_timer", lambda *_: timer)
    assert choose(auto, {}) == torch.bfloat16
    assert "bfloat16" in capsys.readouterr().out
