"""`expression label` with Ray: driver and workers are killed, no picture is lost or there twice.

The attack `bulk` of `make torture`, with 200 pictures; Ray is started twice, for all of it.
"""

import os
import socket
from pathlib import Path

import pytest

from tools.torture import bulk
from tools.torture.record import Tally


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="kills, and looks at Linux's list")
def test_kills_lose_no_picture_and_none_is_there_twice(capsys):
    tally = Tally("bulk", seed=1)
    bulk.run(tally, 0.02, 2)
    assert tally.faults == []
    assert (tally.more["drivers_killed"], tally.more["workers_killed"]) == (1, 1)
    assert tally.tried == 200 and tally.refused == 4 and tally.answered == 196


# --- the attack itself: one that finds nothing would prove nothing ---

FACE = ((1, 2, 3, 4), "happy", [0.75, 0.25])


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux's list of sockets")
def test_a_socket_that_others_reach_is_found():
    for host, alone in (("127.0.0.1", True), ("0.0.0.0", False), ("::1", True), ("::", False)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as server:
            server.bind((host, 0))
            server.listen()
            found = bulk.sockets_of({os.getpid(): "this"})
            assert all(map(bulk.is_loopback, found)) == alone and found, host
    assert bulk.is_loopback("0000000000000000FFFF00000100007F")  # ::ffff:127.0.0.1


def row(**other):
    usual = {"seconds": None, "face": 1, "x": 1, "y": 2, "width": 3, "height": 4}
    return {**usual, "label": "happy", "error": None, **other, "happy": 0.75, "sad": 0.25}


@pytest.mark.parametrize(
    ("rows", "wanted", "told"),
    [
        ([row()], [FACE], ""),
        ([], [FACE], "lost"),
        ([row(), row()], [FACE], "2 faces"),
        ([row(label="sad")], [FACE], "sad"),
        ([row(x=9)], [FACE], "(9, 2, 3, 4)"),
        ([row() | {"happy": 0.5, "sad": 0.5}], [FACE], "probabilities"),
        ([row(face=0)], [], ""),
        ([row()], [], "face 1"),
        ([row(face=0)] * 2, [], "2 rows"),
        ([row(face=0, error="broken")], None, ""),
        ([row(face=0)], None, "error None"),
    ],
)
def test_what_is_planted_is_found(rows, wanted, told):
    found = bulk.fault_of(rows, wanted)
    assert told in found and bool(told) == bool(found)
