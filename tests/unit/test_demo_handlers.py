"""The demo's answers without its page: photos, maps, what is refused, what is said of a network."""

import csv
import io
import os
import re
import shutil
import threading
import zipfile
from html import unescape
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image, ImageChops, ImageColor, ImageStat

import demo
from expression import cli, networks
from expression.about import headline, purpose
from expression.app.examples import CLIPS, DRAWN, EXAMPLES, PHOTOS
from expression.app.handlers import Handlers
from expression.app.layout import DRAWN_TITLE, build_demo
from expression.checkpoint import CHECKPOINTS, list_checkpoints, load_checkpoint, save_checkpoint
from expression.drawing import colour_of
from expression.file_kinds import picture_endings
from expression.frames import read_frames
from expression.predictor import ExpressionPredictor
from expression.video_files import follow_video
from lab import face_maps, models
from lab.export import TorchNetwork, save_network
from tools.draw_examples import clip_frames, drawn_faces, example_pictures

SERVED = "expression-fer2013"
CENTRE = (224.5, 117.5)  # of the astronaut's face
GROUND = (90, 110, 100)

PICTURES = {"photo", "update_photo", "show_photo", "predict", "several", "show_several"}


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


@pytest.mark.parametrize("name", [None, "", "gone", "../gone", "/etc/gone", 7, ["gone"], {}])
def test_what_is_no_checkpoint_is_one_sentence_without_the_servers_folder(name, handlers, portrait):
    # `null` was answered with the folder on the server's disk
    said = [unescape(handlers.about(name)), handlers.details(name)]
    for answer in (
        handlers.predict,
        lambda image, name: handlers.mirror(Image.open(image), None, name),
    ):
        with pytest.raises(gr.Error) as caught:
            answer(str(portrait), name)
        said.append(caught.value.message)
    told = [words for words in said if words]
    assert len(told) == 3 and all(words.count(".") == 1 for words in told)
    assert [w for w in told if str(handlers.folder) in w or "/" in w or "checkpoint" not in w] == []


