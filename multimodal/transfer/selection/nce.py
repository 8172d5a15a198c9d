"""NCE: what is left to say of the target labels once the source labels are known. Never imports torch."""

import numpy as np

from multimodal.transfer.checks import check_labels


def negative_conditional_entropy(source_labels: np.ndarray, labels: np.ndarray) -> float:
    """-H(target | source) in nats; at most zero, higher is better.

    Tran et al. (2019, https://arxiv.org/abs/1908.08142). It is LEEP of source answers that are certain.

    When not to use: where the source model's answers are unsure; LEEP keeps what they say of the other classes.

    Args:
        source_labels: the source model's answer (or the source label) of each target record, int [n].
        labels: target class of each record, int [n].

    >>> negative_conditional_entropy(np.array([0, 1, 2]), np.array([1, 1, 0]))
    0.0
    """
    labels, count = check_labels(labels, len(labels))
    answers, kinds = check_labels(source_labels, len(labels))
    joint = np.bincount(answers * count + labels, minlength=kinds * count).reshape(kinds, count) / len(labels)
    mass = np.broadcast_to(joint.sum(axis=1, keepdims=True), joint.shape)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / mass[seen])).sum()) + 0.0  # never -0.0
