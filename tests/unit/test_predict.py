"""predict.py: what was trained is what answers; what cannot be answered is said in a sentence."""

import csv
import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from expression import about, cli
from expression.checkpoint import (
    CHECKPOINTS,
    default_checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_card,
)
from expression.faces import CropRule
from expression.networks import open_onnx
from expression.pictures import open_picture
from expression.predictor import ExpressionPredictor
from expression.preprocessing import Preprocess
from hf_collate import Batches, decode
from lab import metrics, models
from lab.export import TorchNetwork, save_network

ROOT = Path(__file__).resolve().parents[2]


def load_network(path):
    """The .onnx file, or else the weights in torch: exporting takes seconds a checkpoint."""
    return open_onnx(path) if path.with_suffix(".onnx").exists() else TorchNetwork.load(path)


def open_predictor(path):
    return ExpressionPredictor(path, load_network=load_network)


def network_of(path):
    return models.restore(*load_checkpoint(path)).eval()


@pytest.fixture
def face(drawn_face):
    return drawn_face


@pytest.fixture(scope="module")
def committed():
    """The checkpoint that serves, with its detector."""
    return open_predictor(None)


def test_logits_are_those_of_the_validation_loader(checkpoint, splits, tmp_path):
    # Serving with another resize, colour mode or normalisation is this field's commonest fault
    predictor = open_predictor(checkpoint)
    loader = Batches(decode(splits["test"], predictor.preprocess, tmp_path), 45)
    logits, labels = metrics.collect(network_of(checkpoint), loader)
    served = predictor.logits(splits["test"]["image"][:])
    assert np.allclose(logits.numpy(), served, atol=1e-5)
    assert labels.tolist() == splits["test"]["label"][:]


def test_probabilities_are_sorted_sum_to_one_and_follow_the_temperature(checkpoint, face, tmp_path):
    predictor = open_predictor(checkpoint)
    probs = predictor.predict(face)
    assert set(probs) == {"happy", "neutral", "sad"} and sum(probs.values()) == pytest.approx(1)
    assert list(probs.values()) == sorted(probs.values(), reverse=True)
    assert list(predictor.predict(face, top_k=2).items()) == list(probs.items())[:2]
    warm = save_network(
        tmp_path / "warm.safetensors",
        network_of(checkpoint),
        {**predictor.card, "temperature": 4.0},
    )
    assert max(open_predictor(warm).predict(face).values()) < max(probs.values())


def test_path_string_and_picture_give_the_same_answer_one_by_one_or_together(checkpoint, face):
    predictor = open_predictor(checkpoint)
    one = predictor.predict(face)
    assert predictor.predict(str(face)) == predictor.predict(Image.open(face)) == one
    for answer in predictor.predict_batch([face, face]):
        assert answer == pytest.approx(one, abs=1e-6)
    assert predictor.predict_batch([]) == []


def test_box_is_cropped_as_training_pictures_were_and_one_outside_is_refused(checkpoint, face):
    # A box that was cut out bare would show the network a tighter face than it ever saw
    predictor, picture = open_predictor(checkpoint), Image.open(face).convert("RGB")
    wide = Image.new("RGB", (200, 100))
    wide.paste(picture, (100, 20))
    predictor.crop = CropRule(0.5, 0.5, size=0.75)  # the face's box is 36 of 48 pixels
    assert predictor.predict(wide, box=(106, 26, 36, 36)) == predictor.predict(picture)
    assert predictor.predict(wide, box=(106, 26, 36, 36)) != predictor.predict(
        wide, (100, 20, 48, 48)
    )
    with pytest.raises(ValueError, match="no part of a 200 × 100 picture"):
        predictor.predict(wide, box=(300, 0, 10, 10))
    with pytest.raises(ValueError, match="far larger"):  # its crop would fill the memory
        predictor.predict(wide, box=(0, 0, 100_000, 100_000))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_any_picture_mode_is_answered(checkpoint, mode):
    assert open_predictor(checkpoint).predict(Image.new(mode, (50, 60)))


def test_crop_comes_from_the_card_and_older_cards_get_the_default(checkpoint, tmp_path):
    rule, bare = CropRule(0.4, 0.6, 0.7, measured=9), open_predictor(checkpoint)
    assert bare.crop == CropRule()
    card = {**bare.card, "crop": rule.settings()}
    path = save_network(tmp_path / "c.safetensors", network_of(checkpoint), card)
    assert open_predictor(path).crop == rule
    path = save_network(
        tmp_path / "d.safetensors", network_of(checkpoint), {**card, "crop": {"loose": 1}}
    )
    with pytest.raises(ValueError, match="does not fit this version.*loose"):
        open_predictor(path)


