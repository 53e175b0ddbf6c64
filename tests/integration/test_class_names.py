"""Classes are joined by name: the mistakes prevented are right answers counted as wrong, and wrong
targets learnt, because index 4 is "sad" in one place and "neutral" in another.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch

import experiments
from expression.checkpoint import load_checkpoint
from expression.preprocessing import Preprocess
from hf_collate import Batches
from lab import distillation as teaching
from lab import evaluation, explanation, flagship, metrics, models, training
from lab.class_names import canonical, class_permutation
from lab.data import Faces, pack, read
from lab.datasets import fer2013, ferplus, muxspace, synthetic
from lab.export import save_network
from lab.recipes import RECIPES
from lab.results import Results

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
SEVEN = list(fer2013.CLASS_NAMES)  # not alphabetical: surprise comes before neutral
FOLDERS = dict(
    zip(SEVEN, ("Anger", "disgusted", "Fearful", "Happiness", "sadness", "SURPRISED", "neutral"),
        strict=True)
)  # fmt: skip
RULE = Preprocess(32, "L", mean=(0.5,), std=(0.25,))


# --- data: the same faces in FER2013's order and as image folders ---


@pytest.fixture(scope="module")
def drawn() -> datasets.DatasetDict:
    return synthetic.load(train=42, validation=70, test=35, size=32, class_names=SEVEN)


def faces_of(splits: datasets.DatasetDict, name: str = "drawn") -> Faces:
    return Faces(splits, name, f"{name}-fingerprint")


def write_folders(splits: datasets.DatasetDict, root: Path, folders: dict[str, str]) -> Path:
    """Image folders <split>/<class>/, of the classes that `folders` names."""
    for split, rows in splits.items():
        names = rows.features["label"].names
        for number, row in enumerate(rows):
            if folder := folders.get(names[row["label"]]):
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                row["image"].save(root / split / folder / f"{number:03}.png")
    return root


@pytest.fixture(scope="module")
def alphabetical(drawn, tmp_path_factory) -> str:
    """The same faces in folders, which are read in alphabetical order, under other words."""
    root = write_folders(drawn, tmp_path_factory.mktemp("data") / "faces", FOLDERS)
    names = read(str(root)).class_names
    assert names == sorted(names) != SEVEN
    return str(root)


def reordered(splits: datasets.DatasetDict, names: list[str]) -> datasets.DatasetDict:
    """The same rows in the same places, their classes numbered in the order of `names`."""
    found = datasets.DatasetDict()
    for split, rows in splits.items():
        own = rows.features["label"].names
        labels = [names.index(own[k]) for k in rows["label"][:]]
        kind = datasets.ClassLabel(names=names)
        found[split] = rows.remove_columns("label").add_column("label", labels)
        found[split] = found[split].cast_column("label", kind)
    return found


# --- a network without training, whose answers name every class ---


def write_network(path: Path, names: list[str], splits: datasets.DatasetDict) -> Path:
    """A random TinyVGG; its last layer is shifted so that no class takes all the answers.

    `names` only orders the outputs: with any order the network names the same classes.
    """
    torch.manual_seed(0)
    model = models.build("tinyvgg", num_classes=7, in_channels=1, hidden_channels=8)
    loader = Batches(faces_of(splits).decoded(RULE)["validation"], 70)
    logits, _ = metrics.collect(model, loader)
    head = model.head[-1]
    with torch.no_grad():
        head.weight /= logits.std(0)[:, None]
        head.bias.sub_(logits.mean(0)).div_(logits.std(0))
        places = [SEVEN.index(name) for name in names]
        head.weight.copy_(head.weight[places].clone())
        head.bias.copy_(head.bias[places].clone())
    card = {
        "system": "tinyvgg", "system_args": {"hidden_channels": 8}, "class_names": names,
        "preprocess": RULE.settings(), "temperature": 1.0, "crop": "whole picture",
        "data": {"name": "drawn", "fingerprint": "0"}, "seed": 0, "command": "none",
        "revision": "none", "minutes": 0.0, "hardware": "none", "epoch": 0,
        "validation": {"k": 1, "n": 70},
        "history": {key: [0.5] for key in ("train_loss", "train_accuracy", "val_loss",
                                           "val_accuracy", "lr", "seconds")},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_network(path, model, card)


@pytest.fixture
def network(drawn, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_network(tmp_path / "networks" / "net.safetensors", SEVEN, drawn)


@pytest.fixture
def measured(monkeypatch) -> list[metrics.Evaluation]:
    """Every evaluation that is made from now on, wherever it is written."""
    made = []
    evaluate = metrics.evaluate

    def remember(*args):
        made.append(evaluate(*args))
        return made[-1]

    monkeypatch.setattr(metrics, "evaluate", remember)
    return made


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Drawing takes most of an evaluation's time."""
    monkeypatch.setattr(evaluation, "draw", lambda *_: {})


