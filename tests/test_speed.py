"""The speed programs measure what they say: same work on both sides, PrivateTest stays shut.

No test here looks at a clock.
"""

import argparse
import itertools
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import loop, speedrun, step
from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab.data import Packed, pack

CPU = torch.device("cpu")
SMALL = speedrun.Settings(epochs=2, sides=(16, 24), widths=(8, 16), residuals=(0, 1), batch_size=16)


def drawn_data(count=80, side=24):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 7
    return Decoded(pixels, labels, tuple("abcdefg"), Preprocess(side, "L"))


# --- the speedrun ---


@pytest.fixture
def packed(tmp_path):
    data = drawn_data()
    faces = Packed({s: data for s in ("train", "validation", "test")}, "noise", "0" * 16)
    return str(pack(faces, tmp_path / "noise.npz"))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(speedrun, "TARGETS", {65: SMALL})


def test_private_test_is_read_by_final_alone(packed, quick, tmp_path, monkeypatch, capsys):
    opened = []
    whole = speedrun.accuracy
    monkeypatch.setattr(speedrun, "accuracy", lambda *a: opened.append(len(a[1])) or whole(*a))
    out = tmp_path / "told.json"
    speedrun.main(["--data", packed, "--out", str(out), "--device", "cpu"])
    (run,) = json.loads(out.read_text())["cpu 65"]["runs"]
    assert "test" not in run and "validation" in run
    before = len(opened)
    speedrun.main(
        ["--data", packed, "--out", str(out), "--device", "cpu", "--final", "--seeds", "2"]
    )
    runs = json.loads(out.read_text())["cpu 65"]["runs"]
    assert [run["seed"] for run in runs] == [0, 1] and all("test" in run for run in runs)
    assert len(opened) - before == 2 * (before + 1)  # once a seed, beside what else was looked at
    assert "| 65 % |" in capsys.readouterr().out


def test_seeds_of_one_machine_and_setting_join_and_others_give_way(tmp_path):
    out = tmp_path / "told.json"

    def seeds(seed, name="cpu 65", threads=1, **found):
        told = dict.fromkeys(("settings", "device", "cores", "versions"), "one")
        told |= {"threads": threads, "runs": [{"seed": seed, **found}]}
        known = speedrun.joined(out, name, told)
        assert json.loads(out.read_text()) == known
        return {name: [run["seed"] for run in row["runs"]] for name, row in known.items()}

    assert seeds(1, validation=0.5) == {"cpu 65": [1]}
    assert seeds(0, validation=0.6) == {"cpu 65": [0, 1]}
    assert seeds(1, validation=0.7) == {"cpu 65": [0, 1]}
    assert [run["validation"] for run in json.loads(out.read_text())["cpu 65"]["runs"]] == [
        0.6,
        0.7,
    ]
    assert seeds(0, name="cpu 70", validation=0.6) == {"cpu 65": [0, 1], "cpu 70": [0]}
    assert seeds(2, validation=0.6, test=0.6)["cpu 65"] == [2]
    assert seeds(3, threads=2, validation=0.6, test=0.6)["cpu 65"] == [3]


def test_an_epoch_shows_every_picture_at_most_once_and_in_another_order():
    data = drawn_data()
    pixels = torch.zeros_like(data.pixels)
    generator = torch.Generator().manual_seed(0)
    orders = []
    for _ in range(2):
        batches = speedrun.batches(pixels, torch.arange(80), 16, SMALL, generator)
        seen = torch.cat([labels for images, labels in batches if images.shape == (16, 1, 16, 16)])
        assert seen.sort().values.tolist() == list(range(80))
        orders.append(seen.tolist())
    assert orders[0] != orders[1]
    odd = list(speedrun.batches(pixels[:70], torch.arange(70), 16, SMALL, generator))
    assert sum(len(labels) for _, labels in odd) == 64  # the short batch is left out


def test_operations_are_counted_forward_and_backward():
    settings = replace(SMALL, widths=(8,), residuals=(0,))
    side, convolutions = 16, 16 * 16 * 9 * 32 + 8 * 8 * 9 * 32 * 8
    first = 2 * 16 * 16 * 9 * 32  # the first layer's pictures need no gradient
    assert speedrun.flops_per_picture(settings, side) == 6 * (convolutions + 8 * 7) - first


