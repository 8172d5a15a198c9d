"""E9, E14: figures that hold exactly."""

import math

import numpy as np
import torch
from scipy.stats import multivariate_normal

from benchmarks.experiments.common import Finding, digits, halves, shifted
from multimodal.transfer.adaptation.adversarial import reversal_scale
from multimodal.transfer.adaptation.confidence import mcc_loss
from multimodal.transfer.adaptation.distances import deep_coral_loss
from multimodal.transfer.multitask import UncertaintyWeighting, project_conflicts
from multimodal.transfer.selection.scores import Spectrum, leep, proxy_a_distance


def _unbiased_mmd(one: torch.Tensor, other: torch.Tensor) -> float:
    """Squared MMD of as many records each as a U-statistic, with a Gaussian kernel of bandwidth 1."""
    n = len(one)
    within_one, within_other, between = (
        torch.exp(-torch.cdist(a, b).square() / 2) for a, b in ((one, one), (other, other), (one, other))
    )
    return float((within_one.sum() + within_other.sum() - 2 * n) / (n * (n - 1)) - 2 * between.mean())


def e9() -> list[Finding]:
    """Losses and scores whose value is known."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(1000, 2, generator=generator) for _ in range(2))
    mmd = _unbiased_mmd(one, other + torch.tensor([2.0, 0.0]))
    cloud = torch.randn(1000, 3, generator=generator, dtype=torch.float64)
    white = torch.linalg.qr(cloud - cloud.mean(0)).Q * math.sqrt(999)
    weighting = UncertaintyWeighting(2)
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor([math.log(2), -math.log(2)]))
    labels = np.tile(np.arange(5), 20)
    projected = project_conflicts(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    pixels, _ = digits()
    own, there = halves(0)
    return [
        Finding("MMD of two normals, unbiased, 1,000 records", 0.3244, mmd, 0.03),
        Finding("MMD of one normal, unbiased", 0.0, _unbiased_mmd(one, other), 0.002),
        Finding("Deep CORAL of twice the cloud, d = 3", 0.75, float(deep_coral_loss(white, 2 * white)), 1e-6),
        Finding("MCC of uniform answers, 4 classes", 0.75, float(mcc_loss(torch.zeros(8, 4))), 1e-6),
        Finding("reversal at a quarter", 0.8483, reversal_scale(0.25), 1e-4),
        Finding("uncertainty weighting at its optimum", 1.0, float(weighting(torch.tensor([2.0, 0.5])).detach()), 1e-6),
        Finding("PCGrad, first element", 0.5, float(projected[0]), 1e-6),
        Finding("PCGrad, second element", 1.5, float(projected[1]), 1e-6),
        Finding("LEEP of uniform answers, 5 classes", -1.6094, leep(np.full((100, 7), 1 / 7), labels), 1e-4),
        Finding("A-distance, halves of one set", 0.03, proxy_a_distance(pixels[own], pixels[there]), 0.2),
        Finding("A-distance, blur", 1.87, proxy_a_distance(pixels[own], shifted(pixels[there], "blur")), 0.15),
        Finding("A-distance, roll", 1.88, proxy_a_distance(pixels[own], shifted(pixels[there], "roll 1px")), 0.15),
    ]


def e14() -> list[Finding]:
    """LogME with fewer records than features against the density of the target."""
    found = []
    for n, d in ((200, 20), (30, 512)):
        rng = np.random.default_rng(0)
        features, target = rng.normal(size=(n, d)), rng.normal(size=n)
        left, values, _ = np.linalg.svd(features, full_matrices=False)
        spectrum = Spectrum(left, values**2, size=n)
        alpha, beta = spectrum.fit(target)
        density = multivariate_normal(np.zeros(n), np.eye(n) / beta + features @ features.T / alpha).logpdf(target) / n
        found.append(Finding(f"{n} records of {d} features", float(density), spectrum.evidence(target), 1e-3))
    return [*found, Finding("30 of 512, and not 54.34", 0.0, found[1].measured, 0, "at most")]