def recalls(evaluations: list[metrics.Evaluation]) -> list[dict[str, float]]:
    return [{n: f["recall"] for n, f in e.per_class().items()} for e in evaluations]


# --- the rule ---


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("anger Angry ANGER", "angry"),
        ("happiness happy Joy", "happy"),
        ("sadness sad", "sad"),
        ("surprised surprise", "surprise"),
        ("disgusted disgust", "disgust"),
        ("fearful afraid scared fear", "fear"),
        ("neutral Neutrality", "neutral"),
        ("contempt", "contempt"),
    ],
)
def test_synonyms_name_one_class(words, name):
    assert {canonical(word) for word in words.split()} == {name}


def test_capitals_spaces_and_composed_letters_do_not_matter():
    assert canonical("  Happiness ") == "happy"
    assert canonical("Not_Sure") == canonical("not-sure") == canonical("not  sure") == "not sure"
    assert canonical("glu\u0308cklich") == canonical("gl\u00fccklich")  # macOS writes the first
    assert canonical("happy") != canonical("unhappy")


def test_the_words_of_legend_and_votes_are_known():
    # A word without its synonym would be left out as an eighth class.
    legend = "anger disgust fear happiness sadness surprise neutral".split()
    assert [canonical(word) for word in legend] == list(muxspace.CLASS_NAMES)
    eight = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
    assert ferplus.FERPLUS_NAMES == eight
    assert [canonical(name) for name in SEVEN] == SEVEN


def test_an_order_is_found_by_name():
    order = class_permutation(["happy", "neutral", "sad"], ["Sadness", "happiness", "neutral"])
    assert order == [2, 0, 1]
    assert class_permutation(["a", "A"], ["a", "A"]) == [0, 1]  # the very same need no rule


def test_other_classes_are_an_error_that_lists_both_sides():
    with pytest.raises(ValueError) as error:
        class_permutation(["happy", "fear"], ["happiness", "contempt"], model="net.safetensors")
    text = str(error.value)
    assert "net.safetensors lacks contempt" in text and "the data lacks fear" in text
    assert "happy, fear" in text and "happiness, contempt" in text


def test_fewer_classes_are_for_measuring_only():
    assert class_permutation(["happy", "fear", "sad"], ["sadness", "joy"], subset=True) == [2, 0]
    with pytest.raises(ValueError, match="lacks fear"):
        class_permutation(["happy", "fear", "sad"], ["sadness", "joy"])
    with pytest.raises(ValueError, match="lacks contempt"):
        class_permutation(["happy", "fear", "sad"], ["sad", "contempt"], subset=True)


def test_two_folders_for_one_class_are_an_error():
    with pytest.raises(ValueError, match="'anger' and 'angry'"):
        class_permutation(["angry", "sad"], ["anger", "angry"], subset=True)


# --- evaluate ---


def test_accuracy_and_recall_do_not_depend_on_the_order_of_the_folders(
    network, drawn, alphabetical, measured, no_figures, tmp_path
):
    evaluation.evaluate(network, faces_of(drawn), tmp_path / "a", CPU)
    original = measured.copy()
    measured.clear()
    evaluation.evaluate(network, read(alphabetical), tmp_path / "b", CPU)
    assert len((original[0].confusion.sum(0) > 0).nonzero()) >= 5  # many classes are answered
    assert [(e.k, e.n) for e in measured] == [(e.k, e.n) for e in original]
    assert recalls(measured) == recalls(original)
    assert len({tuple(r.values()) for r in recalls(original)}) > 1


