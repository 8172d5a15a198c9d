"""Kernel mean matching: source weights that bring the kernel means of both domains together. Never imports torch."""

import numpy as np

from multimodal.transfer.checks import check_pair


def kernel_mean_matching(
    source: np.ndarray, target: np.ndarray, *, bandwidth: float | None = None, most: float = 1000.0
) -> np.ndarray:
    """Weights [n] in 0..most that minimise |sum_i w_i phi(x_i) / n - mean phi(target)|^2 for a Gaussian kernel.

    Huang et al. (2006, Correcting sample selection bias by unlabeled data). Ours differs: bounds only; the paper's
    constraint on the mean of the weights is left out, since the optimum nearly meets it where domains overlap.

    When not to use: beyond some thousands of source records (the kernel is n x n), or in many dimensions, where all
    distances are alike; ``density_ratio_weights`` scales.

    Args:
        source, target: [n d] and [m d].
        bandwidth: s of exp(-|x - y|^2 / 2 s^2); None: the median distance between the domains.
        most: largest weight.

    Raises:
        ValueError: if the bandwidth or the bound is not above 0.
    """
    from scipy.optimize import minimize
    from scipy.spatial.distance import cdist

    source, target = check_pair(source, target)
    between = cdist(source, target, "sqeuclidean")
    scale = 2.0 * (float(np.median(between)) if bandwidth is None else bandwidth**2)
    if not scale > 0 or not most > 0:
        raise ValueError(f"bandwidth is {bandwidth} and most {most}; give both above 0 (or bandwidth None)")
    n = len(source)
    kernel = np.exp(-cdist(source, source, "sqeuclidean") / scale)
    wanted = np.exp(-between / scale).mean(axis=1) * n

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slopes = kernel @ weights - wanted
        return float(weights @ (slopes - wanted)) / 2, slopes

    options = {"maxiter": 5000, "maxfun": 100_000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(objective, np.ones(n), jac=True, method="L-BFGS-B", bounds=[(0.0, most)] * n, options=options)
    return found.x
