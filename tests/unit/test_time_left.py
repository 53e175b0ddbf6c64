"""The demo's progress of a video: time left, and a bar that reaches its end."""

from expression.app.time_left import DRAWING, TimeLeft


def test_the_bar_rises_to_its_end_whatever_the_length():
    # Whole seconds of an eight-second clip stopped at 7/8 = 87.5 %
    time_left = TimeLeft(clock=lambda: 0.0)
    shares = [time_left(k / 10, 8.0)[0] for k in range(81)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[79] > 0.9
    assert time_left(8.0, 8.0) == (shares[-1], DRAWING)


def test_the_time_left_follows_the_speed_so_far():
    clock = iter([0.0, 0.2, 10.0, 200.0])
    time_left = TimeLeft(clock=lambda: next(clock))
    assert "left" not in time_left(1.0, 100.0)[1]  # after 0.2 s nobody can know
    assert "about 40 s left" in time_left(20.0, 100.0)[1]
    assert "about 2 min left" in time_left(60.0, 100.0)[1]  # 40 of the 100 s, at 3.3 s each


def test_without_a_length_it_says_how_far_it_is():
    # Videos that a browser recorded do not say how long they are
    share, words = TimeLeft()(7.2, None)
    assert share is None and "7 s" in words
