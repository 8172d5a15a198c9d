"""Memory of `multimodal predict` over tables of more and more rows, the model left out: its outputs are zeros.

python benchmarks/prediction_memory.py BUNDLE [ROWS ...]

BUNDLE has a text input alone. Each table is predicted by a process of its own.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from export import Predictor, write_predictions
from multimodal.console import print_line


def main() -> None:
    """Prints a line per table."""
    if sys.argv[1] == "--table":
        predict(Predictor.load(sys.argv[2], device="cpu"), Path(sys.argv[3]))
        return
    bundle, *sizes = sys.argv[1:]
    for rows in map(int, sizes or ("10000", "100000", "1000000")):
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table.csv"
            with table.open("w") as file:
                file.write("text,kind\n")
                file.writelines(f"win a free prize {number}, call tomorrow\n" for number in range(rows))
            print_line(f"{rows:,} rows, {table.stat().st_size / 1e6:.0f} MB of CSV:")
            subprocess.run([sys.executable, __file__, "--table", bundle, table], check=True)


def predict(predictor: Predictor, table: Path) -> None:
    """Predicts one table, and prints what it took."""
    feed = {entry.name: entry.shape for entry in predictor.session.get_outputs()}

    def outputs(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = len(next(iter(arrays.values())))
        return {name: np.zeros((rows, *shape[1:]), np.float32) for name, shape in feed.items()}

    setattr(predictor, "run", outputs)  # noqa: B010 - in the place of the model
    start = time.perf_counter()
    write_predictions(predictor, table, table.with_name("out.csv"))
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print_line(f"  {seconds:.1f} s, at most {peak:.0f} MB resident")


if __name__ == "__main__":
    main()
