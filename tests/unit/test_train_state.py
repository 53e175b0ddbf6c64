"""train_state.py: a run goes on where it was, or the file says why it cannot."""

import errno
import os
import pickle

import pytest
import torch
from torch import nn

from train_state import load_state, save_state


def start():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2)


def steps(count, model, optimizer, scheduler):
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
        scheduler.step()


def test_an_interrupted_run_ends_bit_for_bit_where_a_whole_one_does(tmp_path):
    # Without the generators' state, dropout would draw anew from the interruption on
    whole, parts = start(), start()
    steps(7, *whole)
    parts = start()
    steps(3, *parts)
    names = ("model", "optimizer", "scheduler")
    save_state(tmp_path / "a.pt", **dict(zip(names, parts, strict=True)), done=3)
    torch.manual_seed(99)
    again = start()
    values = load_state(tmp_path / "a.pt", **dict(zip(names, again, strict=True)))
    steps(7 - values["done"], *again)
    for a, b in zip(whole[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole[2].get_last_lr() == again[2].get_last_lr()


def test_values_come_back_as_they_were_and_a_look_changes_nothing(tmp_path):
    path = save_state(tmp_path / "a.pt", history={"loss": [1.5]}, name="x", nothing=None)
    before = torch.get_rng_state()
    torch.rand(1)
    moved = torch.get_rng_state()
    assert load_state(path) == {"history": {"loss": [1.5]}, "name": "x"}
    assert torch.equal(torch.get_rng_state(), moved) and not torch.equal(before, moved)


def test_a_crash_while_writing_leaves_the_last_whole_file(tmp_path, monkeypatch):
    path = save_state(tmp_path / "a.pt", epoch=1)

    def crash(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, epoch=2)
    monkeypatch.undo()
    assert load_state(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_what_is_no_state_is_refused_and_runs_nothing(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    bad = {
        "pickle.pt": pickle.dumps(Harm()),
        "text.pt": b"not a state",
        "empty.pt": b"",
        "cut.pt": save_state(tmp_path / "whole.pt", epoch=1).read_bytes()[:-40],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name) as error:
            load_state(tmp_path / name)
        # torch's own words would have them call it with weights_only=False, which runs the file
        assert "weights_only" not in str(error.value) and "\n" not in str(error.value)
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"not a training state.*states"):
        load_state(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match="absent.pt"):
        load_state(tmp_path / "absent.pt")
    assert not (tmp_path / "harm").exists()


def test_parts_that_differ_are_named(tmp_path):
    model, optimizer, scheduler = start()
    path = save_state(tmp_path / "a.pt", model=model, optimizer=optimizer, scheduler=scheduler)
    with pytest.raises(ValueError, match="holds the states of model, optimizer, scheduler; asked"):
        load_state(path, model=model, optimizer=optimizer)


@pytest.mark.parametrize("part", ["model", "optimizer", "random"])
def test_a_part_that_does_not_fit_is_named_in_one_line(part, tmp_path):
    names, parts = ("model", "optimizer", "scheduler"), start()
    path = save_state(tmp_path / "a.pt", **dict(zip(names, parts, strict=True)))
    content = torch.load(path)
    content["states"] |= {part: {"0.weight": torch.zeros(2)}} if part != "random" else {}
    content["random"] |= {"cpu": 3} if part == "random" else {}
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"'{part}' of .*a.pt") as error:
        load_state(path, **dict(zip(names, parts, strict=True)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_names_the_file_and_leaves_the_last_one(wrapped, tmp_path, monkeypatch):
    path = save_state(tmp_path / "a.pt", epoch=1)

    def full(content, file):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            if not wrapped:
                raise
            raise RuntimeError("[enforce fail at inline_container.cc:672]")  # noqa: B904

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"No space left.*a\.pt") as error:
        save_state(path, epoch=2)
    assert error.value.errno == errno.ENOSPC
    assert load_state(path) == {"epoch": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_run_that_was_killed_while_it_saved_leaves_nothing_for_good(tmp_path):
    old, new, other = (tmp_path / n for n in ("last.pt.1.tmp", "last.pt.2.tmp", "best.pt.1.tmp"))
    for path in (old, new, other):
        path.write_bytes(b"half a state")
    for path in (old, other):
        os.utime(path, (0, 0))
    save_state(tmp_path / "last.pt", epoch=1)
    assert not old.exists() and new.exists() and other.exists()


def test_a_run_that_goes_on_deletes_it_too_though_it_may_save_no_more(tmp_path):
    # Killed in its last epoch, while it saved: the next run has nothing to save, only to measure
    path = save_state(tmp_path / "state.pt", model=nn.Linear(1, 1))
    left = tmp_path / "state.pt.123.tmp"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    load_state(path)
    assert left.exists(), "a look changes nothing"
    load_state(path, model=nn.Linear(1, 1))
    assert not left.exists()
