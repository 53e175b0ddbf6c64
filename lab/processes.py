"""One training on several processes: on the cores or GPUs of one machine, or on several machines.

Why: `torchrun` or `accelerate launch` starts N processes of one command. Each holds the whole
network and takes its slice of every batch; after each backward pass the gradients are averaged
(`torch.nn.parallel.DistributedDataParallel`), so that all take the same step. What a training
needs beside that is here and is handed to the plain loop: the slices of the batches, the loss of
the whole batch, and sums that count every picture once. One process writes, the others wait.

The torch that trains brings all of it: gloo for CPUs, NCCL for NVIDIA's GPUs.
"""

import atexit
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lab.failures import TrainingFailed
from lab.heads import HeadLoss
from train_loop import Tally

__all__ = ["ALONE", "Part", "ProcessLost", "Processes", "WholeBatchLoss", "epoch_seed",
           "joined", "launched", "local_device", "speaker", "told_lost"]  # fmt: skip

T = TypeVar("T")
STEP_LIMIT = timedelta(minutes=10)  # for gradients and sums: a process that hangs ends the run
WAIT_LIMIT = timedelta(days=30)  # while one process decodes, measures or draws
LOST_WORDS = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe", "timed out")


class ProcessLost(RuntimeError):
    """Another process of the run has ended, or does not answer."""


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """The seed of one epoch in one process, as large as torch takes it: 64 bits."""
    return ((seed * 1_000_003 + epoch) * 65_537 + rank) % 2**64


