"""Source features where the target's are, and a linear head that moves to another encoder by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from support.assertions import assert_close

from multimodal.transfer.maps.domain import fit_into_target, fit_standardise, fit_subspace_alignment, pseudo_inverse

RNG = np.random.default_rng(0)
TARGET = RNG.normal(size=(200, 5)) @ RNG.normal(size=(5, 5)) + 3.0
SOURCE = 7.0 * RNG.normal(size=(150, 5)) @ RNG.normal(size=(5, 5)) - 2.0


def test_standardised_source_features_have_the_target_s_mean_and_deviation():
    target = np.concatenate([TARGET, np.full((200, 1), 4.0)], axis=1)
    source = np.concatenate([SOURCE, RNG.normal(size=(150, 1))], axis=1)
    maps = fit_into_target(source, target, "standardise")
    moved = maps.source.transform(source)
    assert_close(moved.mean(axis=0), target.mean(axis=0), "float32")
    assert_close(moved.std(axis=0), target.std(axis=0), "float32")  # of one value: that value
    assert_close(maps.target.transform(target), target, "float64")


def test_with_coral_source_features_have_the_target_s_mean_and_nearly_its_covariance():
    moved = fit_into_target(SOURCE, TARGET, "coral").source.transform(SOURCE)
    assert_close(moved.mean(axis=0), TARGET.mean(axis=0), "float32")
    before, after = (np.linalg.norm(np.cov(rows.T) - np.cov(TARGET.T)) for rows in (SOURCE, moved))
    assert after < 0.1 * before


def test_behind_the_target_s_map_moved_records_are_where_subspace_alignment_puts_them():
    maps = fit_into_target(SOURCE, TARGET, "subspace_alignment", components=3)
    scaled = fit_standardise(SOURCE).transform(SOURCE), fit_standardise(TARGET).transform(TARGET)
    aligned = fit_subspace_alignment(*scaled, 3)
    assert_close(maps.target.transform(maps.source.transform(SOURCE)), aligned.source.transform(scaled[0]), "float32")
    assert_close(maps.target.transform(TARGET), aligned.target.transform(scaled[1]), "float32")


def test_the_pseudo_inverse_of_a_scale_is_its_inverse():
    scaling = fit_standardise(TARGET)
    assert_close(pseudo_inverse(scaling).transform(scaling.transform(TARGET)), TARGET, "float32")


def test_features_of_other_dims_are_refused():
    with pytest.raises(ValueError, match="source features have dimension 5 and target features 4"):
        fit_into_target(SOURCE, TARGET[:, :4], "coral")


def test_the_guide_s_lines_fold_a_head_for_another_encoder():
    guide = Path(__file__).resolve().parents[4] / "docs" / "methods.md"
    lines = next(part for part in guide.read_text().split("```python\n") if "across = " in part).split("```")[0]
    turn = Rotation.random(random_state=0).as_matrix()
    features_a = RNG.normal(size=(50, 3))
    head = SimpleNamespace(linear=torch.nn.Linear(3, 2))
    names = {"head": head, "features_a": features_a, "features_b": features_a @ turn + 1.0}
    before = head.linear(torch.from_numpy(features_a).float())
    exec(lines, names | {"torch": torch})
    assert_close(head.linear(torch.from_numpy(names["features_b"]).float()), before, "rotated")