@pytest.mark.parametrize("fault", ["no network beside it", "not a whole file"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_checkpoint_that_does_not_open_tells_no_folder_either(
    fault, relative, served_folder, portrait, tmp_path, monkeypatch
):
    path = shutil.copy(served_folder / f"{SERVED}.safetensors", tmp_path / "broken.safetensors")
    if fault == "not a whole file":
        path.write_bytes(path.read_bytes()[:1000])

    def missing(checkpoint):
        raise FileNotFoundError(f"there is no {checkpoint.with_suffix('.onnx')}")

    monkeypatch.chdir(tmp_path.parent)
    handlers = Handlers(Path(tmp_path.name) if relative else tmp_path, load_network=missing)
    for answer in (
        lambda: handlers.photo(str(portrait), "broken", False, False),
        lambda: list(handlers.several([str(portrait)], "broken")),
        lambda: handlers.mirror(Image.open(portrait), None, "broken"),
    ):
        with pytest.raises(gr.Error) as caught:
            answer()
        assert "broken" in caught.value.message and tmp_path.name not in caught.value.message


STRANGE = [
    "![x](http://picture.test/a.png)", "<img src=http://picture.test/b.png>", "<script>x()",
    "$$ <img src=http://picture.test/c.png> $$", "[x]: http://picture.test/d.png", "a\n\n# b",
]  # fmt: skip


def test_the_words_of_a_strangers_card_are_shown_and_never_carried_out(card, tmp_path):
    # Markdown of a card fetched its author's picture from every visitor's browser
    figures = {"k": 1, "n": 2}
    for number, strange in enumerate(STRANGE):
        hostile = {
            **card, "class_names": [strange, "sad"], "system": strange, "crop": strange,
            "data": {"name": strange, "fingerprint": "0"}, "validation": figures,
        }  # fmt: skip
        save_checkpoint(tmp_path / f"{number}.safetensors", {}, hostile)
        handlers = Handlers(tmp_path)
        about, details = handlers.about(str(number)), handlers.details(str(number))
        shown = " ".join(strange.split())
        assert unescape(about).count(shown) == 2 and unescape(details).count(shown) == 3
        for words in (about, details):
            assert [mark for mark in ("<", "![", "](", "$$", "]:", "\n#") if mark in words] == []


def test_a_name_that_is_no_utf8_tells_no_folder_either(handlers, tmp_path):
    # Errors show such a name with escapes: looked for as it is, the folder would stay in them
    odd = os.path.join(tmp_path, os.fsdecode(b"caf\xe9.jpg"))
    try:
        Path(odd).write_bytes(b"no picture")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(gr.Error) as caught:
        handlers.photo(odd, SERVED, False, False)
    ((drawn, html, *_),) = handlers.several([odd], SERVED)
    for said in (caught.value.message, html):
        assert "caf\\xe9.jpg is not a picture" in said and str(tmp_path) not in said
    assert drawn == []


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
    picture, *shown, maps_shown, told = [*handlers.show_photo(str(portrait), SERVED, False, False)]
    assert (shown, told) == ([html], faces) and not maps and maps_shown["visible"] is False
    assert picture["visible"] and picture["value"].tobytes() == drawn.tobytes()


def test_an_error_stands_where_the_answer_would_and_clears_the_old_one(handlers, letter):
    # Raised, it was a message in a corner, an "Error" over each part, and the old faces below
    for show, image, reason in (
        (handlers.show_photo, str(letter), "letter.jpg is not a picture"),
        (handlers.update_photo, str(letter), "letter.jpg is not a picture"),
        (handlers.show_photo, None, "no picture yet"),
    ):
        picture, html, maps, faces = show(image, SERVED, False, False)
        assert reason in html and 'role="alert"' in html and faces is None
        assert [part["value"] for part in (picture, maps)] == [None, None]
    html = handlers.update_photo(None, SERVED, False, False)[1]
    assert "alert" not in html  # cleared: no error
    for (*parts, html), reason in (
        (list(handlers.show_video(str(letter.with_suffix(".mp4")), SERVED))[-1], "not a video"),
        (list(handlers.show_video(None, SERVED))[-1], "no video yet"),
    ):
        assert reason in html and [part["value"] for part in parts] == [None] * 3


def test_a_video_clears_the_one_before_while_it_is_watched(handlers, letter):
    first, *_ = handlers.show_video(str(letter.with_suffix(".mp4")), SERVED)
    assert [part["value"] for part in first[:3]] == [None] * 3 and "Watching" in first[3]


@pytest.fixture
def folder(portrait, letter, astronaut):
    """One face, two faces, nobody, no picture; their names as `shutil` would give them."""
    two = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        two.paste(astronaut, (left, 0))
    two.save(letter.parent / "two.png")
    shutil.copy(portrait, letter.parent / "one.png")
    Image.new("RGB", (300, 200), GROUND).save(letter.parent / "nobody.png")
    return [str(letter.parent / name) for name in ("one.png", "two.png", "nobody.png", letter.name)]


def test_several_pictures_are_the_table_of_predict_py_and_a_zip_of_it(
    handlers, predictor, folder, monkeypatch, tmp_path
):
    monkeypatch.chdir(Path(folder[0]).parent)
    names = [Path(name).name for name in folder[:3]]
    assert cli.main([*names, "--csv", "cli.csv", "--checkpoint", str(predictor.path)]) == 0
    for drawn, html, table, archive in handlers.several(folder, SERVED):
        assert Path(table).read_text() == Path("cli.csv").read_text()
        with zipfile.ZipFile(archive) as kept:
            assert kept.read("faces.csv") == Path(table).read_bytes()
            assert len(kept.namelist()) == 1 + len(drawn) == 4
            assert Image.open(io.BytesIO(kept.read("02-two.jpg"))).size == (1024, 512)
        assert html.count("<tr>") == 1 + 3  # a heading, a row a face
        for row in csv.DictReader(io.StringIO(Path("cli.csv").read_text())):
            assert row["face"] == "0" or f">{row['happy']}</td>" in html
        assert "letter.jpg is not a picture" in html and str(tmp_path) not in html


def test_whatever_answers_for_pictures_waits_in_one_queue(handlers):
    # With a queue for each, 40 visitors of /predict waited 6.9 s beside 10 of /photo with 2.5
    app = build_demo(handlers)
    queues = {fn.concurrency_id: fn.concurrency_limit for fn in app.fns.values()
              if getattr(fn.fn, "__name__", "") in PICTURES}  # fmt: skip
    named = {getattr(fn.fn, "__name__", "") for fn in app.fns.values()}
    assert named >= PICTURES and len(queues) == 1 and min(queues.values()) >= 2


def test_without_pictures_the_table_goes(handlers):
    ((drawn, html, rows, archive),) = handlers.show_several(None, SERVED)
    assert (drawn, html) == ([], "") and not rows["visible"] and not archive["visible"]
    ((drawn, html, *_),) = handlers.show_several(["a.jpg"] * 51, SERVED)
    assert "51 pictures" in html and drawn == []


def test_about_says_what_trained_it_and_what_it_cannot_tell(checkpoint):
    words = demo.make_handlers(checkpoint.parent).about(checkpoint.stem)
    for part in ("trained on synthetic", "/45", "happy, neutral, sad", "never what somebody feels"):
        assert part in words


def test_jargon_is_in_the_details_and_the_menu_says_what_each_is_good_for():
    # "mtcnn box has its centre at (0.49, 0.50)" stood in the first sentence that a visitor read
    handlers = demo.make_handlers(CHECKPOINTS)
    for name, card in list_checkpoints().items():
        words, details = handlers.about(name), handlers.details(name)
        for part in ("mtcnn", "centre", "macro", card["system"]):
            assert part not in words.lower(), name
        assert headline(card) in unescape(details) and card["crop"]["detector"] in details
        assert card["data"]["name"] in purpose(card) and not re.search(r"\d %", purpose(card))


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
    blocks = list(demo.page(light).blocks.values())
    (offered,) = [b for b in blocks if getattr(b, "label", "") == "Checkpoint"]
    assert [name for _, name in offered.choices] == [SERVED]  # the TinyVGG has no .onnx
    labels = " ".join(str(getattr(b, "label", "")) for b in blocks)
    assert "covering" in labels and "Grad-CAM" not in labels
    *_, maps, faces = light.photo(str(portrait), SERVED, False, True)
    assert len(maps) == len(faces) == 1 and maps[0].size == (240, 240)


def apart(one, other):
    """The mean difference of two pictures, 0 to 255, of the colour that differs most."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def test_the_examples_are_those_that_the_laboratory_draws():
    # A drawing that changed, and examples that nobody wrote again
    drawn = dict(example_pictures())
    assert {path.name for path in EXAMPLES.iterdir()} == {*drawn, "clip.mp4"}
    for name, picture in drawn.items():
        with Image.open(EXAMPLES / name) as kept:
            assert apart(kept.convert("RGB"), picture) < 6, name  # JPEG
    frames = list(clip_frames())
    kept = [frame.image for frame in read_frames(EXAMPLES / "clip.mp4")]
    assert len(kept) == len(frames)
    for k in (0, len(frames) // 2, -1):
        assert apart(kept[k], frames[k][1]) < 8, k
    assert (EXAMPLES / "clip.mp4").stat().st_size < 500_000


def test_every_example_is_offered_under_what_it_shows():
    assert {one.name for one in (*PHOTOS, *DRAWN, *CLIPS)} | {"clip.jpg"} == {
        path.name for path in EXAMPLES.iterdir()
    }
    captions = [one.caption for one in DRAWN]
    assert captions == [f"drawn as {expression}" for expression, _ in drawn_faces()]


def test_the_photos_and_the_clip_are_answered_as_they_are_named():
    # Default network: what a visitor sees first has to work
    predictor = ExpressionPredictor()
    counts = {one.name: len(predictor.find(one.path)) for one in PHOTOS}
    assert counts == {"portrait.jpg": 1, "hopper.jpg": 1, "group.jpg": 2}
    summary = follow_video(predictor, str(CLIPS[0].path), None)
    assert summary["tracks"] == 2


def test_the_drawings_fool_the_network_as_the_page_says():
    # Titled as if they worked, they were the first thing that a visitor saw go wrong
    answers = ExpressionPredictor().predict_whole([one.opened() for one in DRAWN])
    right = [a.label == one.caption.split()[-1] for a, one in zip(answers, DRAWN, strict=True)]
    assert ("most fool" in DRAWN_TITLE) is (sum(right) < len(right) / 2)
