"""The demo's answers without its page: photos, maps, what is refused, what is said of a network."""

import os
import shutil
import threading
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image, ImageChops, ImageColor, ImageStat

import demo
from expression import networks
from expression.app.examples import EXAMPLES
from expression.app.handlers import Handlers
from expression.app.layout import build_demo
from expression.checkpoint import load_checkpoint
from expression.drawing import colour_of
from expression.file_kinds import picture_endings
from lab import face_maps, models
from lab.export import TorchNetwork, save_network
from tools.draw_examples import example_pictures

SERVED = "expression-fer2013"
CENTRE = (224.5, 117.5)  # of the astronaut's face
GROUND = (90, 110, 100)


@pytest.fixture(scope="module")
def handlers(served_folder):
    return demo.make_handlers(served_folder)


@pytest.fixture(scope="module")
def predictor(handlers):
    return handlers.predictor(SERVED)


def middle(box):
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def test_one_face_is_boxed_and_answered_as_by_predict_py(handlers, predictor, portrait):
    drawn, html, maps, faces = handlers.photo(str(portrait), SERVED, False, False)
    (seen,) = predictor.find(portrait)
    assert (
        faces == [{"box": list(seen.box), "sure": True, "probabilities": seen.probs}] and not maps
    )
    assert html.count('class="face"') == 1
    x, y, width, height = seen.box
    colour = ImageColor.getrgb(colour_of(seen.expression))
    assert drawn.getpixel((x, y + height // 2)) == drawn.getpixel((x + width // 2, y)) == colour


def save_alpha(picture, path):
    mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, 0, 100, 400))  # beside the face
    picture.putalpha(mask)
    picture.save(path)


def save_sideways(picture, path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the phone was turned: a reader has to turn it back
    picture.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)


def save_animation(picture, path):
    picture.save(path, save_all=True, append_images=[Image.new("RGB", picture.size)])


def save_40_megapixels(picture, path):
    large = Image.new("RGB", (7300, 5600), GROUND)
    large.paste(picture.resize((3584, 2800), Image.Resampling.BILINEAR), (2000, 1400))
    large.save(path, quality=80)


@pytest.mark.parametrize(
    "save, name, scale, left, top",
    [
        (save_alpha, "alpha.png", 1, 0, 0),
        (save_sideways, "phone.jpg", 1, 0, 0),
        (save_animation, "moving.gif", 1, 0, 0),
        (save_40_megapixels, "large.jpg", 7, 2000, 1400),
    ],
)
def test_in_whatever_file_the_box_is_told_upright_and_in_its_pixels(
    save, name, scale, left, top, handlers, astronaut, tmp_path
):
    save(astronaut.crop((0, 0, 512, 400)), tmp_path / name)
    drawn, _, _, faces = handlers.photo(str(tmp_path / name), SERVED, False, False)
    assert drawn.width > drawn.height and drawn.mode == "RGB"
    (face,) = faces
    assert middle(face["box"]) == pytest.approx(
        (CENTRE[0] * scale + left, CENTRE[1] * scale + top), abs=10 * scale
    )


@pytest.mark.parametrize("size", [(1, 1), (300, 200)])
def test_where_nobody_is_it_says_what_to_try(size, handlers, tmp_path):
    Image.new("RGB", size, GROUND).save(tmp_path / "empty.png")
    drawn, html, *lists = handlers.photo(str(tmp_path / "empty.png"), SERVED, False, True)
    assert drawn.size == size and lists == [[], []]
    assert "No face was found" in html and "already cropped" in html


def test_what_cannot_be_answered_is_one_sentence(handlers, portrait, letter):
    video = letter.with_suffix(".mp4")
    for answer, file, name, reason in (
        (handlers.photo, None, SERVED, "no picture yet"),
        (handlers.photo, letter, SERVED, "letter.jpg is not a picture"),
        (handlers.photo, portrait, "gone", "no checkpoint gone"),
        (handlers.several, [str(portrait)], "gone", "no checkpoint gone"),
        (handlers.video, None, SERVED, "no video yet"),
        (handlers.video, video, SERVED, "letter.mp4 is not a video"),
        (handlers.several, [], SERVED, "no pictures yet"),
    ):
        more = [False, False] if answer == handlers.photo else []
        with pytest.raises(gr.Error) as caught:
            list(answer(file if isinstance(file, list) else file and str(file), name, *more))
        assert reason in caught.value.message and "\n" not in caught.value.message
        # Where uploads lie is nobody's business
        assert str(letter.parent) not in caught.value.message


