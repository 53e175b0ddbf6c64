"""Heads, crowd votes, averaged weights, mixup, a teacher at the same view: what each changes, that
nothing changes without it, and that a run cut short ends as if it had not been."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import experiments
from augment import Augment, Mixup
from expression.checkpoint import in_half, load_checkpoint, read_card
from expression.face_detector import CropRule
from expression.onnx_network import OnnxNetwork
from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab import distillation as teaching
from lab import evaluation, further_data, metrics, models, training
from lab.averaging import moving_average, statistics_batches
from lab.data import Packed, pack, preprocess, read
from lab.datasets import ferplus
from lab.export import export_onnx
from lab.heads import HeadLoss, attach, class_priors, fill_heads, hard_labels, head_targets
from lab.provenance import kept_by
from lab.recipe import Recipe
from lab.resuming import check_settings
from lab.run import Run
from lab.tensorboard_log import TensorBoardLog
from lab.votes import crowd_figures, majority, vote_shares
from train_loop import train_step

pytestmark = pytest.mark.slow
ROOT = Path(training.__file__).parent.parent
CPU = torch.device("cpu")
NAMES = ("happy", "neutral", "sad")
RECIPE = Recipe(
    "baseline_cnn", size=24, epochs=3, batch_size=16, lr=3e-3, schedule="onecycle",
    augment=Augment(degrees=5),
)  # fmt: skip


def drawn(count: int, seed: int) -> tuple[Decoded, torch.Tensor]:
    """Stripes of three kinds with noise; labels, and votes (count, 10) that lean towards them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 90, (count, 1, 24, 24), dtype=np.uint8)
    for row, label in enumerate(labels):
        pixels[row, 0, 8 * label : 8 * label + 8] += 120
    votes = np.zeros((count, 10), np.uint8)
    column = np.array([ferplus.VOTE_NAMES.index(n) for n in ("happiness", "neutral", "sadness")])
    votes[np.arange(count), column[labels]] = 7
    votes[:, ferplus.VOTE_NAMES.index("neutral")] += 3
    votes[5] = 0
    votes[5, -1] = 10  # no face
    labels = torch.from_numpy(labels)
    return Decoded(torch.from_numpy(pixels), labels, NAMES, Preprocess(24, "L")), votes


@pytest.fixture(scope="module")
def faces() -> Packed:
    splits, votes = {}, {}
    for seed, (name, count) in enumerate({"train": 96, "validation": 30, "test": 30}.items()):
        splits[name], counts = drawn(count, seed)
        votes[name] = torch.from_numpy(counts)
    crop = CropRule(measured=96).settings()
    return Packed(splits, "stripes", "0" * 16, crop, votes, ferplus.VOTE_NAMES)


def run(faces: Packed, out: Path, recipe: Recipe, seed: int = 0) -> Run:
    return Run("tiny", recipe, faces, seed, CPU, out / "run", out, "a command")


