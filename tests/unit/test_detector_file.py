"""The detector's ONNX file: the same faces as MTCNN's own networks in torch, and how it is called.

`Cascade` says the search a second time, with the package's networks, in a language that can be
stepped through. Faces are the astronaut's of scikit-image, in scenes of that package.
"""

import hashlib
import math

import numpy as np
import onnx
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from PIL import Image
from torchvision.ops import nms, roi_align

from expression.face_detector import DETECTOR, FaceFinder
from expression.onnx_network import open_session
from lab.detector.assemble import assemble, read_weights

LEAST = 0.85


class Cascade:
    """MTCNN over one picture (H, W, 3) uint8; boxes (K, 4) corners, scores (K,), eyes (K, 2, 2)."""

    def __init__(self):
        self.nets = [net().eval() for net in (PNet, RNet, ONet)]

    @torch.inference_mode()
    def search(self, pixels, finest):
        halves = self.halves(pixels)
        boxes = self.propose(halves, finest)
        boxes, scores, _ = self.look(halves, boxes, 1, 24)
        sure = scores >= 0.7
        boxes, scores = squared(boxes[sure]), scores[sure]
        boxes = boxes[nms(boxes, scores, 0.7)]
        boxes, scores, eyes = self.look(halves, boxes, 2, 48)
        sure = scores >= LEAST
        boxes, scores, eyes = boxes[sure], scores[sure], eyes[sure]
        kept = nms(boxes, scores, 0.7)
        return boxes[kept].numpy(), scores[kept].numpy(), eyes[kept].numpy()

    @torch.inference_mode()
    def follow(self, pixels, held):
        return self.look(self.halves(pixels), squared(torch.from_numpy(held)), 2, 48)

    def halves(self, pixels):
        x = (torch.tensor(pixels).permute(2, 0, 1)[None].float() - 127.5) / 128
        found = [x]
        while min(found[-1].shape[2:]) >= 24:
            found.append(F.avg_pool2d(found[-1], 2, ceil_mode=True))
        return found

    def propose(self, halves, finest):
        height, width = halves[0].shape[2:]
        longer, shorter = max(height, width), min(height, width)
        side = min(max(12 / finest, 12 * longer / shorter), longer)
        boxes, scores = [], []
        while shorter * (scale := side / longer) >= 12 - 1e-3:
            size = (max(round(height * scale), 12), max(round(width * scale), 12))
            enough = [h for h in halves if h.shape[2] >= size[0] and h.shape[3] >= size[1]]
            move, probs = self.nets[0](F.interpolate(enough[-1], size, mode="bilinear"))
            row, column = (probs[0, 1] >= 0.6).nonzero().T
            at = torch.stack([column, row], 1).float() * 2
            box = (torch.cat([at, at + 12], 1) + move[0, :, row, column].T * 12) / scale
            kept = nms(box, score := probs[0, 1, row, column], 0.5)
            boxes.append(box[kept])
            scores.append(score[kept])
            side *= 0.709
        boxes = torch.cat([*boxes, torch.zeros(0, 4)])
        return squared(boxes[nms(boxes, torch.cat([*scores, torch.zeros(0)]), 0.7)])

    def look(self, halves, boxes, stage, size):
        if not len(boxes):
            return boxes, torch.zeros(0), torch.zeros(0, 2, 2)
        side = (boxes[:, 2] - boxes[:, 0]).clamp(min=1)
        step = (side / (2 * size)).log2().ceil().clamp(0, len(halves) - 1).long()
        images = torch.cat(
            [
                roi_align(halves[s], [box[None] / 2**s], size, sampling_ratio=2, aligned=True)
                for s, box in zip(step.tolist(), boxes, strict=True)
            ]
        )
        move, *points, probs = self.nets[stage](images)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        eyes = torch.zeros(len(boxes), 2, 2)
        if stage == 2:
            marks = points[0].view(-1, 2, 5).transpose(1, 2)[:, :2]
            eyes = boxes[:, None, :2] + marks * sides[:, None, :2]
        return boxes + move * sides, probs[:, 1], eyes


def squared(boxes):
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)


@pytest.fixture(scope="module")
def cascade():
    return Cascade()


@pytest.fixture(scope="module")
def session():
    return open_session(DETECTOR, threads=1)


def call(session, pixels, finest=0.06, least=LEAST, held=()):
    return session.run(
        ["boxes", "scores", "eyes", "which"],
        {
            "picture": np.ascontiguousarray(pixels),
            "finest": np.array([finest], np.float32),
            "least": np.array([least], np.float32),
            "held": np.array(held, np.float32).reshape(-1, 4),
        },
    )


