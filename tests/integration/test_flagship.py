"""The flagship: growing pictures, several teachers, seeds, an ensemble, a data set in one file."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import experiments
from augment import Augment
from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab import comparison, explanation, flagship, metrics, series, training
from lab import distillation as teaching
from lab.data import pack, read
from lab.evaluation import load_model
from lab.models.resnet9 import ResNet9
from lab.recipe import Recipe
from lab.recipes import RECIPES
from lab.results import Results, file_sha256

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
GROWING = replace(RECIPES["expression"], progressive_sizes=(16, 24), final_unaugmented_epochs=1)
TINY = ["--size", "24", "--batch-size", "32", "--epochs", "2", "--device", "cpu", "--arg",
        "widths=[8, 16]", "--arg", "residuals=[0, 1]", "--arg", "stem=4"]  # fmt: skip


@pytest.fixture(scope="module")
def drawn(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "drawn"
    splits.save_to_disk(folder)
    return str(folder)


@pytest.fixture(scope="module")
def home(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flagship")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(RECIPES, "expression", GROWING)
        experiments.main(["flagship", "--data", drawn, "--seeds", "2", "--final", *TINY])
    return folder


# --- going on from a checkpoint ---


def test_a_run_goes_on_from_a_checkpoint_and_says_from_which(home, drawn, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = home / "checkpoints" / "expression-drawn.safetensors"
    recipe = ["train", "expression", "--data", drawn, *TINY, "--lr", "0", "--init-from",
              str(before)]  # fmt: skip
    experiments.main(recipe)
    model, card, _ = load_model(tmp_path / "checkpoints" / "expression-drawn.safetensors", CPU)
    for name, value in load_model(before, CPU)[0].named_parameters():
        assert torch.equal(model.get_parameter(name), value), name  # no step was taken
    (stage,) = card["stages"]
    assert stage["epochs"] == 2
    assert stage["command"].startswith("python experiments.py train expression --data drawn")
    written = (tmp_path / "checkpoints" / "expression-drawn.md").read_text()
    reached = load_model(before, CPU)[1]["validation"]
    assert stage["validation"] == reached
    assert f"| Stage 1 | 2 epochs, validation {reached['k']}/{reached['n']} = " in written
    assert stage["command"] in written and stage["sha256"][:16] in written
    assert card["learnt_from"] == {str(before): sha256(before.read_bytes()).hexdigest()}
    with pytest.raises(SystemExit, match=r"expression-drawn.safetensors is resnet9 .*go on from"):
        experiments.main([*recipe, "--seed", "1", "--arg", "stem=8"])


# --- pictures that grow ---


def test_pictures_grow_by_equal_shares_of_the_epochs():
    recipe = Recipe("resnet9", epochs=7, progressive_sizes=(16, 24, 32))
    assert [recipe.picture_size(epoch) for epoch in range(7)] == [16, 16, 16, 24, 24, 32, 32]
    assert recipe.picture_size(7) == 32  # after the last epoch, when the loader is set once more
    assert Recipe("resnet9").picture_size(3) == 0
    with pytest.raises(ValueError, match="need `augment`"):
        Recipe("resnet9", progressive_sizes=(16,), augment=None)


def test_the_last_epochs_show_pictures_as_they_are_in_use():
    recipe = Recipe(
        "resnet9", epochs=6, final_unaugmented_epochs=2, progressive_sizes=(16, 24), size=32,
        augment=Augment(brightness=0, contrast=0, erase=0.5),
    )  # fmt: skip
    assert [recipe.picture_size(epoch) for epoch in range(7)] == [16, 16, 16, 24, 0, 0, 0]
    pixels = torch.randint(0, 256, (40, 1, 32, 32), dtype=torch.uint8)
    data = Decoded(pixels, torch.zeros(40, dtype=torch.int64), ("a",), Preprocess(32, "L"))
    sharp, _ = next(iter(Batches(data, 40)))
    loader = Batches(data, 40)
    for epoch, shown in ((3, False), (4, True), (5, True)):
        training.set_epoch_augmentation(loader, recipe, epoch)
        images, _ = next(iter(loader))
        assert (images.shape == sharp.shape) is shown
        if shown:  # each as it is, or mirrored
            same = (images - sharp).abs().amax((1, 2, 3)) < 1e-3
            mirrored = (images - sharp.flip(-1)).abs().amax((1, 2, 3)) < 1e-3
            assert (same | mirrored).all() and same.any() and mirrored.any()
    assert Recipe("resnet9", final_unaugmented_epochs=1, augment=None).augmentation_for(5) is None


def test_a_smaller_side_is_the_same_picture_smaller():
    images = torch.rand(6, 1, 8, 8).repeat_interleave(6, 2).repeat_interleave(6, 3)
    unchanged = Augment(flip=0, degrees=0, shift=0, scale=0, brightness=0, contrast=0)
    smaller = replace(unchanged, side=24)(images, torch.Generator().manual_seed(0))
    assert smaller.shape == (6, 1, 24, 24)
    assert torch.allclose(smaller, images[..., 1::2, 1::2], atol=0.51)
    blocks = smaller.view(6, 1, 8, 3, 8, 3)[:, :, :, 1, :, 1]  # the middle of each block
    assert torch.allclose(blocks, images[..., 3::6, 3::6], atol=1e-5)


def test_an_interrupted_run_goes_on_with_the_side_of_its_epoch(drawn):
    faces = read(drawn)
    recipe = replace(RECIPES["expression"], progressive_sizes=(16, 24), epochs=4, size=24)
    loader = faces.batches(recipe, 0, CPU)["train"]
    for epoch, side in ((0, 16), (1, 16), (2, 24), (3, 24)):
        training.set_epoch_augmentation(loader, recipe, epoch)
        assert next(iter(loader))[0].shape[-1] == side
    assert next(iter(faces.batches(recipe, 0, CPU)["validation"]))[0].shape[-1] == 24


def test_resnet9_says_what_does_not_fit():
    with pytest.raises(ValueError, match="2 widths .* and 1 residuals"):
        ResNet9(widths=(8, 16), residuals=(1,))


# --- several teachers ---


def test_two_teachers_are_averaged_and_remembered(drawn, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pair = sorted((home / "out/flagship/checkpoints").glob("*.safetensors"))
    faces, rows = read(drawn), torch.arange(20)
    count = len(faces.labels("train"))
    hard = nn.functional.one_hot(faces.labels("train"), 3).float()

    def taught(*paths):
        recipe = Recipe("resnet9", teacher=",".join(map(str, paths)), teacher_weight=1.0)
        return teaching.taught_targets(recipe, faces, rows, CPU)

    both, one, other = taught(*pair), taught(pair[0]), taught(pair[1])
    assert both.shape == (count, 3) and not torch.allclose(one[rows], other[rows], atol=1e-3)
    assert torch.allclose(both[rows], (one[rows] + other[rows]) / 2, atol=1e-6)
    assert not torch.allclose(both[rows], hard[rows], atol=1e-2)
    assert capsys.readouterr().out.count("looks at 20 faces") == 2  # each once, then kept
    model, _, rule = load_model(pair[0], CPU)
    loader = Batches(faces.decoded(rule)["train"], 20, indices=rows)
    images, _ = next(iter(loader))
    with torch.inference_mode():
        expected = (model(images).softmax(1) + model(images.flip(-1)).softmax(1)) / 2
    assert torch.allclose(one[rows], expected, atol=1e-4)


# --- seeds, the best one, all of them ---


def figures(folder, name, split, views):
    kept = Results(folder / "results")
    return kept.read(folder / "results" / name / f"drawn-{split}-{views}.json").evaluation


def test_the_seed_best_on_validation_is_exported_whole(home, open_predictor):
    seeds, names = home / "out/flagship", ("expression-drawn", "expression-drawn-seed1")
    reached = [figures(seeds, name, "validation", "flip").accuracy for name in names]
    told = figures(home, "expression-drawn", "validation", "flip")
    assert told.accuracy == max(reached)
    predictor = open_predictor(home / "checkpoints/expression-drawn.safetensors")
    best = predictor.card["seed"]
    assert reached[best] == max(reached)
    assert figures(home, f"expression-drawn-seed{1 - best}", "test", "flip").confusion.tolist() == (
        figures(seeds, names[1 - best], "test", "flip").confusion.tolist()
    )
    card = (home / "checkpoints/expression-drawn.md").read_text()
    assert "expression-drawn" in card and str(told) in card
    assert {"drawn-test-confusion.png", "drawn-test-report.txt", "history.png"} <= {
        path.name for path in (home / "results/expression-drawn").iterdir()
    }
    text = (home / "results/expression-drawn/drawn-test-report.txt").read_text()
    assert text.startswith("expression-drawn, drawn, test") and "seed" not in text
    openings = Results(home / "results").openings()
    assert [o.checkpoint for o in openings].count("ensemble-drawn") == 1 and len(openings) == 3


def test_seeds_share_a_row_with_their_mean_and_spread(home, tmp_path):
    shutil.copytree(home / "results", tmp_path / "results")
    page = comparison.compare(tmp_path / "results").read_text()
    seeds = home / "out/flagship"
    values = [100 * figures(seeds, f"expression-drawn{tail}", "test", "plain").accuracy
              for tail in ("", "-seed1")]  # fmt: skip
    assert f"2 seeds {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} %" in page
    assert page.count("| `expression` |") == 1


def test_the_exported_network_may_have_another_name(home, drawn, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setitem(RECIPES, "expression", GROWING)
    monkeypatch.setattr(series, "train_network", lambda *_: pytest.fail("trained again"))
    experiments.main(["flagship", "--data", drawn, "--seeds", "1", "--to", "other", *TINY])
    told = figures(home, "other", "validation", "flip").accuracy
    assert told == figures(home / "out/flagship", "expression-drawn", "validation", "flip").accuracy
    names = ("checkpoints/other.safetensors", "checkpoints/other.md")
    assert all((home / name).exists() for name in names)
    for name in names:
        (home / name).unlink()
    shutil.rmtree(home / "results/other")


def test_an_exported_network_is_not_replaced_by_another(home, drawn, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    other = tmp_path / "checkpoints/expression-drawn.safetensors"
    other.write_text("another one")
    reports = [home / "out/flagship/results" / f"expression-drawn{t}" for t in ("", "-seed1")]
    with pytest.raises(ValueError, match="expression-drawn.safetensors.*--out"):
        flagship.export(reports, tmp_path, "expression-drawn")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(series, "train_network", lambda *_: pytest.fail("trained first"))
    with pytest.raises(SystemExit, match="expression-drawn.safetensors.*--out"):
        experiments.main(["flagship", "--data", drawn, "--seeds", "1", *TINY])
    assert other.read_text() == "another one"


def test_a_lone_seed_that_is_not_the_first_is_drawn_with_the_others(home, tmp_path, monkeypatch):
    kept, drawn = Results(tmp_path), []
    (network, results), *_ = Results(home / "out/flagship/results").networks()
    for name, seed in (("expression-drawn-seed2", 2), ("tinyvgg-drawn", 0)):
        card = {**network.card, "seed": seed}
        for result in results:
            kept.add(replace(network, name=name, card=card), result)
    monkeypatch.setattr(
        comparison.plots, "comparison", lambda shown, *_, **__: drawn.extend(shown) or Figure()
    )
    page = comparison.compare(tmp_path).read_text()
    assert {row["name"] for row in drawn} == {"expression", "tinyvgg"}
    assert "| `expression` |" in page and "| `tinyvgg` |" in page


def test_a_second_call_trains_nothing_again(home, drawn, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(series, "train_network", lambda *_: pytest.fail("trained again"))
    monkeypatch.setitem(RECIPES, "expression", GROWING)
    experiments.main(["flagship", "--data", drawn, "--seeds", "2", "--final", *TINY])
    assert "exported checkpoints/expression-drawn.safetensors" in capsys.readouterr().out


def test_an_ensemble_averages_probabilities(home, drawn):
    about = json.loads((home / "results/ensemble-drawn/checkpoint.json").read_text())
    faces, total = read(drawn), 0
    pair = sorted((home / "out/flagship/checkpoints").glob("*.safetensors"))
    assert about["members"] == {path.stem: file_sha256(path) for path in pair}
    for path in pair:
        model, _, rule = load_model(path, CPU)
        loader = Batches(faces.decoded(rule)["test"], 64)
        logits, labels = metrics.collect(model, loader, views=2)
        total = total + logits.softmax(1)
    told = figures(home, "ensemble-drawn", "test", "flip")
    assert told.k == int((total.argmax(1) == labels).sum())


def test_an_ensemble_of_two_files_of_one_name_is_refused(tmp_path):
    # Of a/x and b/x the record kept b/x alone, so that c/x with b/x passed for the same ensemble
    files = [tmp_path / folder / "x.safetensors" for folder in "ab"]
    for file in files:
        file.parent.mkdir()
        file.write_text(str(file))
    with pytest.raises(ValueError) as refused:
        flagship.ensemble(files, None, tmp_path, CPU)
    assert all(str(file) in str(refused.value) for file in files)
    assert not (tmp_path / "results").exists()


def test_more_views_are_told_beside_the_others(home, drawn, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(explanation, "explain", lambda *_: [])
    checkpoint = "checkpoints/expression-drawn.safetensors"
    words = [checkpoint, "--data", drawn, "--shifts", "--final", "--out", "again"]
    experiments.main(["evaluate", *words])
    assert "tta18" in capsys.readouterr().out
    for split in ("validation", "test"):
        for views in ("plain", "flip"):
            before = figures(home, "expression-drawn", split, views)
            again = figures(home / "again", "expression-drawn", split, views)
            assert again.confusion.tolist() == before.confusion.tolist()
    faces = read(drawn)
    model, card, rule = load_model(Path(checkpoint), CPU)
    loader = Batches(faces.decoded(rule)["test"], 64)
    logits, labels = metrics.collect(model, loader, views=18)
    told = figures(home / "again", "expression-drawn", "test", "tta18")
    assert told.k == int((logits.argmax(1) == labels).sum())
    experiments.main(["ensemble", *words])
    assert figures(home / "again", "ensemble-drawn", "test", "tta18").k == told.k


# --- a data set in one file ---


@pytest.fixture(scope="module")
def packed(drawn, tmp_path_factory):
    return pack(read(drawn), tmp_path_factory.mktemp("packed") / "drawn.npz", side=48)


def test_a_packed_set_is_the_set(drawn, packed):
    faces, again = read(drawn), read(str(packed))
    assert (again.name, again.fingerprint) == (faces.name, faces.fingerprint)
    assert again.class_names == faces.class_names and again.crop == faces.crop
    rule = Preprocess(48, "L")
    expected, found = faces.decoded(rule), again.decoded(rule)
    for split in ("train", "validation", "test"):
        assert torch.equal(expected[split].pixels, found[split].pixels)
        assert torch.equal(faces.labels(split), again.labels(split))
    assert again.decoded(Preprocess(16, "RGB"))["test"].pixels.shape[1:] == (3, 16, 16)


def test_a_packed_set_trains_where_datasets_is_not_installed(packed, tmp_path):
    program = (
        "import sys; sys.modules['datasets'] = None\n"
        "import experiments\n"
        f"experiments.main({['train', 'expression', '--data', str(packed), *TINY]!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(experiments.__file__).parent)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "checkpoints/expression-drawn.safetensors").exists()


def test_what_is_not_packed_is_refused(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 half a file")
    np.savez(tmp_path / "other.npz", numbers=np.arange(3))
    for name in ("broken.npz", "other.npz", "absent.npz"):
        with pytest.raises(ValueError, match=f"{name} is not a packed data set"):
            read(str(tmp_path / name))