def test_a_name_that_is_no_utf8_tells_no_folder_either(handlers, tmp_path, monkeypatch):
    # Errors show such a name with escapes: looked for as it is, the folder would stay in them
    odd = os.path.join(tmp_path, os.fsdecode(b"caf\xe9.jpg"))
    try:
        Path(odd).write_bytes(b"no picture")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(gr.Error) as caught:
        handlers.photo(odd, SERVED, False, False)
    warned = []
    monkeypatch.setattr(gr, "Warning", warned.append)
    assert handlers.several([odd], SERVED) == []
    for said in (caught.value.message, *warned):
        assert said.startswith("caf\\xe9.jpg is not a picture") and str(tmp_path) not in said


def test_the_page_takes_every_form_that_opens(handlers):
    page = build_demo(handlers)
    (files,) = (b for b in page.blocks.values() if isinstance(b, gr.File) and b.file_types)
    assert picture_endings() <= set(files.file_types)


def test_a_map_is_not_disturbed_by_another_visitors_answer(checkpoint, splits):
    one, another = splits["test"][0]["image"], splits["test"][1]["image"]
    (alone,) = face_maps.face_maps(checkpoint, [one])
    busy = threading.Lock()

    def somebody_else(*_):
        if busy.acquire(blocking=False):  # their own answer calls this too
            other = threading.Thread(target=face_maps.face_maps, args=(checkpoint, [another]))
            other.start()
            other.join()
            busy.release()

    model, _ = face_maps._loaded(checkpoint, checkpoint.stat().st_mtime)
    hook = model.head[2].register_forward_hook(somebody_else)
    (together,) = face_maps.face_maps(checkpoint, [one])
    hook.remove()
    assert together.tobytes() == alone.tobytes()


def test_a_new_export_under_the_same_name_counts_at_once(checkpoint, drawn_face, tmp_path):
    path = shutil.copy(checkpoint, tmp_path / checkpoint.name)
    handlers = Handlers(tmp_path, load_network=TorchNetwork.load)  # exporting takes seconds
    before = handlers.photo(str(drawn_face), path.stem, True, False)[3]
    state, card = load_checkpoint(path)
    model = models.restore(state, card)
    model.head[2].weight.data.mul_(-3)
    save_network(path, model, card)
    os.utime(path, (0, 0))
    assert handlers.photo(str(drawn_face), path.stem, True, False)[3] != before


def test_the_page_is_told_what_a_program_gets(handlers, portrait):
    # The page's callbacks add only what shows and hides its parts
    drawn, html, maps, faces = handlers.photo(str(portrait), SERVED, False, False)
    shown = handlers.show_photo(str(portrait), SERVED, False, False)
    assert (shown[1], shown[3]) == (html, faces) and shown[2]["visible"] is False
    assert shown[0].tobytes() == drawn.tobytes() and not maps
    assert handlers.update_photo(None, SERVED, False, False)[3] is None
    with pytest.raises(gr.Error, match="no picture yet"):
        handlers.show_photo(None, SERVED, False, False)


def test_about_says_what_trained_it_and_what_it_cannot_tell(checkpoint):
    words = demo.make_handlers(checkpoint.parent).about(checkpoint.stem)
    for part in ("trained on synthetic", "/45", "happy, neutral, sad", "never what somebody feels"):
        assert part in words


def test_without_a_checkpoint_it_says_what_to_do(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--checkpoints", str(tmp_path)])
    assert "make notebook" in capsys.readouterr().err


def test_without_torch_the_page_offers_what_can_answer_and_maps_by_covering(
    served_folder, portrait, tmp_path, monkeypatch
):
    for path in filter(Path.is_file, served_folder.iterdir()):  # no export of an earlier test
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(networks, "find_spec", lambda name: None)
    light = demo.make_handlers(tmp_path)
    blocks = list(build_demo(light, demo.portrait(), demo.drawn_faces()).blocks.values())
    (offered,) = [b for b in blocks if getattr(b, "label", "") == "Checkpoint"]
    assert [name for name, _ in offered.choices] == [SERVED]  # the TinyVGG has no .onnx
    labels = " ".join(str(getattr(b, "label", "")) for b in blocks)
    assert "covering" in labels and "Grad-CAM" not in labels
    *_, maps, faces = light.photo(str(portrait), SERVED, False, True)
    assert len(maps) == len(faces) == 1 and maps[0].size == (240, 240)


def test_the_examples_are_those_that_the_laboratory_draws():
    # A drawing that changed, and examples that nobody wrote again
    drawn = dict(example_pictures())
    assert {path.name for path in EXAMPLES.iterdir()} == drawn.keys()
    for name, picture in drawn.items():
        with Image.open(EXAMPLES / name) as kept:
            apart = ImageStat.Stat(ImageChops.difference(kept.convert("RGB"), picture)).mean
        assert max(apart) < 6, name  # JPEG
    assert len(demo.portrait()) == 1 and len(demo.drawn_faces()) == len(drawn) - 1
