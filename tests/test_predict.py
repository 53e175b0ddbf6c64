"""predict.py: what was trained is what answers; what cannot be answered is said in a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import predict
import systems
from hf_collate import Batches, Preprocess, decode
from insight import metrics, model_card
from predict import ExpressionPredictor
from train_loop import read_card, save_checkpoint

ROOT = Path(predict.__file__).parent


@pytest.fixture
def face(tmp_path, splits):
    path = tmp_path / "face.png"
    splits["test"][0]["image"].save(path)
    return path


def command(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "predict.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_logits_are_those_of_the_validation_loader(checkpoint, splits, tmp_path):
    # Serving with another resize, colour mode or normalisation is this field's commonest fault
    predictor = ExpressionPredictor(checkpoint)
    loader = Batches(decode(splits["test"], predictor.preprocess, tmp_path), 45)
    logits, labels = metrics.collect(predictor.model, loader)
    assert torch.equal(logits, predictor.logits(splits["test"]["image"][:]))
    assert labels.tolist() == splits["test"]["label"][:]


def test_probabilities_are_sorted_sum_to_one_and_follow_the_temperature(checkpoint, face, tmp_path):
    predictor = ExpressionPredictor(checkpoint)
    probs = predictor.predict(face)
    assert set(probs) == {"happy", "neutral", "sad"} and sum(probs.values()) == pytest.approx(1)
    assert list(probs.values()) == sorted(probs.values(), reverse=True)
    assert list(predictor.predict(face, top_k=2).items()) == list(probs.items())[:2]
    warm = save_checkpoint(
        tmp_path / "warm.safetensors", predictor.model, {**predictor.card, "temperature": 4.0}
    )
    assert max(ExpressionPredictor(warm).predict(face).values()) < max(probs.values())


def test_path_string_and_picture_give_the_same_answer_one_by_one_or_together(checkpoint, face):
    predictor = ExpressionPredictor(checkpoint)
    one = predictor.predict(face)
    assert predictor.predict(str(face)) == predictor.predict(Image.open(face)) == one
    for answer in predictor.predict_batch([face, face]):
        assert answer == pytest.approx(one, abs=1e-6)
    assert predictor.predict_batch([]) == []


def test_box_is_cut_out_and_one_outside_is_refused(checkpoint, face):
    predictor, picture = ExpressionPredictor(checkpoint), Image.open(face).convert("RGB")
    wide = Image.new("RGB", (200, 100))
    wide.paste(picture, (100, 20))
    assert predictor.predict(wide, box=(100, 20, 48, 48)) == predictor.predict(picture)
    with pytest.raises(ValueError, match="no part of a 200 × 100 picture"):
        predictor.predict(wide, box=(300, 0, 10, 10))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_any_picture_mode_is_answered(checkpoint, mode):
    assert ExpressionPredictor(checkpoint).predict(Image.new(mode, (50, 60)))


def test_command_line_prints_bars_and_json(checkpoint, face):
    shown = command(face, "--checkpoint", checkpoint, "--top-k", 2)
    assert shown.returncode == 0 and shown.stdout.count("%") == 2, shown.stderr
    answer = json.loads(command(face, face, "--checkpoint", checkpoint, "--json").stdout)
    assert len(answer) == 2 and answer[0]["expression"] in answer[0]["probabilities"]
    assert answer[0]["probabilities"] == ExpressionPredictor(checkpoint).predict(face)


def test_one_broken_picture_does_not_lose_the_others(checkpoint, face, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:1500])
    done = command(
        text, face, tmp_path / "none.png", cut, tmp_path, "--checkpoint", checkpoint, "--json"
    )
    assert done.returncode == 2
    assert [a["picture"] for a in json.loads(done.stdout)] == [str(face)]
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines)
    for line, reason in zip(
        lines, ("not a picture", "there is no picture", "broken", "is a folder"), strict=True
    ):
        assert reason in line


def test_command_line_mistakes_are_one_sentence_and_exit_code_2(face, tmp_path, capsys):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, foreign)
    cases = {
        ("",): "no picture given",
        ("x.png", "--checkpoint", "none.safetensors"): "no checkpoint",
        (str(face), "--checkpoint", str(foreign)): "of another system",
        (str(face), "--top-k", "0"): "--top-k is 0",
    }
    for arguments, reason in cases.items():
        assert predict.main([a for a in arguments if a]) == 2
        said = capsys.readouterr().err
        assert reason in said and said.count("\n") == 1, said


def test_checkpoint_that_does_not_fit_its_card_is_refused(checkpoint, tmp_path):
    card = read_card(checkpoint)
    model = systems.build("tinyvgg", num_classes=3, in_channels=1)
    for changed, reason in (
        ({"system": "resnet18", "preprocess": Preprocess(8).settings()}, "hidden_channels"),
        ({"system": "unheard"}, "no system 'unheard'"),
        ({"class_names": ["a", "b"]}, "state_dict"),
        ({"preprocess": {"size": 8, "colour": 1}}, "colour"),
    ):
        path = save_checkpoint(tmp_path / "bad.safetensors", model, {**card, **changed})
        with pytest.raises(ValueError, match=f"does not fit this version.*({reason})"):
            ExpressionPredictor(path)
    bare = save_checkpoint(tmp_path / "bare.safetensors", model, {})
    with pytest.raises(ValueError, match="class_names"):
        ExpressionPredictor(bare)


def test_default_is_the_checkpoint_with_the_most_trustworthy_figures(checkpoint, tmp_path):
    model, card = ExpressionPredictor(checkpoint).model, read_card(checkpoint)
    for name, data, k, n in (
        ("drawn", "synthetic", 900, 1000),
        ("small", "photos", 44, 45),
        ("large", "fer2013", 2000, 3589),
        ("larger", "fer2013", 2500, 3589),
    ):
        save_checkpoint(
            tmp_path / "c" / f"{name}.safetensors",
            model,
            {**card, "data": {"name": data, "fingerprint": "0"}, "validation": {"k": k, "n": n}},
        )
    (tmp_path / "c" / "broken.safetensors").write_text("")
    assert list(predict.checkpoints(tmp_path / "c")) == ["larger", "large", "small", "drawn"]
    with pytest.raises(FileNotFoundError, match="make notebook"):
        predict.default_checkpoint(tmp_path)


def test_committed_checkpoint_loads_answers_and_has_its_card():
    name, card = next(iter(predict.checkpoints().items()))
    path = predict.CHECKPOINTS / f"{name}.safetensors"
    assert path.stat().st_size < 25e6
    assert path.with_suffix(".md").read_text(encoding="utf-8") == model_card.markdown(card, name)
    assert len(ExpressionPredictor(path).predict(Image.new("L", (48, 48), 128))) == 7


def test_quoted_figures_are_those_of_the_committed_file():
    # A checkpoint replaced without its results JSON would be quoted with another one's figures
    for path in sorted((ROOT / "checkpoints").glob("*-fer2013.safetensors")):
        report = json.loads((ROOT / "results" / f"{path.stem}.json").read_text(encoding="utf-8"))
        card = read_card(path)
        for split in ("validation", "test"):
            assert {k: report[split]["plain"][k] for k in ("k", "n")} == card[split]
