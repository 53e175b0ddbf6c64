"""The command line of the laboratory: what it offers, what it refuses before any data are loaded,
and commands that can be pasted: the one that resumes a run, and the one that a card records.
"""

import errno
import json
import pickle
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import experiments
from augment import Augment
from lab import commands, explanation, flagship, models, series, training
from lab.checks import UsageError, check_recipe
from lab.data import Faces
from lab.options import GROUPS
from lab.parsing import parse
from lab.recipe import Network, Recipe
from lab.recipes import RECIPES, quick
from lab.recording import record_command
from lab.results import Results
from lab.resuming import STATE, find_run
from lab.tensorboard_log import TensorBoardLog

SMALL = ["--size", "24", "--batch-size", "32", "--device", "cpu"]
pytestmark = pytest.mark.slow
ROOT = Path(experiments.__file__).parent


@pytest.fixture(scope="module")
def drawn(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("my data") / "drawn faces"
    splits.save_to_disk(folder)
    return str(folder)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_data(here, monkeypatch):
    """Loading data is a failure: what is wrong must be said before."""
    monkeypatch.setattr(commands, "read", lambda *_, **__: pytest.fail("data were loaded"))


def refused(capsys, *words):
    """What is said, with exit code 2, of a command line that cannot be."""
    with pytest.raises(SystemExit) as ended:
        experiments.main(list(words))
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def recipe_of(*words):
    """The one recipe that a command line trains."""
    (recipe,) = parse(list(words))[1].values()
    return recipe


# --- what it offers ---


def help_text(capsys, monkeypatch, *words):
    monkeypatch.setenv("COLUMNS", "100")  # one column of options
    with pytest.raises(SystemExit) as ended:
        parse([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_setting_is_an_option_with_a_sentence_and_the_systems_default(capsys, monkeypatch):
    text = help_text(capsys, monkeypatch, "train", "expression")
    lines = [line.strip("│ ") for line in text.splitlines()]
    recipe = RECIPES["expression"]
    values = {**vars(recipe), **vars(recipe.augment), "augment": True}
    for name in values.keys() - {"system", "system_args"}:
        option = "--" + name.replace("_", "-")
        (at,) = [
            i for i, line in enumerate(lines) if line.replace(",", " ").split()[:1] == [option]
        ]
        sentence, _, told = " ".join(lines[at : at + 8]).partition("(default: ")
        value = values[name]
        value = " ".join(map(str, value)) if isinstance(value, tuple) else value
        assert told.startswith((f"{value!r})", f"{value})")), (option, told)
        assert len(sentence.split()) > 4, f"{option} has no sentence"


def test_every_field_of_a_recipe_stands_in_a_group():
    # A field beside the groups would be a setting that no command line reaches
    grouped = {f.name for kind in (*GROUPS, Network) for f in fields(kind)}
    beside = {f.name for f in fields(Recipe)} - grouped
    assert beside == {"augment", "final_unaugmented_epochs"}  # `options.Augmentation` has these


def test_help_of_the_program_names_its_commands_and_no_setting(capsys, monkeypatch):
    text = help_text(capsys, monkeypatch)
    for name in (
        "train",
        "flagship",
        "evaluate",
        "ensemble",
        "explain",
        "compare",
        "pack",
        "publish",
    ):
        assert name in text
    assert "--lr" not in text and len(text.splitlines()) <= 36  # what a terminal shows at once


def test_the_command_line_reaches_every_setting():
    recipe = recipe_of("train", "vit_tiny", "--lr", "0.5", "--degrees", "3", "--no-class-weights",
                       "--arg", "patch=6", "--arg", "drop_path=0.1")  # fmt: skip
    assert (recipe.lr, recipe.augment.degrees, recipe.class_weights) == (0.5, 3.0, False)
    assert recipe.system_args == {"size": 48, "patch": 6, "drop_path": 0.1}
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe_of("train", "tinyvgg", "--no-augment").augment is None
    sizes = recipe_of("train", "expression", "--progressive-sizes", "16", "24")
    assert sizes.progressive_sizes == (16, 24)
    assert recipe_of("train", "expression", "--progressive-sizes").progressive_sizes == ()


def test_only_given_options_change_a_systems_own_settings():
    # One set of defaults for all systems would give each the settings of another
    _, recipes = parse(["train", "tinyvgg", "custom_cnn", "hog_svm", "--epochs", "2"])
    for name in ("tinyvgg", "custom_cnn"):
        assert recipes[name] == replace(RECIPES[name], epochs=2)
    assert recipes["hog_svm"] == RECIPES["hog_svm"]  # has no epochs
    _, recipes = parse(["--all", "--quick", "--lr", "0.25"])
    assert recipes.keys() == RECIPES.keys() - {"finetune"}  # no system of the comparison
    assert recipes["resnet18"] == replace(quick(RECIPES["resnet18"]), lr=0.25)


# --- what it refuses, before data are loaded ---


def test_unknown_choices_are_refused_with_the_known_ones(no_data, capsys):
    text = refused(capsys, "train", "tinyvgg", "--optimizer", "lion")
    assert "lion" in text and "adamw" in text
    for name, wrong in (("schedule", "cosine"), ("stop", "f1"), ("precision", "int8"),
                        ("mode", "CMYK"), ("classes", "5")):  # fmt: skip
        text = refused(capsys, "train", "tinyvgg", f"--{name}", wrong)
        assert wrong in text and f"--{name}" in text


def test_unknown_systems_are_refused_with_the_known_ones(no_data, capsys):
    text = refused(capsys, "train", "vgg")
    assert "vgg" in text and "tinyvgg" in text and "hog_svm" in text
    assert "tinyvgg" in refused(capsys, "train")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("vit_tiny --schedule onecycle", "--warmup"),
        ("expression --no-augment", "progressive_sizes"),
        ("tinyvgg --no-augment --degrees 3", "--no-augment"),
        ("tinyvgg --weights imagenet", "--weights"),
        ("tinyvgg --head-epochs 2", "--head-epochs"),
        ("transfer --optimizer sgd", "--optimizer sgd"),
        ("face_transfer --init-from x.safetensors", "--init-from"),
        ("finetune --weights imagenet", "--fine-tune"),
        ("tinyvgg --epochs 0", "--epochs"),
        ("tinyvgg --teacher-weight 1.5", "1.5"),
        ("tinyvgg --flip -0.5", "--flip"),
        ("tinyvgg --limit -5", "--limit"),
        ("tinyvgg --erase 9", "--erase"),
        ("tinyvgg --gamma nan", "--gamma"),
        ("tinyvgg --warmup -1", "--warmup"),
        ("tinyvgg --step-size 0", "--step-size"),
        ("tinyvgg --size 100000", "--size"),
        ("tinyvgg --seed -1", "--seed"),
        ("tinyvgg --batch-size 0", "batch_size"),
        ("tinyvgg --seeds 0", "--seeds"),
        ("hog_svm --lr 0.1", "--lr"),
        ("resnet18 --channels 1 --mean 0.5 --std 0.5", "3 channels"),
        ("tinyvgg --mean 0.5 0.4", "mean"),
        ("vit_tiny --arg size=32", "--size 48"),
        ("tinyvgg --device gpu0", "gpu0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words, told, no_data, capsys):
    assert told in refused(capsys, "train", *words.split())


@pytest.mark.parametrize("name", sorted({recipe.system for recipe in RECIPES.values()}))
def test_an_argument_that_no_network_knows_is_answered_with_the_known_ones(name):
    recipe = next(recipe for recipe in RECIPES.values() if recipe.system == name)
    with pytest.raises(UsageError) as error:
        check_recipe(replace(recipe, system_args={**recipe.system_args, "foo": 3}))
    assert "foo" in str(error.value) and name in str(error.value)
    for known in recipe.system_args:
        assert known in str(error.value)


def test_an_argument_with_a_wrong_value_is_a_sentence(no_data, capsys):
    assert "3x4" in refused(capsys, "train", "gray_resnet", "--arg", "stem=3x4")
    assert "wide" in refused(capsys, "train", "tinyvgg", "--arg", "hidden_channels=wide")
    assert "NAME=VALUE" in refused(capsys, "train", "tinyvgg", "--arg", "stem")


@pytest.mark.parametrize("option", ["--init-from", "--teacher", "--weights"])
def test_a_checkpoint_that_is_not_there_is_named_before_data_are_loaded(option, no_data, here):
    (here / "other.safetensors").touch()
    system = "resnet18" if option == "--weights" else "tinyvgg"
    with pytest.raises(SystemExit, match=r"absent\.safetensors.*other\.safetensors") as ended:
        experiments.main(["train", system, option, "absent.safetensors"])
    assert option in str(ended.value)


def test_a_name_that_no_network_has_is_answered_with_those_that_there_are(no_data, here):
    # "none in ." of a place where expression_small would have been found
    with pytest.raises(SystemExit, match="--init-from nosuch.*expression_small"):
        experiments.main(["train", "tinyvgg", "--init-from", "nosuch"])
    with pytest.raises(SystemExit) as ended:
        experiments.main(["train", "tinyvgg", "--votes", "absent.csv"])
    assert "absent.csv" in str(ended.value) and "expression_small" not in str(ended.value)


def test_measuring_a_checkpoint_that_is_not_there_names_it(no_data, capsys):
    for command in ("evaluate", "ensemble", "explain"):
        with pytest.raises(SystemExit, match=r"absent\.safetensors"):
            experiments.main([command, "absent.safetensors"])
        assert "checkpoint" in refused(capsys, command)


# --- going on ---


def cut_after(monkeypatch, epochs):
    """The power fails while the board of this epoch is written: its state is on disk already."""
    epoch_done = TensorBoardLog.epoch

    def epoch(self, number, history):
        epoch_done(self, number, history)
        if number + 1 == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(TensorBoardLog, "epoch", epoch)


def test_the_printed_command_can_be_pasted(drawn, here, monkeypatch, capsys):
    # Without --out, or with the data's last name only, it would train from the start
    words = ["train", "tinyvgg", "--data", drawn, "--out", "an out", "--epochs", "2", *SMALL]
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(SystemExit) as ended:
            experiments.main(words)
    line = str(ended.value).partition("go on with: ")[2]
    program, *pasted = shlex.split(line)[1:]
    assert program.endswith("experiments.py") and "an out" in pasted and drawn in pasted
    experiments.main(pasted)
    assert "after epoch 1" in capsys.readouterr().out
    assert (here / "an out" / "checkpoints" / "tinyvgg-drawn_faces.safetensors").exists()


def test_resuming_what_was_never_begun_stops(drawn, here, monkeypatch, capsys):
    monkeypatch.setattr(series, "train_network", lambda run: pytest.fail("trained anew"))
    text = refused(capsys, "train", "tinyvgg", "--data", drawn, "--resume", *SMALL)
    assert "tinyvgg" in text and "drawn_faces" in text and "runs" in text
    assert not (here / "checkpoints").exists()


@pytest.mark.parametrize("name", ["x[1]", "a/b", "..", "-x", "a b", "x\n"])
@pytest.mark.parametrize("words", [["--data", "nowhere"], ["--data", "nowhere", "--streaming"]])
def test_a_name_that_cannot_stand_in_file_names_is_refused(name, words, here, capsys):
    # x[1] was not found by --resume, and what a/b measured was in no table
    text = refused(capsys, "train", "tinyvgg", f"--name={name}", *words)
    assert repr(name) in text and "letters, digits" in text


def test_names_are_checked_wherever_they_come_from(here):
    with pytest.raises(ValueError, match="a/b"):
        Faces(None, "a/b", "f")  # a packed file's, for example
    with pytest.raises(ValueError, match="a/b"):
        flagship.check_target(here, "a/b", [])
    for name in ("fer2013", "fer2013-majority", "fer2013+press", "my.set_4", "gesichter_äöü"):
        assert Faces(None, name, "f").name == name


def test_a_run_with_a_pattern_in_its_name_is_found(here):
    folder = here / "20260101-000000" / "x[1]" / "tinyvgg" / "seed0"
    folder.mkdir(parents=True)
    (folder / STATE).touch()
    assert find_run(here, "x[1]", "tinyvgg", "seed0") == folder
    assert find_run(here, "*", "tinyvgg", "seed0") is None


def test_other_settings_are_named_when_going_on(drawn, here, monkeypatch):
    words = ["train", "tinyvgg", "--data", drawn, "--epochs", "2", *SMALL]
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(SystemExit):
            experiments.main(words)
    other = ["--resume", "--lr", "0.1", "--degrees", "4"]
    with pytest.raises(SystemExit, match=r"lr 0\.05 is now 0\.1.*degrees 10 is now 4"):
        experiments.main([*words, *other])
    experiments.main([*words, "--resume"])  # now it is finished
    before = (here / "checkpoints" / "tinyvgg-drawn_faces.safetensors").read_bytes()
    with pytest.raises(SystemExit, match=r"lr 0\.05 is now 0\.1.*finished.*--init-from.*tinyvgg"):
        experiments.main([*words, *other])
    assert (here / "checkpoints" / "tinyvgg-drawn_faces.safetensors").read_bytes() == before


def test_a_full_disk_says_the_epoch_the_file_and_what_is_kept(drawn, here, monkeypatch, capsys):
    words = ["train", "tinyvgg", "--data", drawn, "--epochs", "3", *SMALL]
    save = training.save_state

    def second_time_full(path, **parts):
        if Path(path).exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return save(path, **parts)

    monkeypatch.setattr(training, "save_state", second_time_full)
    text = refused(capsys, *words)
    assert "epoch 2 of 3" in text and "state.pt" in text and "--resume" in text and "--out" in text


def test_a_state_that_would_run_code_is_one_sentence(drawn, here, monkeypatch, capsys):
    words = ["train", "tinyvgg", "--data", drawn, "--epochs", "2", *SMALL]
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(SystemExit):
            experiments.main(words)
    (state,) = here.glob("runs/*/*/*/*/state.pt")
    whole = state.read_bytes()
    torch.save({"states": {}, "values": {"settings": {}}, "random": {}}, here / "other.pt")
    for content in (pickle.dumps(print), whole[:-100], b"", (here / "other.pt").read_bytes()):
        state.write_bytes(content)
        text = refused(capsys, *words, "--resume")
        assert "state.pt" in text and "anew" in text and "weights_only" not in text


def test_a_system_without_epochs_is_not_fitted_again(drawn, here, monkeypatch):
    words = ["train", "hog_svm", "--data", drawn, "--device", "cpu", "--arg", "components=8"]
    experiments.main(words)
    monkeypatch.setattr(series, "train_svm", lambda *_: pytest.fail("fitted again"))
    experiments.main([*words, "--resume"])
    with pytest.raises(SystemExit, match="system_args"):
        experiments.main([*words[:-1], "components=9", "--resume"])


# --- what is written down ---


@pytest.mark.parametrize(
    "words",
    [
        "expression --progressive-sizes 16 24 --init-from checkpoints/my^start.safetensors",
        "vit_tiny --size 36 --arg patch=6 --class-weights --warmup 3",
        "gray_resnet --arg stem=3x3 --flip 0.25 --no-class-weights --seed 4",
        "tinyvgg --quick --no-augment --lr 1e-05 --final",
        "transfer --weights imagenet --mean 0.5 0.4 0.3 --head-epochs 1",
        "expression --progressive-sizes --arg residuals=[0,1,0]",
    ],
)
def test_a_recorded_command_gives_the_same_recipe(words, here):
    words = ["train", *(word.replace("^", " ") for word in words.split()), "--data", "synthetic"]
    command, recipes = parse(words)
    ((name, recipe),) = recipes.items()
    usual = quick(RECIPES[name]) if command.quick else RECIPES[name]
    recorded = record_command(name, recipe, usual, command, command.seed)
    program, again = shlex.split(recorded)[:2], shlex.split(recorded)[2:]
    assert program == ["python", "experiments.py"]
    told, read_again = parse(again)
    assert read_again == {name: recipe}
    for field in ("data", "seed", "quick", "final"):
        assert getattr(told, field) == getattr(command, field)


def test_a_recorded_command_names_no_folder_of_this_machine(drawn, here):
    teacher = here.parent / "elsewhere" / "teacher.safetensors"
    words = ["train", "tinyvgg", "--data", drawn, "--teacher", f"{teacher},{here}/own.safetensors"]
    command, recipes = parse(words)
    recorded = record_command("tinyvgg", recipes["tinyvgg"], RECIPES["tinyvgg"], command, 0)
    assert str(here.parent) not in recorded and str(Path(drawn).parent) not in recorded
    again = shlex.split(recorded)
    assert again[again.index("--data") + 1] == "drawn faces"
    assert again[again.index("--teacher") + 1] == "teacher.safetensors,own.safetensors"


def test_a_recorded_command_says_that_there_is_no_teacher(drawn, here):
    words = ["train", "vit_tiny_distilled", "--data", drawn, "--teacher", ""]
    command, recipes = parse(words)
    (recipe,) = recipes.values()
    name = "vit_tiny_distilled"
    again = record_command(name, recipe, RECIPES[name], command, 0)
    assert parse(shlex.split(again)[2:])[1] == recipes and recipe.teacher == ""


def test_cards_and_commands_with_earlier_names_are_read():
    new = replace(RECIPES["expression"], final_unaugmented_epochs=1, init_from="a.safetensors")
    old = new.as_dict()
    for name, value in (("sides", "progressive_sizes"), ("start", "init_from"),
                        ("plain_epochs", "final_unaugmented_epochs")):  # fmt: skip
        old[name] = old.pop(value)
    assert Recipe.from_dict(old) == new
    words = ["train", "expression", "--plain-epochs", "1", "--start=a.safetensors"]
    assert recipe_of(*words) == new


def test_committed_results_and_their_commands_are_read():
    for network, _ in Results(ROOT / "results").networks():
        content = network.card
        if "system" in content.get("recipe", {}):  # the oldest do without
            recipe = Recipe.from_dict(content["recipe"])
            assert recipe.system == content["system"]
            words = shlex.split(content["command"])[2:]
            again = recipe_of(*words)
            assert (again.lr, again.epochs, again.init_from) == (
                recipe.lr, recipe.epochs, recipe.init_from
            ), network.name  # fmt: skip


# --- what is measured ---


def test_the_test_split_stays_closed_until_final(drawn, here, monkeypatch):
    monkeypatch.setattr(explanation, "explain", lambda *_: [])
    experiments.main(["train", "tinyvgg", "--data", drawn, "--epochs", "1", *SMALL])
    checkpoint = "checkpoints/tinyvgg-drawn_faces.safetensors"
    results = here / "results"
    assert not list(results.glob("*/*-test-*"))
    experiments.main(["compare"])  # a table of validation alone
    for final in ([], ["--final"]):
        experiments.main(["evaluate", checkpoint, "--data", drawn, *final])
        experiments.main(["ensemble", checkpoint, "--data", drawn, *final])
        for name in ("tinyvgg-drawn_faces", "ensemble-drawn_faces"):
            files = (results / name).glob("drawn_faces-*-*.json")
            splits = {path.stem.split("-")[1] for path in files}
            assert splits == {"validation"} | ({"test"} if final else set())
    assert len(Results(results).openings()) == 2


def test_votes_reach_the_reader(here, monkeypatch):
    given = {}

    def read(*_, **kwargs):
        given.update(kwargs)
        raise ValueError("enough")

    monkeypatch.setattr(commands, "read", read)
    with pytest.raises(SystemExit, match=r"votes\.csv"):
        experiments.main(["train", "tinyvgg", "--votes", "votes.csv"])
    (here / "votes.csv").touch()
    with pytest.raises(SystemExit, match="enough"):
        experiments.main(["train", "tinyvgg", "--votes", "votes.csv"])
    assert given == {"votes": "votes.csv"}
    address = "https://example.org/fer2013new.csv"  # as a path it would lose a slash
    with pytest.raises(SystemExit, match="enough"):
        experiments.main(["train", "tinyvgg", "--votes", address])
    assert given == {"votes": address}


@pytest.mark.parametrize(
    "error, words",
    [
        (ValueError("train.parquet row 3:\nno picture"), "train.parquet row 3:; no picture"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("a did not run\nb did not run"), "a did not run; b did not run"),
        (KeyError("image"), "KeyError: 'image'"),
        (TypeError("NoneType has no bytes"), "TypeError: NoneType has no bytes"),
        (ValueError(), "ValueError"),
    ],
)
def test_every_error_is_one_line_and_exit_code_2(error, words, here, monkeypatch, capsys):
    # Of a trace of forty frames, nobody knows which line is about their data.
    def fail(*given):
        raise error

    monkeypatch.setattr(experiments, "run_command", fail)
    for command in (["train", "tinyvgg"], ["evaluate", "a"], ["matrix", "a"], ["pack"]):
        with pytest.raises(SystemExit) as ended:
            experiments.main(command)
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and line.startswith("error: ") and words in line


def test_a_traceback_is_shown_when_asked_for(here, monkeypatch):
    monkeypatch.setenv("EXPRESSION_TRACEBACK", "1")
    with pytest.raises(UsageError):
        experiments.main(["train", "vgg"])


def test_known_arguments_are_those_that_build_takes():
    assert set(models.known_arguments("resnet9")) == {"stem", "widths", "residuals", "dropout"}
    assert set(models.known_arguments("resnet18")) == {"weights", "dropout"}
    with pytest.raises(TypeError):
        models.build("tinyvgg", num_classes=3, foo=3)


def test_augment_has_an_option_for_each_of_its_settings():
    words = [word for f in fields(Augment) for word in (f"--{f.name}", "0")]
    assert recipe_of("train", "tinyvgg", *words).augment == Augment(*[0] * len(fields(Augment)))
