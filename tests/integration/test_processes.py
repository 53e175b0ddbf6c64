"""One training on two and three processes: the figures of one, everything written once, and a
process that dies ends the run; it goes on with any number.

Processes are forked from a server that has imported torch, so that each costs seconds.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import experiments
from benchmarks.harness import free_port
from expression.checkpoint import load_checkpoint
from train_state import load_state

pytestmark = pytest.mark.slow
ROOT = Path(experiments.__file__).parent
# 68 faces: batches of 32, 32 and 4; three processes cannot share the last one
WORDS = ["train", "tinyvgg", "--size", "24", "--batch-size", "32", "--device", "cpu",
         "--precision", "float32"]  # fmt: skip
PLAIN = ["--arg", "batch_norm=false", "--class-weights", "--epochs", "2", "--lr", "0.02"]
NORMED = ["--epochs", "3", "--average", "0.9"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    from lab.datasets import synthetic

    folder = tmp_path_factory.mktemp("data") / "drawn"
    splits = synthetic.load(
        train=68, validation=130, test=9, size=24, seed=0, class_names=("happy", "neutral", "sad")
    )
    splits.save_to_disk(folder)
    return str(folder)


@pytest.fixture(scope="module")
def drawn_parquet(tmp_path_factory):
    """The same faces in Parquet files: five of train."""
    from lab.datasets import synthetic

    folder = tmp_path_factory.mktemp("parquet") / "drawn"
    splits = synthetic.load(
        train=68, validation=130, test=9, size=24, seed=0, class_names=("happy", "neutral", "sad")
    )
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        count = 5 if split == "train" else 1
        for k in range(count):
            file = folder / "data" / f"{split}-{k:05d}-of-{count:05d}.parquet"
            rows.shard(count, k).to_parquet(str(file))
    return str(folder)


def work(rank, count, port, folder, words, dies):
    """What one process does; its output goes to files."""
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(f"{name}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count),
                      MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))  # fmt: skip
    if dies:  # after the first epoch, before the second
        from lab import training

        training.stalled = lambda *_: rank == 1 and os.kill(os.getpid(), signal.SIGKILL)
    experiments.main(words)


def run(count, folder, drawn, *words, dies=False):
    """Train on `count` processes in a folder; returns their exit codes, and the seconds between
    the end of the last one (which may be killed) and that of the first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments", "torch._dynamo", __name__])
    port, words = free_port(), [*WORDS, "--data", drawn, *words]
    folder.mkdir(exist_ok=True)
    started = [
        context.Process(target=work, args=(rank, count, port, folder, words, dies))
        for rank in range(count)
    ]
    for process in started:
        process.start()
    started[-1].join(300)
    last = time.monotonic()
    for process in started:
        process.join(60)
        assert process.exitcode is not None, "hangs"
    return [process.exitcode for process in started], time.monotonic() - last


def result(folder):
    """(weights, card) of the run in a folder."""
    return load_checkpoint(folder / "checkpoints" / "tinyvgg-drawn.safetensors")


