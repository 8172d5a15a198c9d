"""Heads whose answer is a vector: ArcFace and supervised contrast, against formulas written out."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.assertions import assert_close

from multimodal.decoding import Embedding
from multimodal.model.embedding_heads import ArcFaceHead, SupConHead, arcface_losses, supcon_losses


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def test_arcface_without_a_margin_is_the_softmax_of_scaled_cosines():
    embeddings, centres = unit(6, 5), unit(3, 5, seed=1)
    losses = arcface_losses(embeddings, LABELS, 7 * centres, margin=0.0, temperature=0.1)
    assert_close(losses, F.cross_entropy(embeddings @ centres.T / 0.1, LABELS, reduction="none"))


def test_arcface_widens_the_own_angle_by_the_margin():
    embeddings, centres = unit(6, 5), unit(3, 5, seed=1)
    angles = np.arccos((embeddings @ centres.T).double().numpy())
    rows, margin = np.arange(6), 0.4
    assert (angles[rows, LABELS] + margin < math.pi).all()
    angles[rows, LABELS] += margin
    logits = np.cos(angles) / 0.05
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[rows, LABELS]
    losses = arcface_losses(embeddings, LABELS, centres, margin=margin, temperature=0.05)
    assert_close(losses, expected.astype(np.float32), "rotated")


def test_arcface_goes_on_falling_where_the_angle_would_pass_half_a_turn():
    centres = torch.eye(2)
    angles = torch.tensor([2.9, 3.0, 3.1])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    losses = arcface_losses(embeddings, torch.zeros(3, dtype=torch.long), centres, margin=0.5, temperature=1.0)
    own = angles.cos() - 0.5 * math.sin(0.5)
    assert_close(losses, torch.stack([own, angles.sin()], dim=1).logsumexp(dim=1) - own)


def test_arcface_has_a_finite_gradient_where_a_record_lies_on_its_centre():
    embeddings = torch.eye(2, requires_grad=True)
    arcface_losses(embeddings, torch.tensor([0, 1]), torch.eye(2), margin=0.3, temperature=0.05).sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


def test_the_chance_loss_of_arcface_is_that_of_embeddings_across_all_centres():
    head = ArcFaceHead(4, width=3, num_labels=2, margin=0.3, temperature=0.05)
    with torch.no_grad():
        head.centres.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    across = torch.tensor([[0.0, 0, 1]])
    assert_close(head.loss(across, torch.tensor([1]))[0], head.chance_loss)


def test_supcon_is_the_formula_of_the_paper():
    embeddings, temperature = unit(6, 5), 0.2
    losses = supcon_losses(embeddings, LABELS, temperature=temperature)
    z, labels = embeddings.double().numpy(), LABELS.tolist()
    for i, loss in enumerate(losses.tolist()):
        others = [a for a in range(6) if a != i]
        partners = [p for p in others if labels[p] == labels[i]]
        below = sum(math.exp(z[i] @ z[a] / temperature) for a in others)
        terms = [math.log(math.exp(z[i] @ z[p] / temperature) / below) for p in partners]
        assert_close(loss, -sum(terms) / len(terms) if terms else 0.0)


def test_supcon_of_equal_embeddings_is_guessing_among_the_others():
    losses = supcon_losses(unit(1, 4).repeat(6, 1), torch.tensor([0, 0, 0, 1, 1, 2]), temperature=0.1)
    assert_close(losses, torch.tensor([math.log(5)] * 5 + [0.0]))
    guessing = SupConHead(4, width=4).loss(unit(1, 4).repeat(4, 1), torch.tensor([0, 0, 1, 1]))
    assert_close(guessing, torch.ones(4))


def test_supcon_of_separated_labels_falls_to_the_choice_among_their_own():
    embeddings = torch.eye(2)[[0, 0, 0, 1, 1]]
    losses = supcon_losses(embeddings, torch.tensor([0, 0, 0, 1, 1]), temperature=0.01)
    assert_close(losses, torch.tensor([math.log(2)] * 3 + [0.0] * 2))


@pytest.mark.parametrize("head", [ArcFaceHead(4, width=5, num_labels=3), SupConHead(4, width=5)])
def test_every_embedding_head_gives_unit_vectors_and_skips_unknown_labels(head):
    outputs = head(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)))
    assert_close(outputs.norm(dim=1), torch.ones(7))
    target = torch.tensor([0, -1, 1, 0, -1, 2, 1])
    losses, known = head.loss(outputs, target), target >= 0
    assert losses[~known].tolist() == [0.0, 0.0]
    assert_close(losses[known], head.loss(outputs[known], target[known]))
    losses.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    assert head.loss(outputs, torch.full((7,), -1)).tolist() == [0.0] * 7


def test_the_answer_is_the_vector_and_its_decoding_is_json():
    decoding = Embedding.from_config(SupConHead(4, width=2).decoding().to_config())
    assert decoding == Embedding()
    outputs = np.array([[0.6, 0.8]], np.float32)
    assert decoding.predictions(outputs)[0].embedding.tolist() == outputs[0].tolist()
    assert decoding.predictions(outputs)[0].label is None