def test_same_answer_through_every_door(committed, portrait):
    # A demo that crops otherwise than the command line would give one face two answers
    seen = committed.find(portrait)
    assert (
        len(seen) == 1 and seen[0].score > 0.9 and sum(seen[0].probs.values()) == pytest.approx(1)
    )
    crop = committed.crop(open_picture(portrait), seen[0].box, seen[0].tilt)
    assert committed.predict(crop) == pytest.approx(seen[0].probs, abs=1e-6)
    assert committed.find_batch([open_picture(portrait)])[0][0].probs == pytest.approx(
        seen[0].probs
    )
    bgr = np.asarray(Image.open(portrait).convert("RGB"))[..., ::-1]  # as cv2.imread gives it
    box, probs = committed.find(bgr)[0].box, committed.find(bgr)[0].probs
    assert box == seen[0].box and probs == pytest.approx(seen[0].probs, abs=1e-6)


def test_methods_of_the_fer_package_answer_as_that_package_does(committed, portrait):
    array = np.asarray(Image.open(portrait).convert("RGB"))[..., ::-1]
    answers = committed.detect_emotions(array)
    assert isinstance(answers, list) and list(answers[0]) == ["box", "emotions"]
    assert len(answers[0]["box"]) == 4 and all(type(v) is int for v in answers[0]["box"])
    names = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    shares = answers[0]["emotions"]
    assert list(shares) == names and all(type(v) is float for v in shares.values())
    assert all(round(v, 2) == v for v in shares.values()) and 0.95 < sum(shares.values()) < 1.05
    name, share = committed.top_emotion(array)
    assert (name, share) == max(shares.items(), key=lambda item: item[1])
    box = np.array(answers[0]["box"])  # the detector of another library hands over arrays
    upright = replace(committed.find(portrait)[0], tilt=0.0).box
    assert committed.detect_emotions(array, [box])[0]["box"] == upright
    empty = np.full((200, 200, 3), 90, np.uint8)
    assert committed.detect_emotions(empty) == [] and committed.top_emotion(empty) == (None, None)


@pytest.mark.slow
def test_onnx_answers_as_torch_does_and_an_outdated_file_is_refused(checkpoint, face, tmp_path):
    path = Path(shutil.copy(checkpoint, tmp_path / "c.safetensors"))
    torch_probs = open_predictor(path).predict(face)
    assert run_command("--export-onnx", "--checkpoint", path) == 0
    assert ExpressionPredictor(path).predict(face) == pytest.approx(torch_probs, abs=1e-6)
    save_network(path, network_of(path), {**read_card(path), "seed": 99})
    with pytest.raises(ValueError, match="exported from another"):
        ExpressionPredictor(path)
    assert run_command("--export-onnx", "--checkpoint", path) == 2, "it replaced another's file"


def run_command(*arguments):
    """The exit code of `python predict.py`."""
    words = [str(a) for a in arguments]
    return cli.main(words, load_network=load_network)


def run(capsys, *arguments):
    code = run_command(*arguments)
    out = capsys.readouterr()
    return code, out.out, out.err


def test_command_line_prints_bars_and_json(checkpoint, face, capsys):
    code, out, _ = run(capsys, face, "--checkpoint", checkpoint, "--top-k", 2, "--whole")
    assert code == 0 and out.count("%") == 2
    out = run(capsys, face, "--checkpoint", checkpoint, "--json", "--whole")[1]
    answer = json.loads(out)[0]["faces"][0]
    assert answer["box"] == [0, 0, 48, 48] and answer["expression"] in answer["probabilities"]
    assert answer["probabilities"] == open_predictor(checkpoint).predict(face)


