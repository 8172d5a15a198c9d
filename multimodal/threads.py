"""How threads wait for each other. Never imports torch: it has to be said before torch is loaded."""

import os


def share_cores() -> None:
    """Lets torch's threads sleep while they wait, where the user did not say how (OMP_WAIT_POLICY).

    By default they spin, on a core that a decoding process needs: with one such process on two cores, a training
    step took ten times as long (docs/experiments.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
