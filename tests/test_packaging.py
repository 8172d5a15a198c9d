"""Parts shipped: the wheel's content, the pinned versions, and what a base install without torch says and does."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("encoders", "fusion", "multimodal", "export")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# --- the wheel ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from: setuptools also ships what it finds in an old ``build/``."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path) -> Iterator[zipfile.ZipFile]:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (source / "dist").iterdir()
    with zipfile.ZipFile(path) as wheel:
        yield wheel


def test_the_wheel_holds_every_file_of_the_four_packages_and_nothing_else(source, wheel):
    files = [path for package in PACKAGES for path in (source / package).rglob("*") if path.is_file()]
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == {path.relative_to(source).as_posix() for path in files}


def test_the_wheel_holds_what_is_no_code(wheel):
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "encoders/compact/tokenizer.json" in names
    assert wheel.getinfo("encoders/compact/tokenizer.json").file_size <= 1_000_000
    assert wheel.getinfo("multimodal/demo/data.zip").file_size <= 1_500_000


def test_the_wheel_needs_no_torch_without_an_extra_and_has_the_command(wheel):
    (metadata,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("METADATA"))
    needed = re.findall(r"^Requires-Dist: ([\w.-]+)(?!.*extra ==)", metadata, flags=re.MULTILINE)
    assert "numpy" in needed
    assert not {"torch", "torchvision", "torchaudio", "transformers", "safetensors", "pyarrow", "onnx"} & set(needed)
    (points,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "multimodal = multimodal.cli:main" in points


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


# --- what is pinned and kept -------------------------------------------------------------------------------------


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


def test_constraints_are_names_with_exact_versions():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    strange = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==\d[A-Za-z0-9.]*", line)]
    assert not strange
    assert len(pinned()) == len(lines)


@pytest.mark.parametrize("extra", [None, "train", "parquet", "serve", "dev"])
def test_what_an_install_asks_for_is_pinned_to_a_version_that_it_allows(extra):
    project = PROJECT["project"]
    requirements = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    versions = pinned()
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        other_system = requirement.marker is not None and not requirement.marker.evaluate({"sys_platform": "linux"})
        if name == project["name"] or other_system:
            continue
        assert name in versions, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(versions[name]), f"{requirement} does not allow {versions[name]}"


def test_no_file_is_a_pickle():
    skipped = {"build", "dist", "runs", "demo"}
    suffixes = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".npz"}
    top = [path for path in ROOT.iterdir() if path.name not in skipped and not path.name.startswith(".")]
    files = [path for entry in top for path in ([entry] if entry.is_file() else entry.rglob("*"))]
    assert [str(path) for path in files if path.suffix.lower() in suffixes] == []


# --- without torch -----------------------------------------------------------------------------------------------

TRAIN_ONLY = (
    "torch",
    "torchvision",
    "torchaudio",
    "transformers",
    "safetensors",
    "jaxtyping",
    "pyarrow",
    "pandas",
    "sklearn",
    "scipy",
    "onnx",
    "onnxscript",
)
BLOCKED = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAIN_ONLY}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run_without_torch(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs code in a process where importing what only the extra ``train`` installs fails."""
    command = [sys.executable, "-c", BLOCKED + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def run_command(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    code = f"sys.argv = {['multimodal', *arguments]!r}\nfrom multimodal.cli import main\nmain()\n"
    return run_without_torch(code, folder)


@pytest.mark.parametrize(
    "use",
    [
        "mm.fit",
        "mm.Run",
        "mm.Encoder",
        "mm.MultimodalModel",
        "mm.create_fusion('concat', {'text': 8})",
        "mm.FusionModule",
        "mm.check_encoder",
        "mm.export_bundle",
        "mm.create_encoder('compact/image')",
        "mm.create_encoder('torchvision/resnet18', weights=None)",
    ],
)
def test_what_needs_torch_says_in_one_line_how_to_install_it(use):
    code = f"""
import multimodal as mm
try:
    {use}
except ModuleNotFoundError as error:
    print(error)
"""
    done = run_without_torch(code)
    assert done.stderr == ""
    assert re.fullmatch(r"\w+ is not installed; run: pip install 'multimodal-transfer\[train\]'\n", done.stdout)


def test_what_needs_no_torch_works_without_it():
    code = """
import multimodal as mm
print(mm.Predictor.__name__, mm.Prediction.__name__, mm.RecordError.__name__)
print(len(mm.read_records([{"text": "red"}])), len(mm.list_encoders("image")) > 0)
job = mm.Job(inputs={"text": mm.Input(encoder="compact/text")}, tasks={"kind": mm.Task()})
print(job.train.epochs)
"""
    done = run_without_torch(code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["Predictor Prediction RecordError", "1 True", "10"]


COMMANDS = (
    "demo", "train", "evaluate", "export", "predict", "serve", "verify", "bench", "check", "encoders", "doctor",
)  # fmt: skip


def test_help_works_without_torch():
    done = run_command("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in COMMANDS)


def test_doctor_works_without_torch_and_says_how_to_get_it():
    done = run_command("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    assert found["torch"] == "not installed; training needs: pip install 'multimodal-transfer[train]'"
    assert re.match(r"cuda$|cpu; device 'cuda' is not available: ", found["onnxruntime runs on"])


def test_encoders_are_listed_without_torch():
    done = run_command("encoders", "--modality", "image")
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = (line.split("\t") for line in done.stdout.splitlines())
    assert header[:2] == ["name", "modality"]
    assert "compact/image" in [row[0] for row in rows]
    assert {row[1] for row in rows} == {"image", "any"}


def test_a_command_that_needs_torch_fails_in_one_line_without_traceback(tmp_path):
    (tmp_path / "job.yaml").write_text("inputs: {text: {encoder: compact/text}}\ntasks: {kind: {}}\n")
    done = run_command("train", "job.yaml", folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"error: \w+ is not installed; run: pip install 'multimodal-transfer\[train\]'\n", done.stderr)