def test_folder_to_csv_and_drawn_pictures(committed, portrait, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(portrait, folder / "a.png")
    shutil.copy(portrait, folder / "deep" / "a.png")  # the same name must not overwrite the other
    Image.new("RGB", (90, 90)).save(folder / "empty.png")
    (folder / "notes.txt").write_text("no picture, not asked for")
    code, said, _ = run(capsys, folder, "--annotate", out, "--csv", tmp_path / "t" / "out.csv")
    assert code == 0 and "no face found" in said
    rows = list(csv.DictReader((tmp_path / "t" / "out.csv").open(encoding="utf-8")))
    assert [r["face"] for r in rows] == ["1", "1", "0"]
    seen = committed.find(portrait)[0]
    assert [int(rows[0][k]) for k in ("x", "y", "width", "height")] == list(seen.box)
    assert float(rows[0][seen.expression]) == pytest.approx(seen.probs[seen.expression], abs=1e-3)
    assert rows[2]["expression"] in ("", None)
    assert sorted(p.name for p in out.iterdir()) == ["a-2.jpg", "a.jpg", "empty.jpg"]
    plain, drawn = (
        np.asarray(Image.open(p).convert("RGB"), int) for p in (portrait, out / "a.jpg")
    )
    assert plain.shape == drawn.shape and np.abs(plain - drawn).max() > 100, "nothing was drawn"


def test_boxes_of_a_large_photo_are_in_its_own_pixels(committed, portrait, tmp_path, capsys):
    # Large JPEGs are decoded at a half: the CSV must not carry the smaller picture's boxes
    small = Image.open(portrait).convert("RGB")
    large = tmp_path / "large.jpg"
    small.resize((4608, 4608)).save(large)
    box = json.loads(run(capsys, large, "--json")[1])[0]["faces"][0]["box"]
    wanted = [9 * v for v in committed.find(portrait)[0].box]
    assert box == pytest.approx(wanted, abs=0.05 * 4608)
    assert [list(face.box) for face in committed.find(large)] == [box]  # the library says the same


def test_a_folders_run_ends_with_what_it_passed_over(checkpoint, face, tmp_path, capsys):
    # A folder of raw photos with one JPEG was answered for the JPEG, without a word of the rest
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(face, folder / "a.jpe")
    for name in ("IMG_1.CR2", "IMG_2.CR2", "notes.txt"):
        (folder / name).touch()
    given = (folder, "--checkpoint", checkpoint, "--whole", "--json")
    code, out, err = run(capsys, *given)
    assert code == 0 and len(json.loads(out)) == 1, "standard output is for programs"
    (line,) = err.splitlines()
    assert "3 files" in line and "2 .cr2" in line and "1 .txt" in line
    for name in ("IMG_1.CR2", "IMG_2.CR2", "notes.txt"):
        (folder / name).unlink()
    assert run(capsys, *given)[2] == ""


def test_video_becomes_an_annotated_video_a_table_and_a_figure(portrait, tmp_path, capsys):
    import av

    with av.open(tmp_path / "clip.mp4", "w") as clip:
        stream = clip.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        picture = Image.open(portrait).convert("RGB")
        for shift in range(12):
            frame = picture.crop((shift * 4, 0, 320 + shift * 4, 320))
            clip.mux(stream.encode(av.VideoFrame.from_image(frame)))
        clip.mux(stream.encode())
    code, said, _ = run(capsys, tmp_path / "clip.mp4", "--annotate", tmp_path / "out")
    assert code == 0 and "12 frames, 1.1 s, 1 face followed" in said
    rows = list(csv.DictReader((tmp_path / "out" / "clip.csv").open(encoding="utf-8")))
    assert len(rows) == 12 and {row["track"] for row in rows} == {"1"}
    assert int(rows[-1]["x"]) < int(rows[0]["x"]) - 30, "the box did not follow the face"
    assert Image.open(tmp_path / "out" / "clip.png").width > 300
    with av.open(tmp_path / "out" / "clip.mp4") as drawn:
        assert sum(1 for _ in drawn.decode(video=0)) == 12


def test_one_broken_picture_does_not_lose_the_others(checkpoint, face, tmp_path, capsys):
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:1500])
    (tmp_path / "bare").mkdir()
    code, out, err = run(
        capsys, tmp_path / "bare", text, face, tmp_path / "none.png", cut,
        "--checkpoint", checkpoint, "--json", "--whole",
    )  # fmt: skip
    assert code == 2
    assert [a["picture"] for a in json.loads(out)] == [str(face)]
    lines = err.strip().splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines)
    for line, reason in zip(
        lines, ("bare", "not a picture", "there is no picture", "broken"), strict=True
    ):
        assert reason in line


def test_many_pictures_leave_torchs_threads_to_others(checkpoint, face):
    # A visitor who came while another had sent several pictures kept one thread for ever
    from expression.picture_batches import answer_pictures

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        answers = answer_pictures(open_predictor(checkpoint), [str(face)] * 20, whole=True)
        next(answers)
        assert torch.get_num_threads() == 2
        assert len([answer for answer in answers if answer.faces]) == 19
    finally:
        torch.set_num_threads(before)


def test_an_interrupt_leaves_the_rows_so_far(portrait, tmp_path, monkeypatch):
    whole = cli.answer_pictures

    def cut_short(*args):
        yield from islice(whole(*args), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "answer_pictures", cut_short)
    names = [shutil.copy(portrait, tmp_path / f"{i}.png") for i in range(4)]
    table = tmp_path / "out.csv"
    code = run_command(*names, "--annotate", tmp_path / "o", "--csv", table)
    assert code == 130
    assert len(table.read_text(encoding="utf-8").splitlines()) == 3