class Part:
    """The slice of a batch of n pictures that one process takes, for `Batches.part`.

    The slices of all processes together are the batch. A batch with fewer than two pictures for
    each process, as the last one may be, is taken whole by every process, because BatchNorm needs
    two; then `counted` is True for the first process alone.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count, self.counted = rank, count, True

    def __call__(self, pictures: int) -> slice:
        shared = pictures >= 2 * self.count
        self.counted = shared or self.rank == 0
        if not shared:
            return slice(None)
        first, end = (pictures * k // self.count for k in (self.rank, self.rank + 1))
        return slice(first, end)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them. The default is a run of one process, where
    everything here returns at once what it was given."""

    rank: int = 0  # 0: the main process, which writes
    count: int = 1
    local_rank: int = 0  # among the processes of this machine
    device: torch.device = torch.device("cpu")
    waiting: Any = None  # the group without a time limit

    @property
    def main(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.count > 1

    def show_progress(self) -> bool:
        """Whether this process shows progress bars: the main one, on a terminal."""
        return self.main and sys.stderr.isatty()

    # --- taking turns ---

    def wait(self) -> None:
        """Until every process is here, however long one works."""
        if self.several:
            dist.barrier(group=self.waiting)

    @contextmanager
    def first_here(self) -> Iterator[None]:
        """The first process of each machine does the block before the others of that machine do, so
        that they find the files that it keeps."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def from_main(self, answer: Callable[[], T]) -> T:
        """What `answer` returns in the main process; the others do not call it."""
        if not self.several:
            return answer()
        box = [answer() if self.main else None]
        dist.broadcast_object_list(box, src=0, group=self.waiting)
        return box[0]  # type: ignore[return-value]

    def file_of_main(self, path: Path) -> Path:
        """`path`; in the others a copy of the main process's file, which may be on another
        machine. Where main has no such file, the copy does not exist either."""
        content = self.from_main(lambda: path.read_bytes() if path.exists() else None)
        if self.main:
            return path
        folder = Path(tempfile.mkdtemp(prefix="expression-process-"))
        atexit.register(shutil.rmtree, folder, True)
        if content is not None:
            (folder / path.name).write_bytes(content)
        return folder / path.name

    # --- what the training loop gets ---

    def part(self) -> Part | None:
        return Part(self.rank, self.count) if self.several else None

    def wrap(self, model: nn.Module) -> nn.Module:
        """The network with gradients averaged over processes; all begin with main's weights."""
        if not self.several:
            return model
        from torch.nn.parallel import DistributedDataParallel

        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, forward_sync_buffers=False)

    def loss(self, loss_fn: nn.Module) -> nn.Module:
        return WholeBatchLoss(loss_fn, self) if self.several else loss_fn

    def tally(
        self, model: nn.Module, part: Callable[[int], slice] | None
    ) -> Callable[[str], Tally]:
        """For `train_loop.train(tally=...)`; `part` is that of all its loaders."""
        if not isinstance(part, Part):
            return Tally
        return lambda split: SharedTally(split, self, model, part)

    def seed(self, seed: int, epoch: int) -> None:
        """Random numbers of an epoch (dropout): other ones in each process, and the same when the
        epoch is done again. One process goes on with those it has."""
        if self.several:
            torch.manual_seed(epoch_seed(seed, epoch, self.rank))

    def add_up(self, sums: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on its own device."""
        moved = sums.to(self.device, copy=True)
        dist.all_reduce(moved)
        return moved.to(sums.device)

    def average_buffers(self, model: nn.Module) -> None:
        """Give every process the mean of BatchNorm's running statistics."""
        found = [b for b in model.buffers() if b.is_floating_point()]
        if not found:
            return
        mean = self.add_up(torch.cat([b.flatten().float() for b in found])) / self.count
        for buffer, values in zip(found, mean.split([b.numel() for b in found]), strict=True):
            buffer.copy_(values.view_as(buffer))


ALONE = Processes()


class SharedTally(Tally):
    """Sums over the pictures of a pass in all processes, each picture counted once."""

    def __init__(self, split: str, processes: Processes, model: nn.Module, part: Part) -> None:
        super().__init__(split)
        self.processes, self.model, self.part = processes, model, part

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        super().add(loss, logits, labels)
        if not self.part.counted:
            self.hits[-1] = torch.zeros_like(self.hits[-1])
            self.seen -= self.sizes[-1]
            self.sizes[-1] = 0

    def sums(self) -> Tensor:
        if self.split == "train":  # the network is validated next
            self.processes.average_buffers(self.model)
        return self.processes.add_up(super().sums())


class WholeBatchLoss(nn.Module):
    """The loss of a batch of which every process holds a slice: the value is that of the whole
    batch, the gradient, once averaged over processes, too.

    A slice weighs what it adds to the denominator of the mean: its pictures, or the sum of their
    class weights, or their targets (several heads).
    """

    def __init__(self, loss_fn: nn.Module, processes: Processes) -> None:
        super().__init__()
        self.loss_fn, self.processes = loss_fn, processes

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        loss, mass = self.loss_fn(logits, targets), denominator(self.loss_fn, targets)
        both = self.processes.add_up(torch.stack([loss.detach().double() * mass, mass]))
        whole = both[1].clamp(min=1e-8)
        mine = loss * (mass / whole * self.processes.count).to(loss.dtype)
        return mine + ((both[0] / whole).to(loss.dtype) - mine).detach()


def denominator(loss_fn: nn.Module, targets: Tensor) -> Tensor:
    """What a loss that averages divides the sum over these targets by, float64 ()."""
    count = torch.tensor(float(len(targets)), dtype=torch.float64, device=targets.device)
    if isinstance(loss_fn, HeadLoss):
        return count if targets.ndim == 1 else targets.double().sum()
    weight = getattr(loss_fn, "weight", None)
    if weight is None or targets.is_floating_point():
        return count
    return weight[targets].double().sum()


# --- beginning and end ---


def launched() -> int:
    """How many processes this one was started among, by the launcher's variables.

    Raises ValueError where a launcher was asked for several and told none of them so.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if "WORLD_SIZE" not in os.environ and "ACCELERATE_USE_CPU" in os.environ:
        if os.environ.get("MASTER_ADDR"):  # set for more than one process only
            raise ValueError(
                "`accelerate launch --cpu` starts a single process, unless MPI does. Use "
                "`torchrun --nproc-per-node 2 experiments.py train ... --device cpu`, or "
                "`accelerate launch --multi_gpu --num_processes 2 experiments.py train ... "
                "--device cpu`"
            )
    return count


def speaker() -> str:
    """What begins a line of error: "" in one process and in the main one, or which one it is."""
    rank = os.environ.get("RANK", "0")
    count = os.environ.get("WORLD_SIZE") or "1"
    return "" if count == "1" or rank == "0" else f"process {rank} of {count}: "


def local_device(name: str) -> str:
    """The device of this process: of "cuda" the GPU with its number on this machine.

    Raises ValueError for a device that several processes cannot share.
    """
    if name == "cuda":
        rank, there = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
        if rank >= there:
            raise ValueError(
                f"process {rank} of this machine needs a GPU of its own, and there are {there}; "
                "start fewer processes, or give --device cpu"
            )
        return f"cuda:{rank}"
    if name != "cpu":
        raise ValueError(f"--device {name} is for one process; several take cuda or cpu")
    return name


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes of this run, joined; what all but the main one print is dropped.

    Ends with ProcessLost, within seconds, when another process dies.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)

    def ended(*_: object) -> None:
        raise ProcessLost(
            "the launcher ended this process, because another one of the run died or failed, or "
            "because it was told to stop"
        )

    before = signal.signal(signal.SIGTERM, ended)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(told_lost())
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=STEP_LIMIT)
            waiting = dist.new_group(backend="gloo", timeout=WAIT_LIMIT)
            found = Processes(dist.get_rank(), dist.get_world_size(),
                              int(os.environ.get("LOCAL_RANK") or 0), device, waiting)  # fmt: skip
            if not found.main:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield found
            found.wait()
            dist.destroy_process_group()
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def told_lost() -> Iterator[None]:
    """Turn what the exchange between processes raises when one is gone into ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).lower()
        exchange = isinstance(error, dist.DistError) or any(w in words for w in LOST_WORDS)
        if isinstance(error, ProcessLost | TrainingFailed) or not exchange:
            raise
        reason = " ".join(re.sub(r"\[/\S*\]", "", str(error)).split())[:200]  # [source file]
        raise ProcessLost(
            f"another process of the run died or does not answer ({reason})"
        ) from error