def trained(faces: Packed, out: Path, **settings: object) -> Path:
    started = run(faces, out, replace(RECIPE, **settings))
    rule = preprocess(started.recipe)
    with TensorBoardLog(started.folder / "board", faces.class_names, rule) as board:
        return training.train_network(started, board)


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_checkpoint(one)[0], load_checkpoint(other)[0]
    return all(np.array_equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture(autouse=True)
def no_graph(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard's picture of the network takes longer than these trainings."""
    if "command_line" not in request.node.name:
        monkeypatch.setattr(TensorBoardLog, "start", lambda *_: None)


# --- votes ---


def test_votes_meet_classes_by_name_and_not_by_their_place() -> None:
    # By place "neutral", first in the file, would become "angry", first in FER2013.
    counts = torch.zeros(3, 10, dtype=torch.uint8)
    counts[0, ferplus.VOTE_NAMES.index("anger")] = 6
    counts[0, ferplus.VOTE_NAMES.index("happiness")] = 2
    counts[0, ferplus.VOTE_NAMES.index("contempt")] = 2
    counts[1, ferplus.VOTE_NAMES.index("sadness")] = 10
    counts[2, ferplus.VOTE_NAMES.index("unknown")] = 10
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    shares = vote_shares(counts, ferplus.VOTE_NAMES, names)
    assert shares[0].tolist() == [0.75, 0, 0, 0.25, 0, 0, 0]  # contempt's two votes are dropped
    assert shares[1].argmax() == names.index("sad") and shares[2].sum() == 0
    with pytest.raises(ValueError, match="bored"):
        vote_shares(counts, ferplus.VOTE_NAMES, ("happy", "bored"))


def test_the_majority_is_the_one_of_ferplus() -> None:
    counts = torch.from_numpy(
        np.random.default_rng(0).multinomial(10, [0.3, 0.3] + [0.05] * 8, 400)
    )
    ours = majority(counts, ferplus.VOTE_NAMES, ferplus.FERPLUS_NAMES)
    assert torch.equal(ours, torch.from_numpy(ferplus._majority(counts.numpy())))
    assert (ours == -1).any() and (ours >= 0).any()


def test_a_majority_for_contempt_counts_under_the_official_rule_alone() -> None:
    counts = torch.zeros(2, 10, dtype=torch.uint8)
    counts[0, ferplus.VOTE_NAMES.index("contempt")] = 9
    counts[1, ferplus.VOTE_NAMES.index("sadness")] = 9
    told = crowd_figures(torch.eye(3)[[0, 2]], counts, ferplus.VOTE_NAMES, NAMES)
    assert (told["majority"]["k"], told["majority"]["n"]) == (1, 1)
    assert (told["majority_8"]["k"], told["majority_8"]["n"]) == (1, 2)


def test_a_packed_file_carries_the_votes(faces: Packed, tmp_path: Path) -> None:
    again = read(str(pack(faces, tmp_path / "stripes.npz", side=24)))
    for split in ("train", "validation", "test"):
        counts, names = again.vote_counts(split)
        assert names == ferplus.VOTE_NAMES and torch.equal(counts, faces.vote_counts(split)[0])
    assert again.votes("train")[0].tolist() == pytest.approx([0.7, 0.3, 0])
    with pytest.raises(ValueError, match="packed"):
        read(str(tmp_path / "stripes.npz"), votes="fer2013new.csv")


def test_data_without_votes_say_how_to_get_them(faces: Packed, tmp_path: Path) -> None:
    bare = replace(faces, packed_votes={})
    with pytest.raises(ValueError, match="--votes"):
        trained(bare, tmp_path, heads=("label", "votes"))


# --- heads ---


def test_a_face_without_votes_trains_the_label_head_alone() -> None:
    labels, votes = torch.tensor([0, 1]), torch.tensor([[0.0, 0.5, 0.5], [0, 0, 0]])
    targets = head_targets(("label", "votes", "mean"), labels, votes, 3)
    assert targets[0].tolist() == [[1, 0, 0], [0, 0.5, 0.5], [0.5, 0.25, 0.25]]
    assert targets[1].tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]
    logits = torch.randn(2, 9, requires_grad=True)
    HeadLoss(label_smoothing=0.1)(logits, targets).backward()
    moved = logits.grad.view(2, 3, 3).abs().sum(2) > 0
    assert moved.tolist() == [[True, True, True], [True, False, True]]


def test_the_loss_of_one_head_is_plain_cross_entropy() -> None:
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    targets = head_targets(("label",), labels, None, 3)
    plain = nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels)
    assert HeadLoss(label_smoothing=0.1)(logits, targets).item() == pytest.approx(plain.item())
    weights = torch.tensor([1.0, 2.0, 0.5])
    plain = nn.CrossEntropyLoss(weights)(logits, targets[:, 0])
    assert HeadLoss(weights)(logits, targets).item() == pytest.approx(plain.item())


def test_the_answer_is_the_weighted_mean_of_the_heads() -> None:
    card = {"heads": {"label": 3.0, "votes": 1.0},
            "priors": {"label": [0.5, 0.25, 0.25], "votes": [0.2, 0.4, 0.4]}}  # fmt: skip
    logits = torch.randn(4, 6)
    model = attach(nn.Identity(), card).eval()
    one, two = logits[:, :3].log_softmax(1), logits[:, 3:].log_softmax(1)
    assert torch.allclose(model(logits), 0.75 * one + 0.25 * two)
    assert torch.equal(model.train()(logits), logits)  # the loss sees every head
    corrected = attach(nn.Identity(), card | {"prior_correction": 0.5}).eval()
    taken = (
        0.75 * torch.tensor([0.5, 0.25, 0.25]).log() + 0.25 * torch.tensor([0.2, 0.4, 0.4]).log()
    )
    assert torch.allclose(corrected(logits), model.eval()(logits) - 0.5 * taken, atol=1e-6)
    with pytest.raises(ValueError, match="priors"):
        attach(nn.Identity(), {"heads": {"votes": 1.0}, "prior_correction": 0.5})


