"""What was wanted is held against what was measured, and a miss is never called a success."""

from benchmarks import wanted
from benchmarks.wanted import Aim


def looped(share):
    return {"cases": [{"turns": [{"share": share, "bare": 200.0}] * 3}] * 2}


def grown(*paces):
    sizes = [{"pictures": 10 ** (k + 1), "rates": [pace] * 3, "peak_megabytes": 1000.0 + k}
             for k, pace in enumerate(paces)]  # fmt: skip
    return {"sizes": sizes}


def compared(**rates):
    return {"rows": [{"name": name, "median": rate} for name, rate in rates.items()]}


RATES = {
    "train_loop-Batches": 330.0,
    "train_loop-Batches-channels_last": 340.0,
    "train_loop-plain-0": 100.0,
    "lightning-plain-2": 110.0,
    "lightning-Batches": 300.0,
}


def test_an_aim_is_reached_between_its_bounds_and_never_without_a_measurement():
    assert Aim("", "", value=1.0, least=1).reached and not Aim("", "", value=0.9, least=1).reached
    assert Aim("", "", value=5.0, most=5).reached and not Aim("", "", value=5.1, most=5).reached
    assert not Aim("", "").reached and not Aim("", "", least=1).reached


def test_a_reason_is_given_where_something_was_missed_and_only_there():
    missed = Aim("a", "b", "c", 1, least=2, why="slow")
    met = Aim("a", "b", "c", 2, least=2, why="slow")
    assert wanted.table([missed]).endswith("| a | b | c | **no** | slow |")
    assert wanted.table([met]).endswith("| a | b | c | yes | – |")


def test_training_is_judged_by_its_worst_case():
    found = wanted.training(looped(0.97), grown(100, 99, 95), compared(**RATES))
    assert [aim.reached for aim in found] == [True, False, True, True, True, True, True]
    slower = RATES | {"lightning-Batches": 331.0, "train_loop-plain-0": 120.0}
    found = wanted.training(looped(0.94), grown(100, 89, 95), compared(**slower))
    assert [aim.reached for aim in found] == [False, False, False, True, False, False, True]


def test_a_speedrun_needs_its_seeds_and_its_target():
    def runs(*tests):
        return {"cpu 65": {"runs": [{"test": share} for share in tests]}}

    first, *later = wanted.running(runs(0.65, 0.66, 0.65, 0.65, 0.66))
    assert first.reached and not any(aim.reached for aim in later)
    assert "65.4 ± 0.5 %, 5 seeds" in first.told
    assert not wanted.running(runs(0.66, 0.66))[0].reached
    assert not wanted.running(runs(0.64, 0.65, 0.65, 0.65, 0.65))[0].reached


def test_the_way_to_look_is_chosen_on_validation():
    told = {"validation": {"plain": {"accuracy": 0.6}, "flip": {"accuracy": 0.7}},
            "test": {"plain": {"accuracy": 0.8}, "flip": {"accuracy": 0.65}}}  # fmt: skip
    assert wanted.best(told) == ("with the mirror image", 65.0)


def test_every_committed_file_gives_its_aims():
    found = wanted.aims()
    assert all(aim.reached or aim.why for aim in found), "a miss without a reason"
