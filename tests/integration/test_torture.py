"""The attacks of `make torture` in their short form: a few seconds each, the same cases each time.

And the attacks themselves: one that finds nothing where something is broken would prove nothing.
"""

import json
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.server_clients import apart
from expression.face_prediction import FacePrediction
from expression.server_app import answer_entry
from tools.torture import __main__ as command
from tools.torture import pool, programs, record, visitors
from tools.torture.bounds import LONGEST_SENTENCE
from tools.torture.cases import FileAttack, Outcome, Wrong, judge, not_one_sentence
from tools.torture.demo_server import started
from tools.torture.mutate import broken_bytes, broken_json
from tools.torture.page import TITLES, page
from tools.torture.visitors import Visitor, Visits, shown_files

FILES = {
    "pictures": 60,
    "videos": 12,
    "checkpoints": 60,
    "onnx_files": 40,
    "states": 40,
    "data": 12,
}


def attacked(name, count, tmp_path):
    """The outcomes of an attack's first cases, in this process."""
    attack = pool.load_attack(name, tmp_path)
    outcomes = [judge(attack, name, number, 0, tmp_path) for number in range(count)]
    attack.control(tmp_path)
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_broken_files_are_answered_or_refused_in_one_sentence(name, tmp_path):
    outcomes = attacked(name, FILES[name], tmp_path)
    assert [f"{one.number}: {one.words}" for one in outcomes if one.verdict == "fault"] == []
    verdicts = {one.verdict for one in outcomes}
    assert verdicts == {"answered", "refused"}, "all of one kind: nothing was broken, or all was"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills and limits of POSIX")
@pytest.mark.parametrize("name", ["labelling", "disk"])
def test_kills_and_a_full_disk_leave_whole_files(name, capsys):
    tally = record.Tally(name, seed=1)
    run = __import__(f"tools.torture.{name}", fromlist=["run"]).run
    run(tally, 0.04, 1)
    assert tally.faults == [] and tally.tried > 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills of POSIX")
def test_a_training_that_was_killed_twice_ends_as_an_undisturbed_one(capsys):
    from tools.torture import training

    tally = record.Tally("training", seed=1)
    training.run(tally, 0.04, 1)
    assert tally.faults == [] and tally.more["kills"] == 2


# --- the demo: nothing that was shown is kept ---


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    """(files while a visitor is there, after the server's end, its log) of a demo of its own."""
    home = tmp_path_factory.mktemp("visited")
    visits = Visits(shown_files(home))
    with started(home) as server:
        with ThreadPoolExecutor(3) as threads:
            for number in range(3):
                visitor = Visitor(server, visits, f"visited {number}")
                for kind in ("photo", "broken", "video"):
                    threads.submit(visitor.once, kind)
        during = server.files()
    return visits, during, server


@pytest.mark.slow
def test_visitors_are_answered_or_refused_in_one_sentence(visited):
    visits, _, server = visited
    assert visits.faults == [] and visits.counts["answered"] >= 6
    assert "Traceback" not in server.log.read_text("utf-8", "replace")


@pytest.mark.slow
def test_nothing_that_was_shown_is_on_the_disk_after_a_visit(visited):
    # The photo, the drawn answer and the film lie in a folder while the page shows them
    _, during, server = visited
    assert [name for name in during if name.endswith("portrait.jpg") or "film" in name]
    assert server.files() == []


@pytest.mark.slow
def test_every_request_of_many_programs_ends_and_is_counted_once(capsys):
    tally = record.Tally("programs", seed=1)
    programs.run(tally, 0.02, 1)
    assert tally.faults == [] and tally.answered > 0 and tally.refused > 0


# --- the attacks themselves ---


def test_an_answer_of_another_picture_is_a_fault_of_the_server():
    faces = [[FacePrediction((k, 0, 40, 40), {"happy": 0.75, "sad": 0.25})] for k in range(2)]
    told = [{"faces": [answer_entry(face) for face in one]} for one in faces]
    mute = httpx.Response(429, json={"error": "full"}, headers={"Retry-After": "0"})
    replies = {"right": httpx.Response(200, json=told[0]), "mute": mute,
               "other": httpx.Response(200, json=told[1]),
               "dump": httpx.Response(422, json={"error": "Traceback: a\nb"})}  # fmt: skip

    async def faults_of(reply):
        crowd = programs.Crowd(0, [b"0"], faces[:1], {"a": b"a", "b": b"b"})
        transport = httpx.MockTransport(lambda _: reply)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as web:
            ask = crowd.broken if reply.status_code == 422 else crowd.picture
            await ask(web, random.Random(0))
        return crowd.faults

    found = {name: apart(faults_of(reply)) for name, reply in replies.items()}
    assert {name for name, faults in found.items() if not faults} == {"right"}


class Planted(FileAttack):
    """Each case does one thing that must be found, by its number."""

    def try_one(self, rng, folder):
        number = int((folder.parent / "number").read_text())
        if number == 1:
            raise ValueError("a.png is broken; export it again")
        if number == 2:
            raise KeyError("class_names")
        if number == 3:
            raise ValueError("line\nline")
        if number == 4:
            raise Wrong("nan")
        if number == 5:
            os.write(2, b"TIFF warning")
        if number == 6:
            raise ValueError("a" * (LONGEST_SENTENCE + 1))


