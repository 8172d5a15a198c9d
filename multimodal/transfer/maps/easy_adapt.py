"""EasyAdapt: a shared copy of the features, and one for each domain. Never imports torch."""

import numpy as np

from multimodal.transfer.maps.affine import AffineMap, DomainMaps


def easy_adapt(width: int) -> DomainMaps:
    """Source: [x, x, 0]; target: [x, 0, x]. A linear model folds into W_shared + W_target for the target.

    Daume (2007, https://aclanthology.org/P07-1033).

    When not to use: without target labels, or with a source whose labels mean something else: the shared copy then
    carries them over (choose the source's weight by cross-validation first).

    Args:
        width: d of both domains.

    Raises:
        ValueError: if it is not positive.
    """
    if width < 1:
        raise ValueError(f"width is {width}; give the width of the features, 1 or more")
    one, none, zeros = np.eye(width), np.zeros((width, width)), np.zeros(3 * width)
    return DomainMaps(AffineMap(np.hstack([one, one, none]), zeros), AffineMap(np.hstack([one, none, one]), zeros))