def test_priors_are_the_shares_of_the_targets() -> None:
    votes = torch.tensor([[0.5, 0.5, 0], [0, 0, 0]])
    targets = head_targets(("label", "votes"), torch.tensor([0, 2]), votes, 3)
    priors = class_priors(("label", "votes"), targets)
    assert priors == {"label": [0.5, 0, 0.5], "votes": [0.5, 0.5, 0]}


@pytest.mark.parametrize("heads", [("label", "votes"), ("votes",), ("mean",)], ids="-".join)
def test_a_checkpoint_with_heads_answers_for_its_classes_everywhere(
    heads: tuple[str, ...], faces: Packed, tmp_path: Path, open_predictor: Callable[..., Any]
) -> None:
    path = trained(faces, tmp_path, heads=heads)
    state, card = load_checkpoint(path)
    assert card["heads"] == dict.fromkeys(heads, 1.0) and len(card["data"]["votes"]) == 16
    model = models.restore(state, card).eval()
    images = torch.randn(3, 1, 24, 24)
    answer = model(images)
    assert answer.shape == (3, 3) and model.train()(images).shape == (3, 3 * len(heads))
    predictor = open_predictor(path)
    assert sum(predictor.predict(np.zeros((24, 24), np.uint8)).values()) == pytest.approx(1)
    loader = Batches(faces.decoded(Preprocess(**card["preprocess"]))["validation"])
    logits, labels = metrics.collect(model, loader)
    assert metrics.evaluate(logits, labels, NAMES).accuracy > 0.8  # stripes are easily learnt
    assert card["val_accuracy"] > 0.8


