"""Figures of benchmarks/transfer.md: what the transfer methods do where the answer is known.

python -m benchmarks.transfer E4 [E9 ...]     # or: all (without E13, which is slow), or: slow (E13)

Prints each measured figure beside the expected one. Data: what scikit-learn bundles.
"""

import argparse
import logging
import time
from collections.abc import Callable

from benchmarks.experiments.closed_forms import e9, e14
from benchmarks.experiments.common import Finding
from benchmarks.experiments.guard import e13
from benchmarks.experiments.probes import e3, e7, e8, e10, e11, e12
from benchmarks.experiments.shifts import e1, e2, e4, e5
from benchmarks.experiments.sources import e6
from benchmarks.experiments.strategies import e15
from multimodal.console import print_line

EXPERIMENTS: dict[str, Callable[[], list[Finding]]] = {
    experiment.__name__.upper(): experiment
    for experiment in (e1, e2, e3, e4, e5, e6, e7, e8, e9, e10, e11, e12, e13, e14, e15)
}
SLOW = ("E13",)


def main() -> None:
    """Runs the experiments that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*EXPERIMENTS, "all", "slow"], metavar="NAME")
    chosen: list[str] = []
    for name in parser.parse_args().names:
        everything = [key for key in EXPERIMENTS if key not in SLOW]
        chosen += {"all": everything, "slow": list(SLOW)}.get(name, [name])
    logging.getLogger("multimodal").setLevel(logging.ERROR)  # E5 makes weights that are rightly warned of
    differing = 0
    for name in dict.fromkeys(chosen):
        start = time.perf_counter()
        findings = EXPERIMENTS[name]()
        print_line(f"\n## {name}\n\n{(EXPERIMENTS[name].__doc__ or '').strip()}\n")
        print_line("| what | expected | measured | verdict |\n|---|---|---|---|")
        for finding in findings:
            bound = {"about": "", "at least": ">= ", "at most": "<= "}[finding.relation]
            expected = "-" if finding.expected is None else f"{bound}{finding.expected:.4g}"
            print_line(f"| {finding.what} | {expected} | {finding.measured:.4g} | {finding.verdict} |")
        differing += sum(finding.verdict == "differs" for finding in findings)
        print_line(f"\n{time.perf_counter() - start:.0f} s")
    print_line(f"\n{differing} figures differ")


if __name__ == "__main__":
    main()
