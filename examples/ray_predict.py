"""Predicts a large table on a Ray cluster: every worker loads the bundle once and takes batches of records.

    python examples/ray_predict.py BUNDLE --data records.parquet --out predictions --workers 8

The bundle and the media must lie where every worker reads them (a shared disk), and the workers need this package,
without torch. ``predictions`` gets Parquet files with the columns of ``multimodal predict`` beside those of the table.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import ray

from export import Predictor
from multimodal.inference.tables import PredictionColumns
from multimodal.records import Records


class TablePredictor:
    """Bundle in one worker.

    Args:
        bundle: its folder.
        root: folder that media paths start from.
        threads: of one operator.
    """

    def __init__(self, bundle: str, root: str, threads: int) -> None:
        self.predictor = Predictor.load(bundle, threads=threads)
        self.root = Path(root)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns of records -> the same, and those of their predictions."""
        rows = [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]
        records = Records(tuple(batch), rows, "batch", self.root)
        results = self.predictor.predict(records, on_error="return")
        columns = PredictionColumns(self.predictor.decodings)
        found = zip(columns.names, zip(*map(columns.cells, results), strict=True), strict=True)
        return batch | {f"answer_{column}": np.array(values) for column, values in found}


def predict_table(bundle: Path, data: Path, out: Path, *, workers: int, batch_size: int = 256, threads: int = 1) -> Any:
    """Writes predictions as Parquet files; the table may be CSV, JSON Lines or Parquet, or a folder of such."""
    readers = {".csv": ray.data.read_csv, ".jsonl": ray.data.read_json, ".parquet": ray.data.read_parquet}
    table = readers.get(data.suffix, ray.data.read_parquet)(str(data.absolute()))
    root = data.parent if data.suffix else data
    predicted = table.map_batches(
        TablePredictor,
        fn_constructor_args=(str(bundle.absolute()), str(root.absolute()), threads),
        batch_size=batch_size,
        concurrency=workers,
        num_cpus=threads,
    )
    predicted.write_parquet(str(out.absolute()))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="CSV, JSON Lines or Parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder for the answers")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument(
        "--cpus", type=int, help="of a cluster that is started here; reading and writing need some, too"
    )
    given = parser.parse_args()
    ray.init(num_cpus=given.cpus)
    predict_table(
        given.bundle, given.data, given.out, workers=given.workers, batch_size=given.batch_size, threads=given.threads
    )


if __name__ == "__main__":
    main()
