"""The benchmarks measure what they say: fair turns, equal work, PrivateTest stays shut.

No test here looks at a clock, except that it runs.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import growth, harness, install, loop, report, speedrun, step, subjects
from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab.data import Packed, pack

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
SMALL = speedrun.Settings(epochs=2, sides=(16, 24), widths=(8, 16), residuals=(0, 1), batch_size=16)
TINY = loop.Case("tiny", "resnet9", 16, 1, 16, {"widths": [8], "residuals": [0], "stem": 4})
ROOT = Path(__file__).parents[2]


def drawn_data(count=80, side=24):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 7
    return Decoded(pixels, labels, tuple("abcdefg"), Preprocess(side, "L"))


# --- the harness ---


def test_each_round_runs_every_way_and_none_always_comes_first():
    calls = []

    def way(name):
        return lambda: calls.append(name) or float(len(calls))

    found = harness.paired_rounds({"A": way("A"), "B": way("B")}, rounds=3, warm_up=1)
    assert "".join(calls) == "ABBAABBA"
    assert found == {"A": [4.0, 5.0, 8.0], "B": [3.0, 6.0, 7.0]}  # the first round warms up


def test_ratios_are_taken_within_a_round():
    # The machine was half as fast in the second round: both ways were, and B is still twice A.
    assert harness.ratios([200.0, 100.0], [100.0, 50.0]) == [2.0, 2.0]
    with pytest.raises(ValueError):
        harness.ratios([1.0], [1.0, 2.0])


def test_times_are_for_one_call_and_the_rate_turns_the_range_round():
    calls = []
    found = harness.time_calls({"one": lambda: calls.append(1)}, CPU, rounds=2, seconds=0)
    assert len(found["one"]) == 2 and len(calls) == 2 + 2 * 2  # calibrated; a call before each turn
    timing = harness.Timing.of([0.004, 0.001, 0.002])
    assert (
        timing.milliseconds() == "2 (1–4)" and timing.per_second(128) == "64,000 (32,000–128,000)"
    )


def test_a_record_tells_command_revision_versions_and_machine(tmp_path):
    given = ["--data", str(tmp_path / "fer2013"), "--rounds", "3"]
    told = harness.record("loop", given, CPU, ("numpy", "no-such-package"), rounds=3)
    assert told["command"] == "python -m benchmarks.loop --data fer2013 --rounds 3"
    assert told["revision"] and told["machine"]["threads"] == torch.get_num_threads()
    assert "numpy" in told["versions"] and "no-such-package" not in told["versions"]
    assert torch.__version__ in harness.described(told) and told["date"] in harness.described(told)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    out = tmp_path / "new folder" / "told.json"
    harness.write_json(out, {"a": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        harness.write_json(out, {"a": 2})
    assert harness.read_json(out) == {"a": 1}


def test_an_interrupted_run_keeps_the_rows_before(tmp_path):
    def rows():
        yield {"row": 1}
        assert json.loads(out.read_text())["rows"] == [{"row": 1}]
        raise KeyboardInterrupt

    out = tmp_path / "told.json"
    with pytest.raises(KeyboardInterrupt):
        harness.measure_rows(out, {"date": "today"}, rows(), lambda told: "table")
    assert json.loads(out.read_text()) == {"date": "today", "rows": [{"row": 1}]}


def test_what_is_missing_is_told_without_a_traceback(tmp_path, capsys):
    assert loop.main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o")]) == 2
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        loop.main(["--data", "x", "--rounds", "0"])
    assert "--rounds" in capsys.readouterr().err


def test_a_process_that_fails_is_an_error(capfd):
    with pytest.raises(ChildProcessError, match="no_such_program"):
        next(harness.child_rows("no_such_program", {}))


def test_no_program_changes_the_import_path():
    programs = [path.read_text() for path in (ROOT / "benchmarks").glob("*.py")]
    assert len(programs) > 10 and not any("sys.path" in text for text in programs)


def test_every_subject_is_where_the_table_says():
    for name in subjects.HOME:
        assert getattr(subjects, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        subjects.no_such_name  # noqa: B018


# --- the page ---


def test_every_json_file_has_its_section_and_what_is_not_measured_is_left_out(monkeypatch):
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.json")}
    assert files <= set(report.SECTIONS)
    read = harness.read_record
    monkeypatch.setattr(harness, "read_record", lambda name: None if name == "step" else read(name))
    page = report.markdown()
    assert "benchmarks.step" not in page and "benchmarks.loop" in page


# --- what an installation costs ---


def test_a_size_counts_each_file_once_and_follows_no_link(tmp_path):
    # An environment links to the system's Python, which it does not bring
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "weights").write_bytes(bytes(3_000_000))
    (tmp_path / "outside").symlink_to(ROOT)
    (tmp_path / "weights").symlink_to(tmp_path / "inside" / "weights")
    assert install.megabytes(tmp_path) == pytest.approx(3, abs=0.01)


def test_the_promised_sizes_are_those_that_were_measured():
    told = harness.read_json(ROOT / "benchmarks" / "install.json")
    sizes = {row["kind"]: row["megabytes"] for row in told["rows"]}
    assert sizes["answer"] < 300 and sizes["demo"] < 500
    assert all(f"{size:.0f}" in install.table(told) for size in sizes.values())


# --- the loop beside the bare step ---


def test_loop_and_bare_step_do_as_many_steps(monkeypatch):
    steps, looped, bare, whole = [], [], loop.bare_step, subjects.train_step

    def counted(*args):
        step = bare(*args)
        return lambda: (steps.append(1), step())

    monkeypatch.setattr(loop, "bare_step", counted)
    monkeypatch.setattr(
        subjects, "train_step", lambda m, b, *a, **k: looped.append(len(b)) or whole(m, b, *a, **k)
    )
    monkeypatch.setattr(harness, "calls_in", lambda call, seconds, device: 4)
    told = loop.compare(TINY, drawn_data(70, 16), CPU, rounds=2, seconds=0)
    assert told["pictures"] == 64 and len(told["bare"]) == len(told["loop"]) == 2
    assert len(steps) == sum(looped) == 3 * 4  # the first round warms up
    assert loop.shares(told)[1] == pytest.approx(told["loop"][1] / told["bare"][1])
    assert "| tiny | 16 |" in loop.table({"rows": [told]})


def test_the_bare_step_is_a_real_step():
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 7))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    images, labels = next(iter(Batches(drawn_data(32, 16), 32)))
    take = loop.bare_step(model, optimizer, (images, labels), torch.float32)
    before = nn.functional.cross_entropy(model(images), labels).item()
    for _ in range(20):
        take()
    assert nn.functional.cross_entropy(model(images), labels).item() < before / 2


# --- growth ---


def test_growth_repeats_the_set_and_sizes_take_turns(tmp_path, splits):
    splits.save_to_disk(tmp_path / "drawn")
    count, turns = len(splits["train"]), []

    def watched(factor):
        for row in growth.grow(str(tmp_path / "drawn"), factor, CPU, steps=1):
            turns.append(factor)
            yield row

    small, large = growth.in_turns([watched(1.0), watched(2.5)], rounds=2)
    assert turns == [1.0, 2.5] * 3  # all are decoded and warm before the first turn
    assert (small["pictures"], large["pictures"]) == (count, round(2.5 * count))
    assert len(small["rates"]) == len(large["rates"]) == 2
    assert large["file_megabytes"] == pytest.approx(large["pictures"] * 64 * 64 / 2**20)
    assert large["peak_megabytes"] > 50  # torch alone is more
    assert f"| {large['pictures']:,} |" in growth.table({"rows": [large]})


# --- the step ---


def test_ways_differ_in_what_they_say_and_only_in_that():
    rows = step.compare(TINY, CPU, rounds=1, seconds=0.01, skip="compile")
    assert [row["way"] for row in rows] == [way.name for way in step.WAYS if not way.compiled]
    sizes = {row["way"]: row["batch_size"] for row in rows}
    assert (sizes["plain"], sizes["channels_last, double batch"]) == (16, 32)
    json.dumps(rows)
    assert step.table({"rows": rows}).count("\n") == 1 + len(rows)


def test_compiling_is_repaid_by_what_it_saves():
    # 28,709 pictures at 100/s take 287 s, at 200/s 144 s: 287 s of compiling is two epochs' gain
    row = {"first_call": 287.09, "rates": [200.0]}
    assert step.epochs_to_repay(row, eager=100.0) == "2.0 epochs"
    assert step.epochs_to_repay({"first_call": 9.0, "rates": [90.0]}, eager=100.0) == "never"


# --- the speedrun ---


@pytest.fixture
def packed(tmp_path):
    data = drawn_data()
    faces = Packed({s: data for s in ("train", "validation", "test")}, "noise", "0" * 16)
    return str(pack(faces, tmp_path / "noise.npz"))


def test_private_test_is_read_with_final_only_and_seeds_go_on(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(speedrun, "TARGETS", {65: SMALL})
    trained, looked, whole, accuracy = [], [], speedrun.run, speedrun.accuracy
    monkeypatch.setattr(speedrun, "run", lambda *a: trained.append(a[2]) or whole(*a))
    monkeypatch.setattr(speedrun, "accuracy", lambda *a: looked.append(1) or accuracy(*a))
    monkeypatch.setattr(harness, "described", lambda told: "here")

    def start(out, *options):
        code = speedrun.main(
            ["--data", packed, "--device", "cpu", "--out", str(tmp_path / out), *options]
        )
        return code, json.loads((tmp_path / out).read_text())["cpu 65"]["runs"]

    code, (run,) = start("quick")
    assert code == 0 and "validation" in run and "test" not in run and len(looked) == 1
    code, runs = start("whole", "--final")
    assert code == 0 and "test" in runs[0] and len(looked) == 1 + 2
    code, runs = start("whole", "--final", "--seeds", "2")
    assert [run["seed"] for run in runs] == [0, 1] and trained == [0, 0, 1]  # seed 0 is not rerun
    assert "| 65 % | here | 2 |" in speedrun.table(harness.read_json(tmp_path / "whole"))


def test_seeds_of_other_conditions_are_not_overwritten(packed, tmp_path, monkeypatch, capsys):
    # Five seeds of a quarter of an hour each must not vanish because somebody tries the program.
    monkeypatch.setattr(speedrun, "TARGETS", {65: SMALL})
    command = ["--data", packed, "--device", "cpu", "--out", str(tmp_path / "told.json")]
    assert speedrun.main(command) == 0
    before = (tmp_path / "told.json").read_bytes()
    for option, name in (("--epochs=1", "settings"), ("--final", "--final")):
        assert speedrun.main([*command, option, "--seeds=2"]) == 2
        assert name in capsys.readouterr().err
    assert (tmp_path / "told.json").read_bytes() == before


def test_an_epoch_shows_every_picture_at_most_once_and_in_another_order():
    data = drawn_data()
    pixels = torch.zeros_like(data.pixels)
    generator, augment = torch.Generator().manual_seed(0), speedrun.augmentation_for(0, SMALL)
    orders = []
    for _ in range(2):
        batches = speedrun.batches(pixels, torch.arange(80), augment, SMALL, generator)
        shown = torch.cat([labels for images, labels in batches if images.shape == (16, 1, 16, 16)])
        assert shown.sort().values.tolist() == list(range(80))
        orders.append(shown.tolist())
    assert orders[0] != orders[1]
    odd = list(speedrun.batches(pixels[:70], torch.arange(70), augment, SMALL, generator))
    assert sum(len(labels) for _, labels in odd) == 64  # the short batch is left out


def test_options_change_the_settings_of_a_target(packed, tmp_path, monkeypatch):
    # A recipe that is to be tried must not need an edit, nor touch the runs of the target's own.
    monkeypatch.setattr(speedrun, "TARGETS", {65: SMALL})
    command = ["--data", packed, "--device", "cpu", "--out", str(tmp_path / "told.json")]
    options = ["--mixup", "0.2", "--sides", "16", "--focal-gamma", "1", "--lr", "0.1",
               "--final-unaugmented-epochs", "1"]  # fmt: skip
    assert speedrun.main([*command, *options]) == 0
    told = json.loads((tmp_path / "told.json").read_text())["cpu 65"]
    changed = {"mixup": 0.2, "sides": [16], "focal_gamma": 1.0, "lr": 0.1,
               "final_unaugmented_epochs": 1}  # fmt: skip
    assert told["settings"] == {**speedrun.as_json(SMALL), **changed}
    # a file from before a setting existed is one where it was off
    del told["settings"]["votes"]
    (tmp_path / "told.json").write_text(json.dumps({"cpu 65": told}))
    assert speedrun.main([*command, *options, "--seeds", "2"]) == 0
    assert len(json.loads((tmp_path / "told.json").read_text())["cpu 65"]["runs"]) == 2


def test_the_last_epochs_are_sharp_and_as_large_as_in_use():
    settings = replace(SMALL, epochs=4, final_unaugmented_epochs=1)
    assert [speedrun.augmentation_for(k, settings).side for k in range(4)] == [16, 16, 24, 24]
    assert [speedrun.augmentation_for(k, settings).degrees for k in range(4)] == [12, 12, 12, 0]


def test_a_votes_head_trains_beside_the_labels_and_does_not_answer(monkeypatch):
    data = drawn_data()
    targets = torch.zeros(80, 2, 7)
    targets[torch.arange(80), 0, data.labels] = 1
    targets[:, 1, 6] = 1  # the crowd always says the last class
    splits = {"train": (data.pixels, targets), "validation": (data.pixels, data.labels)}
    asked = []
    monkeypatch.setattr(speedrun, "accuracy", lambda *a: asked.append(a[0](a[1].float())) or a[5])
    assert speedrun.run(splits, SMALL, 0, torch.float32, False)["validation"] == 7
    assert asked[0].shape == (80, 14)


def test_operations_are_counted_forward_and_backward():
    settings = replace(SMALL, widths=(8,), residuals=(0,))
    side, convolutions = 16, 16 * 16 * 9 * 32 + 8 * 8 * 9 * 32 * 8
    first = 2 * 16 * 16 * 9 * 32  # the first layer's pictures need no gradient
    assert speedrun.flops_per_picture(settings, side) == 6 * (convolutions + 8 * 7) - first


def test_views_at_test_time_are_flip_and_shifts():
    class Recorder(nn.Module):
        def __init__(self):
            super().__init__()
            self.views = []

        def forward(self, images):
            self.views.append(images.clone())
            return images.flatten(1)[:, :7]

    model, data = Recorder(), drawn_data(3, 8)
    speedrun.accuracy(model, data.pixels, data.labels, 8, torch.float32)
    assert len(model.views) == 6
    plain, flipped = model.views[:2]
    assert torch.equal(plain, speedrun.normalise(data.pixels.float() / 255))
    assert torch.equal(flipped, plain.flip(-1))
    shifted = model.views[2::2]
    assert torch.equal(shifted[0][..., 1:, 1:], plain[..., :-1, :-1])  # right and down by one
    assert torch.equal(shifted[1][..., :-1, :-1], plain[..., 1:, 1:])