def text(folder, name, rank):
    return (folder / f"{name}-{rank}.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(drawn, tmp_path_factory):
    """{number of processes: folder of the same training without BatchNorm}."""
    folders = {count: tmp_path_factory.mktemp("plain") / str(count) for count in (1, 2, 3)}
    for count, folder in folders.items():
        codes, _ = run(count, folder, drawn, *PLAIN)
        assert codes == [0] * count, text(folder, "err", 0)
    return folders


@pytest.mark.parametrize("count", [2, 3])
def test_figures_are_those_of_one_process(plain, count):
    # The mean of processes' means, or the last batch counted by each of them, differs
    (state, card), (weights, told) = result(plain[1]), result(plain[count])
    for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr"):
        assert told["history"][name] == pytest.approx(card["history"][name], rel=2e-5), name
    for name, values in state.items():
        torch.testing.assert_close(
            torch.as_tensor(weights[name]).float(), torch.as_tensor(values).float(),
            atol=2e-3, rtol=2e-3,
        )  # fmt: skip
    assert str(count) in told["hardware"]


def test_everything_is_written_once(plain):
    # Three processes that all write: three folders of runs, lines three times, torn files
    folder = plain[3]
    assert len(list(folder.glob("runs/*"))) == 1
    assert len(list(folder.rglob("events.out.*"))) == 1
    assert text(folder, "out", 0).count("epoch   2/2") == 1
    assert [text(folder, "out", rank) for rank in (1, 2)] == ["", ""]
    names = {p.relative_to(folder / "results").as_posix() for p in (folder / "results").rglob("*")}
    assert names == {
        p.relative_to(plain[1] / "results").as_posix() for p in (plain[1] / "results").rglob("*")
    }
    assert not list(folder.rglob("*.tmp"))


@pytest.fixture(scope="module")
def cut(drawn, tmp_path_factory):
    """The folder of a training on two processes, one of which was killed after the first epoch."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    codes, seconds = run(2, folder, drawn, *NORMED, dies=True)
    assert codes == [2, -signal.SIGKILL]
    assert seconds < 30
    return folder


def test_a_process_that_dies_ends_the_run(cut):
    (state,) = cut.glob("runs/*/*/*/*/state.pt")
    assert len(load_state(state)["history"]["lr"]) == 1
    message = text(cut, "err", 0)
    assert "epoch 2 of 3" in message and "another process" in message
    assert state.name in message and "--resume" in message


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(cut, drawn, tmp_path):
    # Bit for bit: BatchNorm's statistics, averaged weights and each process's numbers included
    whole, resumed = tmp_path / "whole", shutil.copytree(cut, tmp_path / "resumed")
    assert run(2, whole, drawn, *NORMED)[0] == [0, 0], text(whole, "err", 0)
    assert run(2, resumed, drawn, *NORMED, "--resume")[0] == [0, 0], text(resumed, "err", 0)
    (first, one), (second, two) = result(whole), result(resumed)
    assert all((first[name] == second[name]).all() for name in first)
    assert {**one["history"], "seconds": 0} == {**two["history"], "seconds": 0}


def test_another_number_of_processes_goes_on(cut, drawn, tmp_path):
    before = load_state(next(cut.glob("runs/*/*/*/*/state.pt")))["history"]
    folder = shutil.copytree(cut, tmp_path / "three")
    assert run(3, folder, drawn, *NORMED, "--resume")[0] == [0, 0, 0], text(folder, "err", 0)
    history = result(folder)[1]["history"]
    assert {name: values[:1] for name, values in history.items()} == before
    assert len(history["lr"]) == 3


def test_streamed_files_are_split_by_process_and_gone_on_with(drawn_parquet, tmp_path):
    # Two processes read three files and two: with steps of their own they would wait for ever
    words = ["--streaming", "--shuffle-buffer", "20", *NORMED, "--average", "0"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(2, whole, drawn_parquet, *words)[0] == [0, 0], text(whole, "err", 0)
    assert run(2, cut, drawn_parquet, *words, dies=True)[0] == [2, -signal.SIGKILL]
    others = ["--shuffle-buffer", "20", *NORMED, "--average", "0"]  # read whole: another order
    assert run(1, cut, drawn_parquet, *others, "--resume")[0] == [2]
    assert "streamed" in text(cut, "err", 0)
    assert run(2, cut, drawn_parquet, *words, "--resume")[0] == [0, 0], text(cut, "err", 0)
    (first, one), (second, two) = result(whole), result(cut)
    assert all((first[name] == second[name]).all() for name in first)
    assert {**one["history"], "seconds": 0} == {**two["history"], "seconds": 0}
    for accuracy in one["history"]["train_accuracy"]:  # of 68 faces, each counted once
        assert accuracy * 68 == pytest.approx(round(accuracy * 68), abs=1e-6)
    assert "--streaming" in one["command"]


def test_other_commands_are_for_one_process(drawn, tmp_path, monkeypatch, capsys):
    # Each of N processes would measure and write the same files
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        experiments.main(["pack", "--data", drawn, "--to", str(tmp_path / "x.npz")])
    assert ended.value.code == 2 and not list(tmp_path.iterdir())
    assert capsys.readouterr().err.startswith("process 1 of 2: error: ")


def worker(launcher, rank):
    """The process number of the launcher's worker with this rank."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        with contextlib.suppress(OSError):
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    raise LookupError(f"no worker {rank}")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_torchrun_ends_within_seconds_of_a_killed_worker(drawn, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--master-port", str(free_port()), str(ROOT / "experiments.py"), *WORDS,
               "--data", drawn, "--epochs", "5000"]  # fmt: skip
    with (
        (tmp_path / "err.txt").open("w") as errors,
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors, text=True)
        as launcher,
    ):  # fmt: skip
        assert any("epoch   1/" in line for line in launcher.stdout), "it never began"
        os.kill(worker(launcher.pid, 1), signal.SIGKILL)
        start = time.monotonic()
        launcher.stdout.read()
        assert launcher.wait(60) != 0
        assert time.monotonic() - start < 30
    (state,) = tmp_path.glob("runs/*/*/*/*/state.pt")
    assert len(load_state(state)["history"]["lr"]) >= 1
    message = (tmp_path / "err.txt").read_text()
    assert "--resume" in message and state.name in message
