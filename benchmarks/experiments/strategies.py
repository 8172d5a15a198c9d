"""E15: probing, fine-tuning and both, by labelled records of a class: what the rule for few labels rests on."""

from copy import deepcopy

import numpy as np
import torch
from torch import nn

from benchmarks.experiments.common import Finding, Network, digits, few, halves, source_net
from multimodal.transfer.probes.logistic import fit_softmax

DRAWS = 5
STEPS = 280
ARMS = ("probe", "LP-FT, last layer", "LP-FT", "fine-tuning")


def e15() -> list[Finding]:
    """Digits by few labels: frozen, probe then fine-tuning (last layer, all), all at once (5 draws, SGD at 0.01)."""
    expected = {  # an earlier measurement, of this source and target alone
        (10, "probe"): 0.901,
        (10, "LP-FT"): 0.897,
        (10, "fine-tuning"): 0.839,
        (50, "probe"): 0.940,
        (50, "LP-FT"): 0.952,
        (50, "fine-tuning"): 0.941,
    }
    # of what comes after a probe, over the probe; set after a first look: it costs little and saves much
    bounds = {"10 classes": -0.02, "0-4": 0.03}
    found = []
    for name, source in (("10 classes -> parity", "10 classes"), ("0-4 -> 5-9 (harmful)", "0-4")):
        for count in (2, 10, 50):
            accuracies = np.mean([_arms(source, count, seed) for seed in range(DRAWS)], axis=0)
            measured = dict(zip(ARMS, accuracies.tolist(), strict=True))
            for arm in ARMS:
                if source == "10 classes" and (count, arm) in expected:
                    found.append(Finding(f"{name}, {count} a class, {arm}", expected[count, arm], measured[arm], 0.05))
            for arm in ARMS[1:]:
                gain = measured[arm] - measured["probe"]
                bound = -0.04 if arm == "fine-tuning" and source == "10 classes" else bounds[source]
                found.append(Finding(f"{name}, {count} a class, {arm} less probe", bound, gain, 0.0, "at least"))
    return found


def _arms(source: str, count: int, seed: int) -> list[float]:
    pixels, labels = digits()
    rows = halves(seed)[1] if source == "10 classes" else np.flatnonzero(labels >= 5)
    targets = labels % 2 if source == "10 classes" else labels - 5
    train, test = few(targets, rows, count, seed)
    net = source_net(source, seed)  # type: ignore[arg-type]
    probe = fit_softmax(net.features(pixels)[train], targets[train], l2=1e-2)
    classes = len(probe.bias)

    def tuned(depth: int, *, from_probe: bool) -> float:
        torch.manual_seed(seed)
        model = deepcopy(net)
        model.head = nn.Linear(32, classes)
        if from_probe:
            with torch.no_grad():
                model.head.weight.copy_(torch.from_numpy(probe.weights))
                model.head.bias.copy_(torch.from_numpy(probe.bias))
        _finetune(model, pixels[train], targets[train], depth)
        with torch.no_grad():
            answers = model(torch.from_numpy(pixels[test]).float()).argmax(1).numpy()
        return float(np.mean(answers == targets[test]))

    frozen = float(np.mean(probe.predict(net.features(pixels)[test]) == targets[test]))
    return [frozen, tuned(1, from_probe=True), tuned(2, from_probe=True), tuned(2, from_probe=False)]


def _finetune(net: Network, x: np.ndarray, labels: np.ndarray, depth: int) -> None:
    """SGD of the last ``depth`` layers and the head."""
    layers = list(net.layers)[len(net.layers) - depth :]
    parameters = [parameter for layer in (*layers, net.head) for parameter in layer.parameters()]
    optimizer = torch.optim.SGD(parameters, 1e-2, momentum=0.9)
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy(labels)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (16,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[rows]), targets[rows]).backward()
        optimizer.step()
