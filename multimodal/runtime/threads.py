"""The cores that this process may use, and how threads wait on them. Never imports torch: it has to come first."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


def set_omp_wait_policy() -> None:
    """Lets torch's threads sleep while they wait, where the user did not say how (OMP_WAIT_POLICY).

    By default they spin, on a core that a decoding process needs: with one such process on two cores, a training
    step took ten times as long (docs/experiments.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra of small matrices on one thread inside the block: where other programs use the cores, several
    threads wait for each other at every product (a probe of 240 records took ten times as long)."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> Any:
    """The libraries of linear algebra that are loaded; looking for them takes as long as a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def available_cores() -> int:
    """Cores that this process may use; its affinity counts where the system tells it.

    >>> available_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
