"""The loop: sums over images, named failures, the best epoch kept whole."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import train_loop
from expression.checkpoint import load_checkpoint, read_card
from lab.export import save_network
from train_loop import train, train_mode, train_step

CPU = torch.device("cpu")


def loader(images, labels, batch_size=4):
    return DataLoader(list(zip(images, labels, strict=True)), batch_size=batch_size)


def test_accuracy_counts_images_not_batches():
    # 4 of 4 right, then 0 of 1: averaging batches says 0.5, the truth is 0.8
    logits = torch.eye(2)[[0, 0, 0, 0, 1]]
    batches = loader(logits, torch.zeros(5, dtype=torch.long))
    _, accuracy = train_loop.test_step(nn.Identity(), batches, nn.CrossEntropyLoss(), CPU)
    assert accuracy == 0.8


def test_loss_is_per_image_too():
    logits, labels = torch.randn(7, 3), torch.randint(0, 3, (7,))
    loss, _ = train_loop.test_step(
        nn.Identity(), loader(logits, labels), nn.CrossEntropyLoss(), CPU
    )
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), abs=1e-6)


def test_two_validation_passes_are_equal_and_change_nothing():
    # BatchNorm left in train mode answers differently the second time
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    batches = loader(torch.randn(10, 4), torch.randint(0, 2, (10,)))
    passes = [train_loop.test_step(model, batches, nn.CrossEntropyLoss(), CPU) for _ in range(2)]
    assert passes[0] == passes[1]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_empty_loader_is_an_error_and_not_a_division_by_zero():
    for step in (
        lambda m, b: train_loop.test_step(m, b, nn.CrossEntropyLoss(), CPU),
        lambda m, b: train_step(
            m, b, nn.CrossEntropyLoss(), torch.optim.SGD(m.parameters(), 0.1), CPU
        ),
    ):
        with pytest.raises(ValueError, match="empty .* loader"):
            step(nn.Linear(2, 2), [])


def test_label_outside_the_classes_names_batch_and_position():
    labels = torch.tensor([0, 1, 0, 1, 0, 5])
    with pytest.raises(ValueError, match="train batch 1: label 5 at position 1.*2 outputs"):
        train_step(
            nn.Linear(3, 2),
            loader(torch.randn(6, 3), labels),
            nn.CrossEntropyLoss(),
            torch.optim.SGD(nn.Linear(3, 2).parameters(), 0.1),
            CPU,
        )


def test_labels_of_every_batch_are_looked_at_before_they_are_on_a_device(monkeypatch):
    # On a GPU the first batch alone was: a later one ends in "device-side assert". "meta" is a
    # device, too, on which no value can be looked at.
    monkeypatch.setattr(train_loop, "autocast", lambda *_: nullcontext())
    batches = loader(torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 5]))
    model, loss_fn = nn.Linear(3, 2, device="meta"), nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match="train batch 1: label 5"):
        train_step(model, batches, loss_fn, torch.optim.SGD(model.parameters(), 0.1), "meta")
    with pytest.raises(ValueError, match="evaluation batch 1: label 5"):
        train_loop.test_step(model, batches, loss_fn, "meta")


def test_loss_that_is_no_number_names_the_batch_and_spares_the_weights():
    images = torch.randn(12, 3)
    images[9, 0] = float("nan")
    model = nn.Linear(3, 2)
    with pytest.raises(FloatingPointError, match="train batch 2 of 4 images: the loss is nan"):
        train_step(
            model,
            loader(images, torch.zeros(12, dtype=torch.long)),
            nn.CrossEntropyLoss(),
            torch.optim.SGD(model.parameters(), 0.1),
            CPU,
        )
    assert model.weight.isfinite().all()


def test_frozen_batchnorm_keeps_its_statistics_and_free_batchnorm_moves():
    frozen, free = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    frozen.requires_grad_(False)
    model = nn.Sequential(frozen, free)
    train_mode(model)
    model(torch.randn(4, 3, 5, 5) + 3)
    assert torch.equal(frozen.running_mean, torch.zeros(3)) and not frozen.training
    assert not torch.equal(free.running_mean, torch.zeros(3)) and free.training


def save_to(path, card):
    """An `on_best` that keeps the best network in a file."""
    return lambda model, chosen: save_network(path, model, {**card, **chosen}, half=False)


def run(tmp_path, epochs=4, **kwargs):
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (20,))
    batches = loader(torch.randn(20, 2) + 2.0 * labels[:, None], labels)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    history = train(model, batches, batches, optimizer, epochs=epochs, progress=False, **kwargs)
    return model, batches, history


def test_history_has_a_value_an_epoch_for_every_split(tmp_path):
    _, _, history = run(tmp_path)
    losses = {"train_loss", "val_loss", "train_accuracy", "val_accuracy"}
    assert set(history) == losses | {"lr", "seconds"}
    assert all(len(values) == 4 for values in history.values())
    json.dumps(history)


def test_best_checkpoint_is_the_best_validation_epoch(tmp_path, card):
    path = tmp_path / "best.safetensors"
    on_best = save_to(path, card | {"system": "linear"})
    model, batches, history = run(tmp_path, on_best=on_best, keep_best=True)
    state, kept = load_checkpoint(path)
    ranks = list(zip(history["val_accuracy"], [-v for v in history["val_loss"]], strict=True))
    assert kept["epoch"] == ranks.index(max(ranks)) and kept["system"] == "linear"
    assert all(np.array_equal(v, state[k]) for k, v in model.state_dict().items())
    loss, accuracy = train_loop.test_step(model, batches, nn.CrossEntropyLoss(), CPU)
    assert (accuracy, loss) == (kept["val_accuracy"], kept["val_loss"])


def test_callback_sees_every_epoch_and_can_stop(tmp_path):
    seen = []
    _, _, history = run(
        tmp_path, epochs=9, on_epoch=lambda e, h: seen.append((e, len(h["val_loss"]))) or e == 2
    )
    assert seen == [(0, 1), (1, 2), (2, 3)] and len(history["val_loss"]) == 3


def test_an_interrupt_loses_neither_history_nor_checkpoint(tmp_path, card):
    def interrupt(epoch, history):
        if epoch == 1:
            raise KeyboardInterrupt

    kept = {}
    with pytest.raises(KeyboardInterrupt):
        on_best = save_to(tmp_path / "best.safetensors", card)
        run(tmp_path, history=kept, on_epoch=interrupt, on_best=on_best)
    assert len(kept["val_loss"]) == 2
    assert "val_accuracy" in read_card(tmp_path / "best.safetensors")


def test_going_on_counts_on_and_a_worse_epoch_replaces_nothing(tmp_path, card):
    path, history = tmp_path / "best.safetensors", {}
    model, batches, _ = run(tmp_path, history=history, on_best=save_to(path, card))
    before = path.read_bytes()
    ruin = torch.optim.SGD(model.parameters(), lr=0.0)
    with torch.no_grad():
        model.weight.zero_()
    seen = []
    train(
        model,
        batches,
        batches,
        ruin,
        epochs=2,
        history=history,
        on_best=save_to(path, card),
        progress=False,
        on_epoch=lambda epoch, _: seen.append(epoch),
    )
    assert seen == [4, 5] and len(history["val_loss"]) == 6
    assert path.read_bytes() == before


def test_plateau_scheduler_gets_the_validation_loss():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)  # too small to get anywhere
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    batches = loader(torch.randn(4, 2), torch.zeros(4, dtype=torch.long))
    train(model, batches, batches, optimizer, epochs=4, scheduler=scheduler, progress=False)
    assert optimizer.param_groups[0]["lr"] < 1e-6


def test_targets_may_be_probabilities():
    # A teacher's opinion mixed with the label: cross-entropy takes it, accuracy its largest share
    images, hard = torch.randn(12, 4), torch.arange(12) % 3
    soft = nn.functional.one_hot(hard, 3) * 0.7 + 0.1
    model, loss_fn = nn.Linear(4, 3), nn.CrossEntropyLoss()
    loader = DataLoader(list(zip(images, soft, strict=True)), batch_size=5)
    loss, accuracy = train_loop.test_step(model, loader, loss_fn, CPU)
    assert loss == pytest.approx(loss_fn(model(images), soft).item(), rel=1e-5)
    assert accuracy == pytest.approx((model(images).argmax(1) == hard).float().mean().item())
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    before = loss
    for _ in range(20):
        train_step(model, loader, loss_fn, optimizer, CPU)
    assert train_loop.test_step(model, loader, loss_fn, CPU)[0] < before


def test_lower_precision_is_used_and_still_learns():
    torch.manual_seed(0)
    images = torch.randn(32, 8)
    labels = (images[:, 0] > 0).long()
    loader = DataLoader(list(zip(images, labels, strict=True)), batch_size=8)
    seen = []

    class Model(nn.Linear):
        def forward(self, x):
            seen.append(super().forward(x).dtype)
            return super().forward(x)

    model = Model(8, 2)
    history = train(
        model,
        loader,
        loader,
        torch.optim.SGD(model.parameters(), 0.5),
        epochs=5,
        precision=torch.bfloat16,
        progress=False,
    )
    assert set(seen) == {torch.bfloat16} and model.weight.dtype == torch.float32
    assert history["val_accuracy"][-1] > 0.9