def test_a_packed_set_is_joined_by_name_too(network, drawn, measured, no_figures, tmp_path):
    file = pack(faces_of(reordered(drawn, sorted(SEVEN))), tmp_path / "drawn.npz", side=32)
    evaluation.evaluate(network, read(str(file)), tmp_path / "a", CPU, ways=["plain"])
    packed = measured.copy()
    measured.clear()
    evaluation.evaluate(network, faces_of(drawn), tmp_path / "b", CPU, ways=["plain"])
    assert recalls(packed) == recalls(measured)


@pytest.mark.parametrize("command", ["evaluate", "ensemble", "explain"])
def test_an_unknown_class_is_named(command, network, drawn, tmp_path):
    root = write_folders(drawn, tmp_path / "other", FOLDERS | {"disgust": "contempt"})
    with pytest.raises(SystemExit) as ended:
        experiments.main([command, str(network), "--data", str(root), "--device", "cpu"])
    assert "net.safetensors lacks contempt" in str(ended.value)
    assert "lacks disgust" in str(ended.value)


def test_data_with_some_of_the_classes_are_measured_and_the_report_says_so(
    network, drawn, measured, monkeypatch, tmp_path, capsys
):
    some = {name: FOLDERS[name] for name in ("neutral", "happy", "angry")}
    faces = read(str(write_folders(drawn, tmp_path / "some", some)))
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "draw", lambda *_: {})
        evaluation.evaluate(network, faces_of(drawn), tmp_path / "all", CPU, ways=["plain"])
    whole = measured.copy()
    measured.clear()
    capsys.readouterr()
    evaluation.evaluate(network, faces, tmp_path / "out", CPU, ways=["plain"])
    for part, full in zip(measured, whole, strict=True):
        rows = [SEVEN.index(name) for name in some]
        # Answers of the other classes stay answers, and mistakes
        assert torch.equal(part.confusion[rows], full.confusion[rows])
        assert part.n == int(full.confusion[rows].sum()) < full.n
        assert set(part.absent) == set(SEVEN) - set(some)
        f1 = [part.per_class()[name]["f1"] for name in some]
        assert part.macro_f1 == pytest.approx(sum(f1) / 3)
    report = evaluation.report_text(measured[-1], "test")
    for text in (capsys.readouterr().out, report):
        assert "classes without a face here: disgust, fear, sad, surprise" in text
    rows = {words[0] for line in report.splitlines() if len(words := line.split()) == 5}
    assert set(some) <= rows and not rows & {"disgust", "fear", "sad", "surprise"}


# --- ensemble ---


def test_members_with_their_classes_in_another_order_agree_with_themselves(
    network, drawn, alphabetical, tmp_path
):
    other = write_network(tmp_path / "other.safetensors", sorted(SEVEN), drawn)
    told = []
    for members, faces, out in (
        ([network], faces_of(drawn), tmp_path / "alone"),
        ([other, network], read(alphabetical), tmp_path / "both"),
    ):
        folder = flagship.ensemble(members, faces, out, CPU, "plain", final=True)
        ((_, results),) = Results(folder.parent).networks()
        told.append({result.key.split: result.evaluation for result in results})
    alone, both = told
    assert set(alone) == {"validation", "test"}
    for split, figures in alone.items():
        assert figures.class_names == tuple(SEVEN)
        assert both[split].class_names == tuple(sorted(SEVEN))
        assert both[split].per_class() == figures.per_class()


def test_members_of_different_classes_are_refused(network, checkpoint, drawn, tmp_path):
    with pytest.raises(ValueError, match="tinyvgg-synthetic.* lacks angry, disgust"):
        flagship.ensemble([network, checkpoint], faces_of(drawn), tmp_path, CPU, "plain")


# --- explain ---