def test_the_command_line_trains_heads_and_tells_how_the_crowd_agrees(
    faces: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    pack(faces, tmp_path / "stripes.npz", side=24)
    experiments.main(
        ["train", "baseline_cnn", "--data", "stripes.npz", "--size", "24", "--epochs", "1",
         "--heads", "label", "votes", "--mixup", "0.2", "--average", "0.9", "--device", "cpu"]
    )  # fmt: skip
    folder = tmp_path / "results" / "baseline_cnn-stripes"
    card = json.loads((folder / "checkpoint.json").read_text())["card"]
    assert "--heads label votes" in card["command"]
    assert card["recipe"]["heads"] == ["label", "votes"]
    told = json.loads((folder / "stripes-validation-plain.json").read_text())
    # 30 faces, one of which nobody took for a face
    assert told["crowd"]["majority"]["n"] == 29 and told["n"] == 30


def test_several_heads_become_one_answer_in_onnx(faces: Packed, tmp_path: Path) -> None:
    path = trained(faces, tmp_path, heads=("label", "votes"), epochs=1, prior_correction=0.3)
    model = models.restore(*load_checkpoint(path)).eval()
    export_onnx(model, load_checkpoint(path)[1], tmp_path / "x.onnx")
    images = torch.randn(2, 1, 24, 24)
    with torch.inference_mode():
        answer = OnnxNetwork(tmp_path / "x.onnx")(images.numpy())
        assert np.allclose(answer, model(images), atol=1e-4)


ONE_HEAD = [path for path in sorted(ROOT.glob("checkpoints/*.safetensors"))
            if len(read_card(path).get("heads", ["label"])) == 1]  # fmt: skip


@pytest.mark.parametrize("path", ONE_HEAD, ids=lambda p: p.stem)
def test_checkpoints_without_heads_answer_bit_for_bit_as_before(path: Path) -> None:
    state, card = load_checkpoint(path)
    rule, args = card["preprocess"], card.get("system_args", {})
    bare = models.build(
        card["system"], num_classes=len(card["class_names"]), in_channels=rule["channels"], **args
    ).eval()
    bare.load_state_dict(models.as_tensors(state))
    images = torch.randn(2, rule["channels"], rule["size"], rule["size"])
    with torch.inference_mode():
        assert torch.equal(models.restore(state, card).eval()(images), bare(images))


def test_a_new_head_starts_from_the_one_that_is_there() -> None:
    one, two = nn.Linear(4, 3), nn.Linear(4, 6)
    two.load_state_dict(fill_heads(one.state_dict(), two, ["label"], ["label", "votes"]))
    assert torch.equal(two.weight, one.weight.repeat(2, 1))
    back = fill_heads(two.state_dict(), one, ["label", "votes"], ["votes"])
    assert torch.equal(back["weight"], two.weight[3:])


# --- which epoch is kept ---


def test_the_last_epoch_is_exported_where_it_is_asked_for(faces: Packed, tmp_path: Path) -> None:
    # A rate of 3 in the second epoch spoils a network that was good before.
    spoilt = {"schedule": "step", "step_size": 1, "gamma": 1000.0, "epochs": 2}
    cards = {}
    for keep in ("best", "last"):
        path = trained(faces, tmp_path / keep, **spoilt, keep=keep)
        cards[keep] = load_checkpoint(path)[1]
        state = torch.load(tmp_path / keep / "run" / "state.pt")["states"]["model"]
        end = all(
            np.array_equal(tensor, in_half(state[name].numpy()).astype(tensor.dtype))
            for name, tensor in load_checkpoint(path)[0].items()
        )
        assert end == (keep == "last")
    accuracies = cards["last"]["history"]["val_accuracy"]
    assert accuracies[-1] < max(accuracies)
    assert cards["last"]["epoch"] == 1 and cards["best"]["epoch"] == 0
    assert cards["last"]["val_accuracy"] == accuracies[-1]
    assert kept_by(cards["last"]) != kept_by(cards["best"])


def test_weighted_sampling_changes_the_prior_that_the_card_tells(faces: Packed) -> None:
    rare = (faces.splits["train"].labels == 2).nonzero()[8:].flatten()
    rows = torch.ones(96, dtype=torch.bool)
    rows[rare] = False  # 32, 32 and 8 faces are left
    train = faces.splits["train"]
    skewed = replace(train, pixels=train.pixels[rows], labels=train.labels[rows])
    few = replace(faces, splits={**faces.splits, "train": skewed}, packed_votes={})
    recipe = replace(RECIPE, weighted_sampling=1.0)
    priors = run(few, Path("unused"), recipe).priors()["label"]
    assert priors == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=1e-6)
    assert run(few, Path("unused"), RECIPE).priors()["label"][2] == pytest.approx(8 / 72, abs=1e-6)


# --- averaged weights and mixup ---


