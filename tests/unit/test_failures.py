"""A run that fails says where, which good state is kept, and what helps."""

import errno
import itertools
from pathlib import Path

import pytest
import torch

from expression.files import atomic_write
from lab.failures import TrainingFailed, told_failures
from lab.training import WithProgress


class Faces:
    """A loader of four batches of two faces, the third of which cannot be read."""

    rows = range(8)

    def __iter__(self):
        for number in itertools.count():
            if number == 2:
                raise KeyError("left_eye")
            yield torch.zeros(2), torch.zeros(2)


def test_an_error_in_a_batch_names_epoch_and_batch(tmp_path: Path) -> None:
    shown = WithProgress(Faces(), epochs=9, done=4, name="x")
    with pytest.raises(TrainingFailed) as error:
        with told_failures("x", shown.where, tmp_path / "state.pt"):
            list(shown)
    text = str(error.value)
    assert "epoch 5 of 9" in text and "batch 2" in text and "left_eye" in text
    assert "nothing is kept" in text


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (FloatingPointError("the loss is nan"), "--lr"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"), "--batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "--batch-size"),
        (MemoryError(), "--batch-size"),
        (OSError(errno.ENOSPC, "No space left on device", "best.safetensors"), "--out"),
        (OSError(errno.ENOSPC, "No space left on device", "best.safetensors"), "best.safetensors"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed"), "worker"),
    ],
)
def test_the_message_says_what_helps_and_what_is_kept(error, word, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    state.touch()
    with pytest.raises(TrainingFailed) as failed, told_failures("x", lambda: "epoch 2 of 3", state):
        raise error
    text = str(failed.value)
    assert word in text and str(state) in text and "--resume" in text and "\n" not in text


def test_a_batch_of_one_picture_has_advice(tmp_path: Path) -> None:
    network = torch.nn.BatchNorm2d(3)
    with pytest.raises(TrainingFailed, match="--batch-size"):
        with told_failures("x", lambda: "epoch 1 of 1", tmp_path / "state.pt"):
            network(torch.zeros(1, 3, 1, 1))


def test_a_full_disk_names_the_file_that_could_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(OSError, match=r"a\.safetensors"), atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError) as error, atomic_write(path):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset")  # no fault of the file
    assert error.value.filename is None