FOUND = {0: "answered", 1: "refused", 2: "KeyError", 3: "more than one line", 4: "wrong answer",
         5: "TIFF warning", 6: "characters"}  # fmt: skip


@pytest.mark.parametrize("number", FOUND)
def test_what_is_planted_is_found(number, tmp_path):
    (tmp_path / "number").write_text(str(number))
    outcome = judge(Planted(tmp_path), "planted", number, 0, tmp_path)
    assert FOUND[number] in f"{outcome.verdict} {outcome.words}"
    assert (outcome.verdict == "fault") == (number > 1)


def test_a_crash_and_a_hang_are_told_with_their_case_and_the_rest_goes_on(tmp_path, monkeypatch):
    # The processes are spawned: they import this module, tests.integration.test_torture
    monkeypatch.setattr(pool, "KILL_AFTER", 1.0)
    monkeypatch.setattr(pool, "work", crash_or_hang)
    told: list[Outcome] = []
    pool.run_cases("planted", range(6), 0, 2, told.append)
    found = {one.number: one.words for one in told}
    assert sorted(found) == list(range(6))
    assert "crashed" in found[1] and "did not come back" in found[4]
    assert [number for number in found if not found[number]] == [0, 2, 3, 5]


def crash_or_hang(name, seed, pipe, scratch):
    pipe.send(None)
    while (number := pipe.recv()) is not None:
        if number == 1:
            os.abort()
        if number == 4:
            time.sleep(60)
        pipe.send(Outcome(number, "answered", "", 0.0, 0.0))


def test_the_same_seed_breaks_the_same_bytes_and_another_seed_others():
    whole, card = bytes(range(256)) * 4, {"a": [1, {"b": "c"}], "d": 0.5}
    for break_one in (
        lambda r: broken_bytes(whole, whole[::-1], r),
        lambda r: broken_json(card, r),
    ):
        first, again, other = (
            [repr(break_one(random.Random(f"{seed} {i}"))) for i in range(40)] for seed in (0, 0, 1)
        )
        assert first == again != other and len(set(first)) > 30
    assert card == {"a": [1, {"b": "c"}], "d": 0.5}


def test_a_refusal_is_one_sentence():
    assert not_one_sentence("a.png is an empty file; save it again") == ""
    assert not_one_sentence(" ") and not_one_sentence("a\nb")
    assert not_one_sentence("re-run with weights_only=False")


def test_a_run_is_recorded_and_goes_on_with_what_is_missing(tmp_path, monkeypatch, capsys):
    tried: list[str] = []

    def fake(tally, args):
        tried.append(tally.name)
        tally.add(Outcome(0, "answered", "", 0.25, 100.0))
        tally.add(Outcome(1, "refused", "a.png is empty", 0.5, 200.0))
        if tally.name == "videos":
            tally.add(Outcome(7, "fault", "KeyError: 'a' | at b.py:1", 0.1, 50.0))

    monkeypatch.setattr(command, "break_files", fake)
    out = ["--out", str(tmp_path)]
    assert command.main(["--only", "pictures", *out]) == 0
    assert command.main(["--only", "pictures", "videos", "--missing", *out]) == 1
    assert tried == ["pictures", "videos"]
    attacks = json.loads((tmp_path / "torture.json").read_text("utf-8"))["attacks"]
    assert (attacks["videos"]["tried"], attacks["videos"]["faults"]) == (3, 1)
    assert "--case 7" in attacks["videos"]["fault_list"][0]["again"]
    assert {"command", "revision", "seconds", "machine", "peak_mb"} <= attacks["pictures"].keys()
    text = (tmp_path / "TORTURE.md").read_text("utf-8")
    assert "mutated pictures | 2 | 1 | 1 | 0 | 0.5 s | 200 MB" in text and "KeyError" in text


def test_memory_over_the_bound_is_a_fault():
    tally = record.Tally("pictures", 0)
    tally.add(Outcome(0, "answered", "", 0.1, 100_000))
    assert len(tally.faults) == 1 and "100000 MB" in tally.faults[0]["what"]


def test_the_committed_page_is_made_from_the_committed_figures():
    results = Path(record.ROOT) / "results"
    if not (results / "torture.json").exists():
        pytest.skip("not run yet: make torture")
    attacks = record.read(results / "torture.json")
    assert page(attacks) == (results / "TORTURE.md").read_text("utf-8")
    assert set(attacks) <= set(TITLES)


def test_security_names_every_attack_and_tests_that_are_there():
    text = (record.ROOT / "SECURITY.md").read_text("utf-8")
    named = re.findall(r"`(t\w+/[\w/]+\.py)`", text)
    assert len(named) > 15 and [name for name in named if not (record.ROOT / name).exists()] == []
    assert [name for name in TITLES if f"`{name}`" not in text] == []
    assert str(visitors.CLIENTS) in text