def test_averaged_weights_are_validated_exported_and_have_statistics_of_their_own(
    faces: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {}
    make = training.moving_average
    monkeypatch.setattr(
        training, "moving_average", lambda *args: kept.setdefault("averaged", make(*args))
    )
    path = trained(faces, tmp_path, average=0.9, epochs=1)
    averaged = kept["averaged"].module.state_dict()
    for name, tensor in load_checkpoint(path)[0].items():
        assert np.array_equal(tensor, averaged[name].half().float()), name
    plain = trained(faces, tmp_path / "plain", epochs=1)
    means = [load_checkpoint(p)[0] for p in (path, plain)]
    name = next(n for n in means[0] if n.endswith("running_mean"))
    assert not np.array_equal(means[0][name], means[1][name])


def test_every_face_counts_the_same_in_the_statistics_of_averaged_weights(faces: Packed) -> None:
    # 257 faces, of which one is bright: in a batch of its own it would count as much as all others
    pixels = torch.zeros(257, 1, 8, 8, dtype=torch.uint8)
    pixels[-1] = 255
    data = Decoded(pixels, torch.zeros(257, dtype=torch.int64), ("a",), Preprocess(8, "L"))
    for rows, sizes in ((torch.arange(257).repeat(10), [256] * 8), (torch.arange(257), [256]),
                        (torch.arange(40), [40])):  # fmt: skip
        batches = statistics_batches(Batches(data, 64, indices=rows))
        assert [len(images) for images, _ in batches] == sizes


def test_the_average_forgets_the_random_start() -> None:
    # With a fixed decay of 0.999, 200 steps leave 82 % of the start in the average.
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    averaged = moving_average(model, 0.999)
    averaged.update_parameters(model)
    nn.init.constant_(model.weight, 1.0)
    for _ in range(200):
        averaged.update_parameters(model)
    assert averaged.module.weight.item() == pytest.approx(1.0, abs=0.01)


def test_mixup_blends_pictures_and_targets_by_the_same_share(faces: Packed) -> None:
    data = replace(faces.splits["train"], preprocess=Preprocess(24, "L", mean=(0,), std=(1,)))
    solid = torch.tensor([0, 128, 255], dtype=torch.uint8)[data.labels].view(-1, 1, 1, 1)
    data = replace(data, pixels=solid.expand(-1, 1, 24, 24))
    images, targets = next(iter(Batches(data, 32, shuffle=True, mix=Mixup(0.5))))
    assert torch.allclose(targets.sum(1), torch.ones(32))
    values = targets @ torch.tensor([0, 128 / 255, 1])
    assert torch.allclose(images[:, 0, 0, 0], values, atol=1e-5)
    assert (targets.max(1).values >= 0.5 - 1e-6).all()  # the larger part is the picture's own
    assert len(set(targets.max(1).values.tolist())) > 4  # each picture has a share of its own
    plain = [labels for _, labels in Batches(data, 32, shuffle=True)]
    assert plain[0].dtype == torch.int64


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"heads": ("label", "votes"), "average": 0.95, "mixup": 0.3},
        {"mixup": 0.3, "class_weights": True},
        {"average": 0.95, "final_unaugmented_epochs": 1},
        {"weighted_sampling": 1.0, "focal_gamma": 2.0, "keep": "last"},
    ],
    ids=["none", "all", "mixup", "average", "sampling"],
)
def test_a_run_cut_short_ends_bit_for_bit_like_a_whole_one(
    settings: dict[str, object], faces: Packed, tmp_path: Path, interrupted: Callable[[], Any]
) -> None:
    whole = trained(faces, tmp_path / "whole", **settings)
    with interrupted():
        trained(faces, tmp_path / "cut", **settings)
    again = trained(faces, tmp_path / "cut", **settings)
    assert same_weights(whole, again)


def test_each_setting_changes_the_training(faces: Packed, tmp_path: Path) -> None:
    plain = trained(faces, tmp_path / "plain", epochs=1)
    assert same_weights(plain, trained(faces, tmp_path / "again", epochs=1))
    for name, settings in {
        "mixup": {"mixup": 0.2}, "average": {"average": 0.9}, "mean": {"heads": ("mean",)},
        "focal": {"focal_gamma": 2.0}, "sampling": {"weighted_sampling": 0.5},
        "stored": {"teacher": str(plain)}, "same": {"teacher": str(plain), "teacher_view": "same"},
    }.items():  # fmt: skip
        assert not same_weights(plain, trained(faces, tmp_path / name, epochs=1, **settings)), name
    stored, same = (
        tmp_path / n / "checkpoints/tiny-stripes.safetensors" for n in ("stored", "same")
    )
    assert not same_weights(stored, same)


def test_a_state_from_before_these_settings_can_be_gone_on_from(
    faces: Packed, tmp_path: Path
) -> None:
    started = run(faces, tmp_path, RECIPE)
    old = json.loads(json.dumps(started.settings()))
    for name in ("heads", "mixup", "average", "teacher_view", "prior_correction",
                 "weighted_sampling", "focal_gamma", "keep"):  # fmt: skip
        del old["recipe"][name]
    assert check_settings({"settings": old}, started)


