import numpy as np
import pytest
from support.assertions import assert_close

from multimodal.demo.canvas import Round
from multimodal.demo.objects import PACKAGES, THINGS
from multimodal.demo.outlines import Block, revolve, ring

ROLES = {"body", "lid", "paper", "glass", "foil", "metal", "wood", "dark", "leaf"}


@pytest.mark.parametrize("name", [*PACKAGES, *THINGS])
def test_every_object_is_about_two_high_and_carries_the_pattern(name):
    for seed in range(5):
        parts = {**PACKAGES, **THINGS}[name](np.random.default_rng(seed))
        points = np.concatenate([part.outline for part in parts])
        assert np.abs(points).max() < 1.5
        assert 1.2 < np.ptp(points[:, 1]) < 2.2
        assert "body" in {part.role for part in parts} <= ROLES


def test_the_source_task_has_nothing_that_the_shop_sells():
    assert not set(PACKAGES) & set(THINGS)


def test_a_turned_body_is_symmetrical_and_has_the_radii_of_its_profile():
    part = revolve("body", [(-1.0, 0.2), (0.0, 0.6), (1.0, 0.4)], center=0.3)
    assert isinstance(part.surface, Round)
    at = np.array([-1.0, -0.5, 0.5, 1.0])
    assert_close(np.interp(at, part.surface.heights, part.surface.radii), np.array([0.2, 0.4, 0.5, 0.4]))
    mirrored = part.outline * (-1, 1) + (0.6, 0.0)
    distances = np.linalg.norm(part.outline[:, None] - mirrored[None], axis=2)
    assert_close(distances.min(axis=1), np.zeros(len(mirrored)))


def test_a_ring_keeps_its_width():
    outline = ring("lid", (0.0, 0.0), (1.0, 1.0), 0.2, 0.0, np.pi).outline
    radii = np.linalg.norm(outline, axis=1)
    assert_close(radii, np.repeat([1.1, 0.9], 20))


def test_the_faces_of_a_block_meet_at_its_front_corner():
    block = Block(1.0, 0.8, 1.4, 0.6)
    front, flank = block.front("body"), block.flank("body")
    assert_close(front.outline[0], flank.outline[0])
    assert_close(front.outline[3], flank.outline[3])
    assert front.outline[:, 0].min() < flank.outline[:, 0].min() == front.outline[:, 0].max()
