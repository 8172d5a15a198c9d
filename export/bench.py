"""Speed of a bundle on this machine: latency, throughput, stages, cold start, memory. Never imports torch."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from encoders.preprocessing.audio import decode_audio
from encoders.preprocessing.image_files import decode_image
from export.loading import int8_instructions
from export.predictor import Predictor, flat_feed
from multimodal.records import stack_inputs
from multimodal.runtime.threads import available_cores

BATCHES = (8, 32, 128)
_DECODERS: dict[str, Callable[[Any], Any]] = {"image": decode_image, "audio": decode_audio}
_IMAGE_SIDE, _SECONDS, _RATE, _WORDS = 160, 1.0, 16_000, 30
_COLD = """
import json, sys, time
begin = time.perf_counter()
from export.predictor import Predictor
folder, precision, device, allowed, record = json.loads(sys.argv[1])
imported = time.perf_counter()
predictor = Predictor.load(folder, device=device, precision=precision, allow_plugins=allowed)
loaded = time.perf_counter()
predictor.predict([record])
answered = time.perf_counter()
from export.bench import resident_mb
print(json.dumps([imported - begin, loaded - imported, answered - loaded, resident_mb()]))
"""


def bench(
    predictor: Predictor,
    *,
    device: str = "auto",
    seconds: float = 2.0,
    folder: Path,
    allow_plugins: Collection[str] = (),
) -> dict[str, Any]:
    """Measures a loaded bundle with a synthetic record: a JPEG of 160 pixels, 30 words, one second of audio.

    Args:
        device: that the predictor was loaded for; a cold process loads it again.
        seconds: of each measurement; the machine should do nothing else meanwhile.
        folder: takes the record's files.
        allow_plugins: that the predictor was loaded with, too.

    Returns:
        JSON: ``latency_ms`` at batch 1, ``records_per_second`` by batch, ``stages_ms`` of one record, ``cold_start``.
    """
    record = synthetic_record(predictor, folder)
    one = repeat(lambda: predictor.predict([record]), seconds)
    rates = {}
    for batch in BATCHES:
        records = [record] * batch
        predict = partial(predictor.predict, records, batch_size=batch)
        rates[str(batch)] = batch / statistics.median(repeat(predict, seconds))
    return {
        "bundle": predictor.bundle.name,
        "precision": predictor.precision,
        "device": predictor.device,
        "cores": available_cores(),
        "int8_instructions": list(int8_instructions()),
        "latency_ms": {f"p{share}": 1e3 * float(np.percentile(one, share)) for share in (50, 95, 99)},
        "records_per_second": rates,
        "stages_ms": stages(predictor, record, seconds),
        "cold_start": cold_start(predictor, device, record, allow_plugins),
    }


def stages(predictor: Predictor, record: dict[str, Any], seconds: float) -> dict[str, float]:
    """Milliseconds of each stage of one record, medians: decode and preprocess (by input), run, decode."""
    box = predictor.record_model()
    found: dict[str, float] = {}
    for name, value in record.items():
        decode = _DECODERS.get(predictor.modalities[name])
        decoded = value if decode is None else decode(value)
        if decode is not None:
            found[f"decode {name}"] = median_ms(partial(decode, value), seconds / 4)
        found[f"preprocess {name}"] = median_ms(partial(box.readers[name].preprocessor, decoded), seconds / 4)
    feed = flat_feed(stack_inputs(box.readers, [predictor.read(record)]))
    outputs = predictor.run(feed)
    found["run"] = median_ms(lambda: predictor.run(feed), seconds)
    found["decode answers"] = median_ms(
        lambda: [decoding.predictions(outputs[task]) for task, decoding in predictor.decodings.items()], seconds / 4
    )
    return found


def cold_start(
    predictor: Predictor, device: str, record: dict[str, Any], allow_plugins: Collection[str] = ()
) -> dict[str, float]:
    """Seconds of a new process until its first prediction, by part, the best of three; and its memory then."""
    folder = str(predictor.bundle.folder.resolve())
    argument = json.dumps([folder, predictor.precision, device, list(allow_plugins), record])
    home = str(Path(__file__).resolve().parent.parent)
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        code = f"import sys\nsys.path.insert(0, {home!r})\n{_COLD}"
        done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True)
        found.append((time.perf_counter() - begin, *json.loads(done.stdout)))
    names = ("process", "import", "load", "first answer", "resident_mb")
    return dict(zip(names, min(found), strict=True))


def synthetic_record(predictor: Predictor, folder: Path) -> dict[str, Any]:
    """Record with a value for every input of a known modality; files lie in ``folder``."""
    rng = np.random.default_rng(0)
    record: dict[str, Any] = {}
    for name, modality in predictor.modalities.items():
        if modality == "image":
            record[name] = str(folder / f"{name}.jpg")
            blocks = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
            Image.fromarray(blocks[:_IMAGE_SIDE, :_IMAGE_SIDE]).save(record[name], quality=90)
        elif modality == "audio":
            record[name] = str(folder / f"{name}.wav")
            soundfile.write(record[name], rng.normal(0, 0.1, int(_SECONDS * _RATE)), _RATE)
        elif modality == "text":
            record[name] = " ".join(rng.choice(["a", "box", "of", "small", "red", "apples"], _WORDS))
    if not record:
        raise ValueError(
            f"the inputs of this bundle are of other modalities ({', '.join(set(predictor.modalities.values()))}) than "
            "image, text and audio; measure it with a program of your own around Predictor.predict"
        )
    return record


def repeat(call: Callable[[], object], seconds: float, *, least: int = 3) -> list[float]:
    """Seconds of each call, for at least this long and this often, after two that do not count."""
    call(), call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return found


def median_ms(call: Callable[[], object], seconds: float) -> float:
    """Median milliseconds of a call."""
    return 1e3 * statistics.median(repeat(call, seconds))


def resident_mb() -> float | None:
    """Resident memory of this process in MB; None where it is not known (outside Linux)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmRSS"))


def bench_rows(result: dict[str, Any]) -> Sequence[tuple[str, str, str]]:
    """Figures as rows of a table: name, value, unit."""
    rows = [(f"latency {name}, batch 1", f"{value:.2f}", "ms") for name, value in result["latency_ms"].items()]
    rows += [(f"throughput, batch {n}", f"{rate:.0f}", "records/s") for n, rate in result["records_per_second"].items()]
    rows += [(f"stage: {name}", f"{value:.3f}", "ms") for name, value in result["stages_ms"].items()]
    cold = result["cold_start"]
    rows += [(f"cold start: {name}", f"{cold[name]:.3f}", "s") for name in cold if name != "resident_mb"]
    if cold["resident_mb"] is not None:
        rows.append(("resident memory after the first answer", f"{cold['resident_mb']:.0f}", "MB"))
    return rows