def test_captions_name_the_class_of_the_folder(network, drawn, alphabetical, monkeypatch, tmp_path):
    # Alphabetical labels under FER2013's names: right answers were painted as mistakes
    titles = []
    cams = explanation.plots.cams
    monkeypatch.setattr(
        explanation.plots, "cams", lambda *a, **k: titles.append(a[2]) or cams(*a, **k)
    )
    explanation.explain(network, faces_of(drawn), tmp_path / "a", CPU)
    original = [sorted(found) for found in titles]
    titles.clear()
    explanation.explain(network, read(alphabetical), tmp_path / "b", CPU)
    assert [sorted(found) for found in titles] == original
    single = original[-1]
    assert any("label" in title for title in single) and any("label" not in t for t in single)


# --- teachers ---


def test_a_teachers_columns_are_those_of_the_data(network, drawn):
    rows = torch.arange(42)
    recipe = replace(RECIPES["tinyvgg"], teacher=str(network), teacher_weight=0.5)
    expected = teaching.taught_targets(recipe, faces_of(drawn), rows, CPU)
    names = sorted(SEVEN)
    again = reordered(drawn, names)
    order = [SEVEN.index(name) for name in names]
    for _ in range(2):  # asked, and then remembered
        found = teaching.taught_targets(recipe, faces_of(again, "again"), rows, CPU)
        assert torch.allclose(found, expected[:, order], atol=1e-6)
    assert not torch.allclose(found, expected, atol=0.1)


# --- going on from a checkpoint ---


def test_a_run_goes_on_with_the_classes_of_its_checkpoint(
    network, alphabetical, measured, no_figures
):
    experiments.main(
        ["train", "tinyvgg", "--data", alphabetical, "--init-from", str(network), "--arg",
         "hidden_channels=8", "--epochs", "1", "--lr", "0", "--size", "32", "--no-augment",
         "--device", "cpu"]
    )  # fmt: skip
    _, card = load_checkpoint("checkpoints/tinyvgg-faces.safetensors")
    assert card["class_names"] == SEVEN
    # Validation while training counts the very labels that are learnt: both must agree
    assert card["history"]["val_accuracy"][0] == pytest.approx(measured[0].accuracy, abs=1 / 69)


def test_labels_move_and_the_network_stays(network, drawn, alphabetical):
    recipe = replace(RECIPES["tinyvgg"], init_from=str(network), size=32)
    faces = training.classes_of_start(recipe, read(alphabetical))
    assert faces.class_names == SEVEN
    for split, rows in drawn.items():
        expected = Counter(SEVEN[k] for k in rows["label"])
        assert Counter(SEVEN[k] for k in faces.labels(split).tolist()) == expected
        loader = faces.batches(recipe, 0, CPU)[split]
        assert Counter(SEVEN[k] for k in loader.labels.tolist()) == expected


@pytest.mark.parametrize("option", ["--init-from", "--teacher"])
def test_nothing_is_learnt_with_fewer_classes(option, network, drawn, tmp_path):
    some = {name: FOLDERS[name] for name in ("neutral", "happy", "angry")}
    root = write_folders(drawn, tmp_path / "some", some)
    with pytest.raises(SystemExit, match="lacks disgust, fear, sad, surprise") as ended:
        experiments.main(
            ["train", "tinyvgg", "--data", str(root), option, str(network), "--device", "cpu"]
        )
    assert ("train finetune" in str(ended.value)) == (option == "--init-from")


# --- four classes of seven ---


def test_four_classes_are_merged_by_name(drawn, alphabetical):
    expected = fer2013.merge(drawn)
    merged = read(alphabetical, classes=4)
    assert merged.class_names == ["angry", "happy", "neutral", "sad"]
    for split, rows in expected.items():
        assert Counter(merged.labels(split).tolist()) == Counter(rows["label"])


def test_a_class_that_the_merge_does_not_know_is_named(drawn, tmp_path):
    root = write_folders(drawn, tmp_path / "other", FOLDERS | {"disgust": "contempt"})
    with pytest.raises(ValueError, match="no contempt"):
        read(str(root), classes=4)