def test_command_line_mistakes_are_one_sentence_and_exit_code_2(face, tmp_path, capsys):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, foreign)
    cases = {
        ("",): "no picture given",
        ("x.png", "--checkpoint", "none.safetensors"): "no checkpoint",
        (str(face), "--checkpoint", str(foreign)): "of another system",
        (str(face), "--top-k", "0"): "--top-k is 0",
        (str(face), "--csv", str(face)): "give the name of a table",
        (str(face), "--csv", "-"): "--csv is -",
    }
    for arguments, reason in cases.items():
        assert run_command(*filter(None, arguments)) == 2
        said = capsys.readouterr().err
        assert reason in said and said.count("\n") == 1, said


def test_checkpoint_that_does_not_fit_its_card_is_refused(checkpoint, tmp_path):
    card = read_card(checkpoint)
    model = models.build("tinyvgg", num_classes=3, in_channels=1)
    for changed, reason in (
        ({"system": "resnet18", "preprocess": Preprocess(8).settings()}, "hidden_channels"),
        ({"system": "unheard"}, "no system 'unheard'"),
        ({"class_names": ["a", "b"]}, "tensor"),
        ({"preprocess": {"size": 8, "colour": 1}}, "colour"),
    ):
        path = save_network(tmp_path / "bad.safetensors", model, {**card, **changed})
        with pytest.raises(ValueError, match=f"does not fit this version.*({reason})"):
            open_predictor(path)
    bare = save_network(tmp_path / "bare.safetensors", model, {})
    with pytest.raises(ValueError, match="class_names"):
        open_predictor(bare)


def test_default_is_the_checkpoint_with_the_most_trustworthy_figures(checkpoint, tmp_path):
    model, card = network_of(checkpoint), read_card(checkpoint)
    for name, data, k, n in (
        ("drawn", "synthetic", 900, 1000),
        ("small", "photos", 44, 45),
        ("large", "fer2013", 2000, 3589),
        ("larger", "fer2013", 2500, 3589),
    ):
        save_network(
            tmp_path / "c" / f"{name}.safetensors",
            model,
            {**card, "data": {"name": data, "fingerprint": "0"}, "validation": {"k": k, "n": n}},
        )
    (tmp_path / "c" / "broken.safetensors").write_text("")
    assert list(list_checkpoints(tmp_path / "c")) == ["larger", "large", "small", "drawn"]
    with pytest.raises(FileNotFoundError, match="make notebook"):
        default_checkpoint(tmp_path)


def test_the_demo_offers_first_what_the_notebook_exported(checkpoint, tmp_path):
    # It came last, after networks with more validation pictures
    from demo import make_handlers
    from expression.app.layout import build_demo

    model, card = network_of(checkpoint), read_card(checkpoint)
    figures, notebook = {"k": 37, "n": 45}, {"command": "make notebook"}
    for name, data, changed in (
        ("best", "fer2013", {"validation": {"k": 2500, "n": 3589}}),
        ("exported", "small_expressions", {**notebook, "validation": figures, "test": figures}),
        ("candidate-0", "small_expressions", {**notebook, "validation": None}),
        ("drawn", "synthetic", {**notebook, "validation": figures, "test": figures}),
    ):
        about = {"data": {"name": data, "fingerprint": "0"}, **changed}
        save_network(tmp_path / f"{name}.safetensors", model, {**card, **about})
    assert list(list_checkpoints(tmp_path)) == ["best", "exported", "candidate-0", "drawn"]
    assert default_checkpoint(tmp_path).stem == "best"
    blocks = build_demo(make_handlers(tmp_path)).blocks.values()
    (offered,) = [block for block in blocks if getattr(block, "label", "") == "Checkpoint"]
    assert offered.value == "exported"
    assert [name for _, name in offered.choices] == ["exported", "best", "candidate-0", "drawn"]


def test_the_notebook_says_in_the_card_that_it_made_the_file():
    # `checkpoints` knows the notebook's export by it
    source = (ROOT / "Expression_detect.ipynb").read_text(encoding="utf-8")
    assert r"\"command\": \"make notebook\"" in source


def test_committed_checkpoint_loads_answers_and_has_its_card():
    name, card = next(iter(list_checkpoints().items()))
    path = CHECKPOINTS / f"{name}.safetensors"
    assert path.stat().st_size < 25e6
    headline = about.headline(card)
    assert headline in path.with_suffix(".md").read_text(encoding="utf-8")
    assert len(open_predictor(path).predict(Image.new("L", (48, 48), 128))) == 7


def test_an_answer_that_is_no_number_is_refused(checkpoint, face):
    # A checkpoint with NaN among its weights answered "nan" for every expression
    broken = ExpressionPredictor(
        checkpoint, load_network=lambda path: lambda x: x[:, 0, 0, :3] * np.nan
    )
    with pytest.raises(ValueError, match=f"{checkpoint.name} answers what is no number"):
        broken.predict(face)