def test_views_at_test_time_are_the_mirror_image_and_shifts():
    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, images):
            self.seen.append(images.clone())
            return images.flatten(1)[:, :7]

    look, data = Look(), drawn_data(3, 8)
    speedrun.accuracy(look, data.pixels, data.labels, 8, torch.float32)
    assert len(look.seen) == 6
    plain, mirrored = look.seen[:2]
    assert torch.equal(plain, speedrun.normalise(data.pixels.float() / 255))
    assert torch.equal(mirrored, plain.flip(-1))
    shifted = look.seen[2::2]
    assert torch.equal(shifted[0][..., 1:, 1:], plain[..., :-1, :-1])  # right and down by one
    assert torch.equal(shifted[1][..., :-1, :-1], plain[..., 1:, 1:])


def test_compiling_beforehand_teaches_nothing(monkeypatch):
    model = speedrun.ResNet9(1, 7, widths=(8,), residuals=(0,))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    monkeypatch.setattr(torch, "compile", lambda model: model)
    speedrun.compile_for(model, replace(SMALL, widths=(8,), residuals=(0,)), torch.float32)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


# --- the loop beside its limit ---


def test_loop_and_limit_do_as_many_steps(monkeypatch):
    case = loop.Case("tiny", "resnet9", 16, 1, 16, {"widths": [8], "residuals": [0], "stem": 4})
    steps, limit = [], loop.bare_step

    def counted(*args):
        step = limit(*args)
        return lambda: (steps.append(1), step())

    monkeypatch.setattr(loop, "bare_step", counted)
    looped = []
    whole = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda m, b, *a, **k: looped.append(len(b)) or whole(m, b, *a, **k)
    )
    monkeypatch.setattr(loop, "steps_for", lambda step, device, seconds: 4)
    told = loop.compare(case, drawn_data(70, 16), CPU, turns=2, seconds=0)
    assert told["pictures"] == 64 and len(told["turns"]) == 2  # the first turn warms up
    assert len(steps) == sum(looped) == 3 * 4
    for turn in told["turns"]:
        assert turn["share"] == pytest.approx(turn["loop"] / turn["bare"])
    assert "| tiny | 16 |" in loop.loop_table([told])


def test_the_bare_step_is_a_real_step():
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 7))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    images, labels = next(iter(Batches(drawn_data(32, 16), 32)))
    take = loop.bare_step(model, optimizer, (images, labels), torch.float32)
    before = nn.functional.cross_entropy(model(images), labels).item()
    for _ in range(20):
        take()
    assert nn.functional.cross_entropy(model(images), labels).item() < before / 2


def test_growth_repeats_the_set(tmp_path, splits):
    splits.save_to_disk(tmp_path / "drawn")
    count = len(splits["train"])
    *_, told = itertools.islice(loop.grow(str(tmp_path / "drawn"), 2.5, CPU, steps=1), 4)
    assert told["pictures"] == round(2.5 * count) and len(told["rates"]) == 3
    assert told["file_megabytes"] == pytest.approx(told["pictures"] * 64 * 64 / 2**20)
    assert told["peak_megabytes"] > 50  # torch alone is more
    assert f"| {told['pictures']:,} |" in loop.growth_table([told])


def test_sizes_take_turns_and_one_that_fails_says_so(tmp_path, splits, monkeypatch, capfd):
    splits.save_to_disk(tmp_path / "drawn")
    monkeypatch.setattr(loop, "GROWTH", (1.0, 2.0))
    monkeypatch.setattr(loop, "GROWTH_TURNS", 2)
    args = argparse.Namespace(data=str(tmp_path / "drawn"), device="cpu", steps=1)
    small, large = loop.growth(args)
    assert large["pictures"] == 2 * small["pictures"] == 2 * len(splits["train"])
    assert len(small["rates"]) == len(large["rates"]) == 2
    args.data = str(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="ended early"):
        loop.growth(args)
    assert "nowhere" in capfd.readouterr().err


# --- the step ---


def test_ways_differ_in_what_they_say_and_take_the_same_step():
    case = loop.Case("tiny", "resnet9", 16, 1, 8, {"widths": [8], "residuals": [0], "stem": 4})
    told = step.measure(case, CPU, runs=1, seconds=0.01, skip="compile")
    names = [row["way"] for row in told["ways"]]
    assert names == [way.name for way in step.WAYS if not way.compiled]
    sizes = {row["way"]: row["pictures"] for row in told["ways"]}
    assert (sizes["plain"], sizes["channels_last, double batch"]) == (8, 16)
    json.dumps(told)  # nothing but numbers and words is left in it
    assert step.table([told]).count("\n") == 1 + len(names)


def test_compiling_is_repaid_by_what_it_saves():
    # 28,709 pictures at 100/s take 287 s, at 200/s 144 s: 287 s of compiling is two epochs' gain
    row = {"first": 287.09, "rates": [200.0]}
    assert step.repaid(row, plain=100.0) == "2.0 epochs"
    assert step.repaid({"first": 9.0, "rates": [90.0]}, plain=100.0) == "never"
