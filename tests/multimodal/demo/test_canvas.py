import numpy as np
import pytest
from support.assertions import assert_close

from multimodal.demo.canvas import SUPERSAMPLING, Canvas, Flat, Paint, Part, Pose, Round

RED, WHITE = np.array((0.8, 0.2, 0.2), np.float32), np.ones(3, np.float32)
SQUARE = Part(np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]), "body")


def filled(part, pose, paint=None, *, side=1.0, size=32):
    canvas = Canvas(size)
    canvas.fill(part, Paint(RED) if paint is None else paint, pose, side)
    return canvas.pixels


def test_a_flat_part_covers_its_outline_and_nothing_else():
    pixels = filled(SQUARE, Pose(20.0, 30.0, 8.0))
    expected = np.zeros((64, 64, 3))
    expected[22:39, 12:29] = RED  # polygons include their border
    assert_close(pixels, expected)


def test_what_lies_outside_the_canvas_is_cut_off():
    assert_close(filled(SQUARE, Pose(0.0, 0.0, 8.0))[9:, 9:], np.zeros((55, 55, 3)))
    assert not filled(SQUARE, Pose(-50.0, 500.0, 8.0)).any()


def test_a_pattern_follows_the_axes_of_its_face():
    turned = Part(SQUARE.outline, "body", Flat(across=np.array([0.0, 1.0]), along=np.array([1.0, 0.0])))
    halves = Paint(RED, WHITE, lambda s, t: s > 0.0)
    pose = Pose(32.0, 32.0, 8.0)
    straight, sideways = (filled(part, pose, halves) for part in (SQUARE, turned))
    assert_close(straight[32, [28, 36]], np.stack([RED, WHITE]))
    assert_close(sideways, straight.transpose(1, 0, 2))


def test_a_pose_turns_clockwise_and_scales():
    assert_close(Pose(5.0, 7.0, 2.0, np.pi / 2).place(np.array([(1.0, 0.0)])), np.array([(5.0, 9.0)]))


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_round_part_is_brighter_where_the_light_comes_from(side):
    heights = np.linspace(-1.0, 1.0, 20)
    cylinder = Part(SQUARE.outline, "body", Round(heights, np.ones(20)))
    row = filled(cylinder, Pose(32.0, 32.0, 20.0), side=side)[32, :, 0]
    left, right = row[13:32].mean(), row[33:52].mean()
    assert (right - left) * side > 0.1


def test_a_shadow_is_darkest_at_its_middle():
    canvas = Canvas(32)
    canvas.pixels[:] = 1.0
    canvas.darken(Pose(32.0, 20.0, 10.0), 1.0, 0.5, 0.6)
    assert_close(canvas.pixels[20, 32], np.full(3, 0.4))
    assert_close(canvas.pixels[25, 32], np.full(3, 1.0 - 0.6 * np.exp(-1.0)))
    assert canvas.pixels.argmin() // 3 == 20 * canvas.size + 32


def test_the_finished_picture_averages_what_was_drawn():
    canvas = Canvas(8)
    canvas.pixels[:] = np.random.default_rng(0).random(canvas.pixels.shape)
    gain = np.array((0.5, 0.8, 1.0), np.float32)
    picture = np.asarray(canvas.finish(gain, np.zeros((8, 8, 1), np.float32)))
    means = canvas.pixels.reshape(8, SUPERSAMPLING, 8, SUPERSAMPLING, 3).mean(axis=(1, 3))
    assert np.abs(picture - means * gain * 255).max() <= 0.51