@pytest.mark.parametrize(
    "wrong",
    [{"heads": ("label", "label")}, {"heads": ()}, {"heads": ("crowd",)}, {"average": 1.0},
     {"mixup": -0.1}, {"keep": "first"}, {"teacher_view": "other"}],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(RECIPE, **wrong)


def test_a_run_with_other_votes_is_not_gone_on_with(faces: Packed, tmp_path: Path) -> None:
    recipe = replace(RECIPE, heads=("label", "votes"))
    begun = {"settings": json.loads(json.dumps(run(faces, tmp_path, recipe).settings()))}
    assert isinstance(faces, Packed)
    votes = {split: counts.flip(0) for split, counts in faces.packed_votes.items()}
    other = run(replace(faces, packed_votes=votes), tmp_path, recipe)
    with pytest.raises(ValueError, match="votes"):
        check_settings(begun, other)
    del begun["settings"]["votes"]  # as earlier versions wrote it
    assert check_settings(begun, other)


def test_class_weights_are_those_of_the_labels_whatever_a_teacher_says(
    faces: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, met = trained(faces, tmp_path / "plain", epochs=1), []
    make = training.make_loss
    monkeypatch.setattr(training, "make_loss", lambda r, w, m: met.append(w) or make(r, w, m))
    answers = torch.eye(3)[torch.zeros(96, dtype=torch.int64)]  # all faces are "happy"
    monkeypatch.setattr(training, "stored_answers", lambda *_: answers)
    for teacher in ({}, {"teacher": str(plain)}):
        trained(faces, tmp_path / f"t{len(met)}", epochs=1, class_weights=True, **teacher)
    assert torch.equal(*met)


# --- a teacher at the same view ---


def test_the_teacher_sees_the_very_pictures_of_the_batch(faces: Packed, tmp_path: Path) -> None:
    # The teacher has another size and another normalisation; the student's side grows meanwhile.
    teacher = trained(faces, tmp_path, heads=("label", "votes"), size=16, mean=(0.3,), std=(0.5,))
    recipe = replace(
        RECIPE, heads=("label", "votes"), teacher=str(teacher), teacher_view="same",
        teacher_weight=0.25, mixup=0.2,
    )  # fmt: skip
    loader = faces.batches(recipe, 0, CPU)["train"]
    loader.labels, loader.mix = teaching.own_targets(recipe, faces), recipe.mixup_for(0)
    view = teaching.SameView(loader, recipe, faces, CPU)
    images, targets = next(iter(view))
    loader.epoch = 0
    again, own = next(iter(loader))
    assert torch.equal(images, again)
    network, rule, order = view.teachers[0]
    assert rule.size == 16 and order == [0, 1, 2]
    pixels = again * 0.25 + 0.5
    small = nn.functional.interpolate(pixels, (16, 16), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = network.forward((small - 0.3) / 0.5)
    for head in (0, 1):
        probs = logits[:, 3 * head : 3 * head + 3].softmax(1)
        assert torch.allclose(targets[:, head], 0.75 * own[:, head] + 0.25 * probs, atol=1e-5)


def test_a_teacher_of_labels_leaves_the_votes_as_they_are(faces: Packed, tmp_path: Path) -> None:
    teacher = trained(faces, tmp_path, epochs=1)
    recipe = replace(RECIPE, heads=("label", "votes"), teacher=str(teacher))
    own, rows = teaching.own_targets(recipe, faces), torch.arange(96)
    stored = teaching.taught_targets(recipe, faces, rows, CPU)
    assert torch.equal(stored[:, 1], own[:, 1]) and not torch.allclose(stored[:, 0], own[:, 0])
    only_votes = replace(recipe, heads=("votes",))
    with pytest.raises(ValueError, match="none of the heads"):
        teaching.taught_targets(only_votes, faces, rows, CPU)
    with pytest.raises(ValueError, match="none of the heads"):
        teaching.SameView(faces.batches(recipe, 0, CPU)["train"], only_votes, faces, CPU)


def test_colour_becomes_the_gray_that_a_gray_teacher_knows() -> None:
    from PIL import Image

    gray, colour = Preprocess(8, "L"), Preprocess(8, "RGB", mean=(0.1, 0.2, 0.3), std=(0.4,))
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), "RGB"
    )

    def batch(rule: Preprocess) -> torch.Tensor:
        return torch.from_numpy(rule(picture)[None])

    seen = teaching.as_seen_by(gray, batch(colour), colour)
    assert torch.allclose(seen, batch(gray), atol=0.01)
    repeated = Preprocess(8, "L", 3, (0.1, 0.2, 0.3), (0.4,))
    seen = teaching.as_seen_by(gray, batch(repeated), repeated)
    assert torch.allclose(seen, batch(gray), atol=1e-5)


def test_accuracy_in_training_is_that_of_the_first_head() -> None:
    # The largest of all heads' logits, taken together, would be no class at all.
    logits = torch.tensor([[2.0, 0, 0, 9], [0, 2.0, 9, 0]])
    targets = head_targets(("label", "votes"), torch.tensor([0, 1]), torch.eye(2), 2)
    model = nn.Linear(4, 4)
    nn.init.eye_(model.weight), nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    _, accuracy = train_step(model, [(logits, targets)], HeadLoss(), optimizer, CPU)
    assert accuracy == 1.0


# --- further data sets ---


def other_set(name: str = "street", count: int = 40, names: tuple[str, ...] = NAMES) -> Packed:
    """Faces of a data set with its own order and number of classes."""
    splits = {}
    for seed, split in enumerate(("train", "validation", "test")):
        rows, _ = drawn(count, 10 + seed)
        splits[split] = replace(rows, class_names=names)
    return Packed(splits, name, "1" * 16, CropRule(measured=count).settings())


def test_a_face_trains_the_head_of_its_own_data_set_alone(faces: Packed) -> None:
    # By place "sad" of the street would become "happy" of the stripes.
    street = other_set(names=("sadness", "Happy", "bored"))
    recipe = replace(RECIPE, heads=("label", "votes"), further_weights=(0.5,))
    targets = further_data.joined_targets(recipe, faces, (street,))
    _, labels = further_data.usable_rows(street, faces.class_names, 0)
    assert further_data.all_heads(recipe, (street,)) == ("label", "votes", "street")
    assert set(labels.tolist()) == {NAMES.index("happy"), NAMES.index("sad")}  # nobody is bored
    assert targets.shape == (96 + len(labels), 3, 3)
    assert targets[:96, 2].sum() == 0 and targets[96:, :2].sum() == 0
    assert targets[96:, 2].sum(1).tolist() == [0.5] * len(labels)
    assert torch.equal(hard_labels(targets)[96:], labels)


def test_a_further_set_may_train_a_head_that_is_there(faces: Packed) -> None:
    targets = further_data.joined_targets(RECIPE, faces, (other_set("label"),))
    assert targets.shape == (136, 1, 3) and (targets.sum(2) == 1).all()
    with pytest.raises(ValueError, match="votes"):
        further_data.check(RECIPE, [other_set("votes")])
    with pytest.raises(ValueError, match="further-weights has 2"):
        further_data.check(replace(RECIPE, further_weights=(1.0, 2.0)), [other_set()])


def test_the_cap_keeps_as_many_faces_of_a_large_class_and_always_the_same(faces: Packed) -> None:
    rows, labels = further_data.usable_rows(other_set(), NAMES, 5)
    assert torch.bincount(labels).tolist() == [5, 5, 5]
    assert torch.equal(rows, further_data.usable_rows(other_set(), NAMES, 5)[0])
    with pytest.raises(ValueError, match="none of the classes"):
        further_data.usable_rows(other_set(names=("a", "b", "c")), NAMES, 0)


def test_two_data_sets_train_one_network_that_answers_for_both(
    faces: Packed, tmp_path: Path
) -> None:
    started = replace(run(faces, tmp_path, RECIPE), further=(other_set(),))
    with TensorBoardLog(started.folder / "board", NAMES, preprocess(RECIPE)) as board:
        path = training.train_network(started, board)
    model, card, _ = evaluation.load_model(path, CPU)
    assert path.stem == "tiny-stripes+street" and card["heads"] == {"label": 1.0, "street": 1.0}
    assert card["data"]["fingerprint"] == faces.fingerprint
    told = {"name": "street", "fingerprint": "1" * 16, "train_faces": 40}
    assert card["data"]["further"] == [told]
    assert model(torch.zeros(2, 1, 24, 24)).shape == (2, 3)
    other = replace(started, further=(replace(other_set(), fingerprint="2" * 16),))
    state = {"settings": started.settings()}
    with pytest.raises(ValueError, match="further"):
        check_settings(state, other)


def test_accuracy_is_that_of_the_head_that_a_face_trains() -> None:
    # Counted by the first head alone, every face of a further data set would be a mistake.
    targets = torch.zeros(2, 2, 3)
    targets[0, 0, 2] = targets[1, 1, 1] = 1
    logits = torch.tensor([[0.0, 0, 9, 9, 0, 0], [9.0, 0, 0, 0, 9, 0]])
    layer = nn.Linear(6, 6, bias=False)
    nn.init.eye_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    _, accuracy = train_step(layer, [(logits, targets)], HeadLoss(), optimizer, "cpu")
    assert accuracy == 1