def scenes():
    """Pictures of many sizes and shapes with none, one or several faces, small and large."""
    astronaut = Image.fromarray(skimage.data.astronaut())
    face = astronaut.crop((165, 45, 285, 190))
    yield "one", np.asarray(astronaut)
    yield "small", np.asarray(astronaut.resize((161, 203)))
    yield "narrow", np.asarray(astronaut.crop((150, 0, 300, 512)))
    yield "turned", np.asarray(astronaut.rotate(20))
    yield "none", np.asarray(Image.fromarray(skimage.data.coffee()).resize((600, 400)))
    rng = np.random.default_rng(0)
    for number in range(6):
        size = tuple(int(v) for v in rng.integers(100, 640, 2))
        scene = Image.fromarray(skimage.data.chelsea()).resize(size)
        for _ in range(number):
            height = int(rng.uniform(0.1, 0.6) * min(size))
            place = tuple(int(v) for v in rng.integers(0, np.subtract(size, height)))
            scene.paste(face.resize((round(height * 0.83), height)), place)
        yield f"{number} pasted", np.asarray(scene)


SCENES = dict(scenes())


@pytest.mark.parametrize("name", SCENES)
def test_the_file_finds_the_boxes_that_the_networks_in_torch_find(cascade, session, name):
    pixels = SCENES[name]
    boxes, scores, eyes, _ = call(session, pixels)
    wanted = cascade.search(pixels, 0.06)
    assert len(boxes) == len(wanted[0])
    for found, other in zip((boxes, scores, eyes), wanted, strict=True):
        np.testing.assert_allclose(found, other, atol=0.02)


def test_the_scenes_hold_faces():
    finder = FaceFinder()
    counts = [len(finder.search(Image.fromarray(pixels))) for pixels in SCENES.values()]
    assert sum(counts) >= 12 and 0 in counts


def test_following_is_one_look_of_the_last_network_at_each_box(cascade, session):
    pixels = SCENES["one"]
    held = [[182, 62, 267, 173], [20, 300, 105, 410], [170, 60, 255, 165]]
    boxes, scores, eyes, which = call(session, pixels, held=held)
    wanted = cascade.follow(pixels, np.array(held, np.float32))
    assert sorted(which.tolist()) == [0, 2]  # nobody is in the second; the doubles are both kept
    for row, place in enumerate(which):
        for found, other in zip((boxes, scores, eyes), wanted, strict=True):
            np.testing.assert_allclose(found[row], other[place], atol=0.02)


def test_a_canvas_with_transparency_goes_in_as_it_is(session):
    """A browser's canvas gives RGBA; the fourth channel is left out."""
    pixels = SCENES["one"]
    alpha = np.zeros((*pixels.shape[:2], 1), np.uint8)
    with_alpha = np.concatenate([pixels, alpha], axis=2)
    for found, other in zip(call(session, with_alpha), call(session, pixels), strict=True):
        np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize("size", [(12, 12), (12, 640), (640, 12), (13, 17)])
def test_the_smallest_pictures_are_searched(session, size):
    boxes, scores, eyes, which = call(session, np.full((*size, 3), 200, np.uint8), finest=1.0)
    assert boxes.shape == (0, 4) and eyes.shape == (0, 2, 2) and not len(scores) and not len(which)


def test_the_score_from_which_something_is_a_face_is_an_input(session):
    pixels = SCENES["5 pasted"]
    strict, loose = (call(session, pixels, least=p)[1] for p in (0.999, 0.1))
    assert 0 < len(strict) <= len(loose)
    assert strict.min() >= 0.999 and loose.min() >= 0.1


def test_the_committed_file_is_the_assembled_one():
    """Whoever changes the script commits the file that it writes."""
    assembled, committed = assemble(read_weights()), onnx.load(DETECTOR)
    for model in (assembled, committed):
        model.producer_version = ""
    digests = [
        hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        for model in (assembled, committed)
    ]
    assert digests[0] == digests[1]


def test_it_needs_no_operator_of_our_own_and_two_megabytes():
    model = onnx.load(DETECTOR)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert model.opset_import[0].version == 17 and model.ir_version == 8
    assert DETECTOR.stat().st_size < 2.2e6


def test_reading_the_weights_draws_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert math.isfinite(read_weights()[0]["conv1.weight"].sum())
    assert torch.equal(torch.get_rng_state(), before)
