import numpy as np
import pytest

from multimodal.demo.objects import PACKAGES, THINGS
from multimodal.demo.pictures import PATTERNS, PICTURE_SIZE, draw_picture


@pytest.mark.parametrize("thing", [*PACKAGES, *THINGS])
def test_everything_can_be_drawn_with_every_pattern(thing):
    for pattern in PATTERNS:
        pixels = np.asarray(draw_picture(thing, pattern, np.random.default_rng(1)))
        assert pixels.shape == (PICTURE_SIZE, PICTURE_SIZE, 3)
        assert pixels.std() > 5.0


def test_the_same_generator_draws_the_same_picture_and_another_one_another():
    first, again, other = (np.asarray(draw_picture("jar", "dotted", np.random.default_rng(s))) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).mean() > 0.9


@pytest.mark.parametrize(("name", "low", "high"), [("plain", 0, 0), ("striped", 0.49, 0.51), ("dotted", 0.3, 0.33)])
def test_a_pattern_covers_its_share(name, low, high):
    s, t = np.random.default_rng(0).uniform(0, 40, (2, 200_000))
    assert low <= PATTERNS[name](2.0, 0.7, 0.1)(s, t).mean() <= high


def test_checks_are_stripes_across_stripes():
    s, t = np.random.default_rng(0).uniform(0, 9, (2, 1000))
    across, along = (PATTERNS["striped"](1.4, angle, 0.2)(s, t) for angle in (0.3, 0.3 + np.pi / 2))
    assert (PATTERNS["checked"](2.0, 0.3, 0.2)(s, t) == (across != along)).all()


def test_a_zigzag_returns_after_a_period_and_turns_in_between():
    pattern = PATTERNS["zigzag"](2.0, 0.0, 0.0)
    t = np.linspace(0, 2, 500)
    start, middle, end = (pattern(np.full(500, s), t) for s in (0.0, 0.3125, 0.625))  # 1 / (2.0 * 0.8) = 0.625
    assert (start == end).all()
    assert (start != middle).any()


@pytest.mark.parametrize(("thing", "pattern", "word"), [("jat", "dotted", "jat"), ("jar", "spotted", "spotted")])
def test_what_nobody_has_drawn_is_an_error_that_lists_what_there_is(thing, pattern, word):
    with pytest.raises(LookupError, match=f"nobody has drawn '{word}' yet; there are (carton|plain), "):
        draw_picture(thing, pattern, np.random.default_rng(0))
