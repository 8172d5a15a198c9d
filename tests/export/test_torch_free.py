"""Production has no torch: a process in which importing it fails loads a bundle and answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export import Bundle, Predictor

BLOCKED = ("torch", "transformers", "torchvision", "torchaudio", "onnx", "onnxscript", "safetensors", "pandas")

SCRIPT = f"""
import importlib.abc, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
folder, manifest, out = sys.argv[1:]
import export
from export import Predictor, verify_bundle, write_predictions
assert verify_bundle(folder) == []
predictor = Predictor.load(folder, device="cpu")
answers = predictor.predict(manifest)
write_predictions(predictor, manifest, out)
try:
    export.export_bundle
except ModuleNotFoundError as error:
    refusal = str(error)
loaded = sorted(set(sys.modules) & set({BLOCKED!r}))
print(json.dumps([[answer["color"].label, answer["price"].value] for answer in answers]))
print(json.dumps([loaded, refusal]))
"""


def test_a_bundle_answers_where_torch_cannot_be_imported(
    bundle: Bundle, table: list[dict[str, Any]], media: Path, tmp_path: Path
) -> None:
    lines = [",".join(str(row[column] or "") for column in ("image", "text", "sound")) for row in table]
    (media / "all.csv").write_text("\n".join(["image,text,sound", *lines]) + "\n")
    command = [sys.executable, "-c", SCRIPT, str(bundle.folder), str(media / "all.csv"), str(tmp_path / "out.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers, (loaded, refusal) = (json.loads(line) for line in done.stdout.splitlines())
    assert loaded == []
    assert "is not installed; run: pip install 'multimodal-transfer[train]'" in refusal
    here = Predictor.load(bundle.folder, device="cpu").predict(media / "all.csv")
    assert answers == [[answer["color"].label, answer["price"].value] for answer in here]
    assert len((tmp_path / "out.csv").read_text().splitlines()) == len(table) + 1


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'pandas'}"
    script = f"import sys; from export import Predictor; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import export

    with pytest.raises(AttributeError, match="module 'export' has no attribute 'Predicter'"):
        export.Predicter  # noqa: B018
