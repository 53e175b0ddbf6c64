"""Shares of a batch: together they are the batch of one process, picture for picture."""

import pytest
import torch
from torch import nn

from augment import Augment, Mixup
from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab import processes
from lab.heads import HeadLoss
from lab.processes import Part, Processes, denominator, epoch_seed
from lab.ranges import RANGES

SHARES = torch.tensor([1.0, 0, 1, 1, 2]).view(5, 1, 1)  # a face without a target, one with two


@pytest.fixture
def rows():
    pixels = torch.randint(0, 256, (23, 1, 8, 8), dtype=torch.uint8)
    return Decoded(pixels, torch.arange(23) % 3, ("a", "b", "c"), Preprocess(8, "L"))


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("pictures", [14, 15, 64, 1000])
def test_shares_are_the_batch(count, pictures):
    found = [i for rank in range(count) for i in range(pictures)[Part(rank, count)(pictures)]]
    assert found == list(range(pictures))


def test_a_batch_too_small_to_share_counts_once():
    # Slices of one picture: BatchNorm has no variance. All of it everywhere: counted three times.
    parts = [Part(rank, 3) for rank in range(3)]
    assert [part(5) for part in parts] == [slice(None)] * 3
    assert [part.counted for part in parts] == [True, False, False]
    assert [part(6) for part in parts] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert all(part.counted for part in parts)


@pytest.mark.parametrize(("seed", "epoch"), [(300_000_000, 0), RANGES["seed"], (2**32 - 1, 10**5)])
def test_every_seed_that_may_be_given_is_one_that_torch_takes(seed, epoch):
    for rank in range(2):
        Processes(rank, 2).seed(int(seed), int(epoch))
        torch.Generator().manual_seed(epoch_seed(int(seed), int(epoch), rank))


def test_ordinary_seeds_are_what_they_were():
    # Runs with several processes are made again by their seed, the first epoch's -1 included
    assert epoch_seed(7, 3, 1) == (7 * 1_000_003 + 3) * 65_537 + 1
    torch.manual_seed(-65_537)
    before = torch.rand(3)
    Processes(0, 2).seed(0, -1)
    assert torch.equal(torch.rand(3), before)


@pytest.mark.parametrize("mix", [None, Mixup(0.4)])
def test_each_picture_gets_the_changes_that_it_gets_in_one_process(rows, mix):
    # A share that draws its own numbers changes other pictures than one process does
    def epoch(part):
        made = Batches(rows, 10, shuffle=True, augment=Augment(erase=0.5), seed=4, part=part)
        made.mix = mix
        return list(made)

    shares = [epoch(Part(rank, 2)) for rank in range(2)]  # batches of 10, 10 and 3 pictures
    for number, (images, labels) in enumerate(epoch(None)):
        parts = [share[number] for share in shares]
        if number == 2:
            assert all(torch.equal(share[0], images) for share in parts)
        else:
            assert torch.allclose(torch.cat([p[0] for p in parts]), images, atol=1e-6)
            assert torch.equal(torch.cat([p[1] for p in parts]), labels)


@pytest.mark.parametrize(
    ("loss_fn", "targets"),
    [
        (nn.CrossEntropyLoss(), torch.tensor([0, 1, 2, 2, 0])),
        (
            nn.CrossEntropyLoss(torch.tensor([5.0, 1.0, 0.2]), label_smoothing=0.1),
            torch.tensor([0, 1, 2, 2, 0]),
        ),
        (nn.CrossEntropyLoss(torch.tensor([5.0, 1.0, 0.2])), torch.eye(3)[[0, 1, 2, 2, 0]]),
        (HeadLoss(torch.tensor([5.0, 1.0, 0.2])), torch.tensor([0, 1, 2, 2, 0])),
        (HeadLoss(), torch.eye(3)[:, None][[0, 1, 2, 2, 0]] * SHARES),
    ],
    ids=["plain", "class weights", "probabilities", "head", "heads without some targets"],
)  # fmt: skip
def test_shares_weigh_what_they_add_to_the_denominator(loss_fn, targets):
    # Weighted by pictures, a share of rare classes counts too little
    logits = torch.randn(5, 3)
    weighed = [
        (loss_fn(logits[share], targets[share]).double(), denominator(loss_fn, targets[share]))
        for share in (slice(0, 2), slice(2, 5))
    ]
    mean = sum(loss * mass for loss, mass in weighed) / sum(mass for _, mass in weighed)
    torch.testing.assert_close(mean.float(), loss_fn(logits, targets))


def test_a_launcher_that_starts_one_process_of_several_is_told(monkeypatch):
    # `accelerate launch --cpu --num_processes 2` without MPI trains in one, without a word
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert processes.launched() == 1
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(ValueError, match="torchrun --nproc-per-node 2"):
        processes.launched()


def test_devices_that_processes_cannot_share(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [processes.local_device(name) for name in ("cuda", "cpu")] == ["cuda:1", "cpu"]
    for name in ("cuda:0", "mps"):
        with pytest.raises(ValueError, match=name):
            processes.local_device(name)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="there are 2"):
        processes.local_device("cuda")
