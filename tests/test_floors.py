"""Every import of the four packages against one table, and what importing them costs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("encoders", "fusion", "multimodal", "export")

# --- the table ---------------------------------------------------------------------------------------------------

REGISTRIES = ("encoders.plugins", "encoders.lazy", "encoders.contract")
"""What every floor may import: registries, names that are loaded late, errors of contracts."""
REGISTRY = (
    *("encoders", "encoders.info", *REGISTRIES, "encoders.registry"),
    *("encoders.catalogue", "encoders.catalogue.*"),
)
PREPROCESSING = ("encoders.preprocessing", "encoders.preprocessing.*")
ENCODERS = ("encoders", "encoders.*")
FUSION = ("fusion", "fusion.*")
RECORDS = (
    *(
        "multimodal.records",
        "multimodal.records.*",
        "multimodal.metrics",
        "multimodal.metrics.*",
        "multimodal.decoding",
        "multimodal.task_types",
        "multimodal.task_types.*",
    ),
    *("multimodal.runtime", "multimodal.runtime.files", "multimodal.runtime.threads", "multimodal.console"),
)
PLUGINS = ("multimodal.plugins",)
CONFIG = ("multimodal.config", "multimodal.config.*", "multimodal.splits", "multimodal.splits.*")
INFERENCE = ("multimodal.inference", "multimodal.inference.*")
EXPLAIN = ("multimodal.explain", "multimodal.explain.*")
MULTIMODAL = ("multimodal", "multimodal.*")
SERVING = ("export", "export.*")
WEB = ("export.serving", "export.serving.*")
ROOF = ("multimodal.cli", "multimodal.commands", "multimodal.commands.*")

HEAVY = {"torch", "torchvision", "torchaudio", "transformers", "timm", "safetensors", "onnx", "onnxscript", "sklearn"}
"""What no torch-free module imports, not even inside a function."""
FRAMEWORK = ("torch", "numpy", "jaxtyping", "safetensors")


@dataclass(frozen=True)
class Floor:
    """Imports that some modules may have; names are patterns of ``fnmatch``."""

    modules: tuple[str, ...]
    in_house: tuple[str, ...]
    outside: tuple[str, ...] = ()
    lazy_in_house: tuple[str, ...] = ()
    """Inside functions only."""
    lazy_outside: tuple[str, ...] = ()
    """Inside functions only."""
    torch_free: bool = False


FLOORS = (  # a module belongs to the first floor that names it
    Floor(
        REGISTRY,
        (*REGISTRY, *PREPROCESSING),
        lazy_in_house=("encoders.base", "encoders.weights.build"),  # create_encoder calls the builder
        torch_free=True,
    ),
    Floor(
        PREPROCESSING,
        (*PREPROCESSING, *REGISTRIES),
        ("numpy", "PIL", "tokenizers", "soundfile", "soxr"),
        torch_free=True,
    ),
    Floor(("encoders.onnx", "encoders.onnx.file"), (), torch_free=True),
    Floor(("encoders.onnx.*",), ENCODERS, (*FRAMEWORK, "onnx"), lazy_outside=("onnxruntime",)),
    Floor(("encoders.testing",), ENCODERS, ("torch", "numpy"), lazy_outside=("onnx", "onnxscript", "onnxruntime")),
    Floor(
        ENCODERS,
        ENCODERS,
        (*FRAMEWORK, "tokenizers"),
        lazy_outside=("torchvision", "torchaudio", "transformers", "timm", "peft", "huggingface_hub"),
    ),
    Floor(("fusion", "fusion.registry"), ("fusion", "fusion.registry", *REGISTRIES), torch_free=True),
    Floor(("fusion.testing",), (*FUSION, *ENCODERS), ("torch",), lazy_outside=("onnxruntime",)),
    Floor(FUSION, FUSION, ("torch", "jaxtyping")),
    Floor(("multimodal",), (*RECORDS, *REGISTRIES), torch_free=True),
    Floor(
        RECORDS,
        (*RECORDS, *PREPROCESSING, *REGISTRIES),
        ("numpy",),
        lazy_outside=("pyarrow", "rich", "threadpoolctl"),
        torch_free=True,
    ),
    Floor(PLUGINS, (*REGISTRY, *PREPROCESSING, "fusion.registry", *RECORDS), torch_free=True),
    Floor(
        CONFIG,
        (*CONFIG, *PLUGINS, *REGISTRIES, "fusion.registry", *RECORDS, *PREPROCESSING),
        ("numpy", "pydantic", "yaml"),
        torch_free=True,
    ),
    Floor(INFERENCE, (*INFERENCE, *RECORDS, *PREPROCESSING), ("numpy",), lazy_outside=("pandas",), torch_free=True),
    Floor(EXPLAIN, (*EXPLAIN, *INFERENCE, *RECORDS, *PREPROCESSING), ("numpy", "PIL"), torch_free=True),
    Floor(ROOF, (*ROOF, *RECORDS), ("typer",), (*ENCODERS, *MULTIMODAL, *SERVING)),
    Floor(
        MULTIMODAL,
        (*ENCODERS, *FUSION, *MULTIMODAL),
        (*FRAMEWORK, "PIL", "pydantic", "soundfile", "soxr", "yaml"),
        lazy_outside=("onnxruntime", "scipy", "sklearn"),
    ),
    Floor(
        tuple(
            f"export.{name}"
            for name in (
                "bundle_writer",
                "exporter",
                "gate",
                "graph",
                "half",
                "precisions",
                "quantize",
                "rows",
                "to_onnx",
            )
        ),
        (*ENCODERS, *FUSION, *MULTIMODAL, *SERVING),
        (*FRAMEWORK, "onnx", "onnxscript", "onnxruntime"),
    ),
    Floor(
        WEB,
        (*SERVING, *RECORDS, *INFERENCE, *EXPLAIN, *PREPROCESSING),
        ("numpy", "onnxruntime", "fastapi", "starlette", "uvicorn", "prometheus_client"),
        torch_free=True,
    ),
    Floor(
        SERVING,
        ("encoders", "encoders.onnx.file", *REGISTRIES, *SERVING, *RECORDS, *INFERENCE, *EXPLAIN, *PREPROCESSING),
        ("numpy", "onnxruntime", "PIL", "soundfile"),
        lazy_outside=("faiss", "pyarrow", "triton_python_backend_utils"),
        torch_free=True,
    ),
)
ENTRIES = ("multimodal.__main__", "multimodal.recipes.command")
"""Where people come in: the only modules that import the roof."""


def floor_of(module: str) -> Floor:
    return next(floor for floor in FLOORS if matches(module, floor.modules))


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# --- reading imports ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    source: str
    target: str
    line: int
    lazy: bool
    """Whether it stands inside a function."""

    def __str__(self) -> str:
        return (
            f"{self.source}, line {self.line}: imports {self.target} {'in a function' if self.lazy else 'at its top'}"
        )


def find_modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name."""
    modules = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = find_modules()


def read_imports(source: str, text: str, *, is_package: bool) -> Iterator[Import]:
    """Every import of a module; those under ``if TYPE_CHECKING`` are for type checkers alone."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for other in child.orelse:
                    yield from visit(ast.Module([other], []), lazy)
                continue
            for target in targets(child, source, is_package=is_package):
                yield Import(source, target, getattr(child, "lineno", 0), lazy)
            yield from visit(child, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from visit(ast.parse(text), lazy=False)


def targets(node: ast.AST, source: str, *, is_package: bool) -> list[str]:
    """Imports of one statement: modules by their full name, also where they are imported from their package."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        home = node.module or ""
        if node.level:
            parents = source.split(".")[: (1 if is_package else 0) - node.level or None]
            home = ".".join([*parents, *([home] if home else [])])
        full = [f"{home}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else home for name in full]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []


def imports_of(module: str) -> list[Import]:
    path = MODULES[module]
    text = path.read_text(encoding="utf-8")
    return list(read_imports(module, text, is_package=path.name == "__init__.py"))


def ancestors(module: str) -> list[str]:
    """The packages that importing a module imports first."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def is_allowed(entry: Import) -> bool:
    floor = floor_of(entry.source)
    package = entry.target.partition(".")[0]
    if package in PACKAGES:
        return matches(entry.target, floor.in_house + floor.lazy_in_house * entry.lazy)
    return package in sys.stdlib_module_names or package in floor.outside + floor.lazy_outside * entry.lazy


def test_reading_imports_finds_them_wherever_they_stand():
    text = """
import a.b, c
from typing import TYPE_CHECKING
from encoders import registry, Encoder
from .base import x
from . import registry as r
if TYPE_CHECKING:
    import hidden
else:
    import shown
try:
    import d
except ImportError:
    pass
class A:
    import e
    def f(self):
        if TYPE_CHECKING:
            import hidden
        from encoders.weights.build import g
        importlib.import_module("h.i")
        importlib.import_module(name)
"""
    found = [(entry.target, entry.lazy) for entry in read_imports("encoders.text", text, is_package=False)]
    at_the_top = ["a.b", "c", "typing", "encoders.registry", "encoders", "encoders.base", "encoders.registry", "shown"]
    assert found == [
        *((name, False) for name in (*at_the_top, "d", "e")),
        ("encoders.weights.build", True),
        ("h.i", True),
    ]
    relative = "from . import audio\nfrom .base import x\nfrom .. import registry\n"
    found = [(e.target, e.lazy) for e in read_imports("encoders.preprocessing", relative, is_package=True)]
    assert [name for name, _ in found] == [
        "encoders.preprocessing.audio",
        "encoders.preprocessing.base",
        "encoders.registry",
    ]


# --- the rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_floor_allows(module):
    breaches = [str(entry) for entry in imports_of(module) if not is_allowed(entry)]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("module", [name for name in MODULES if floor_of(name).torch_free])
def test_a_torch_free_module_imports_nothing_that_brings_torch(module):
    imports = imports_of(module)
    heavy = [str(entry) for entry in imports if entry.target.partition(".")[0] in HEAVY]
    loaded = [name for entry in imports if not entry.lazy for name in (entry.target, *ancestors(entry.target))]
    loaded += ancestors(module)
    bringing = sorted({name for name in loaded if name in MODULES and not floor_of(name).torch_free})
    assert not heavy, "\n".join(heavy)
    assert not bringing, f"{module} is torch-free but loads {bringing}"


def test_the_table_tells_torch_free_modules_from_others():
    free = (
        "export.predictor",
        "export.new",
        "multimodal",
        "multimodal.records.records",
        "encoders.preprocessing.image",
    )
    assert all(floor_of(name).torch_free for name in free)
    assert not any(floor_of(name).torch_free for name in ("export.to_onnx", "multimodal.model.model", "encoders.image"))


def test_the_table_refuses_breaches():
    for source, target, lazy in (
        ("encoders.preprocessing.image", "torch", True),
        ("encoders.image", "torchvision", False),
        ("encoders.image", "multimodal.config", True),
        ("fusion.concat", "encoders.base", False),
        ("multimodal.records.records", "multimodal.model.model", True),
        ("multimodal.records.manifests", "pyarrow", False),
        ("multimodal.model.model", "export", True),
        ("multimodal.cli", "multimodal.model.model", False),
        ("export.predictor", "multimodal.model.model", True),
        ("export.predictor", "torch", True),
        ("export.predictor", "fastapi", True),
        ("export.serving.app", "torch", True),
    ):
        assert not is_allowed(Import(source, target, 1, lazy)), (source, target)


def test_only_the_entries_import_the_roof():
    importers = {module for module in MODULES for entry in imports_of(module) if matches(entry.target, ROOF)}
    assert {module for module in importers if not matches(module, ROOF)} <= set(ENTRIES)


def test_the_web_server_is_loaded_by_its_command_alone():
    outside = [module for module in MODULES if not matches(module, WEB)]
    importers = {
        (entry.source, entry.lazy) for name in outside for entry in imports_of(name) if matches(entry.target, WEB)
    }
    assert importers == {("multimodal.commands.serve", True)}


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {}
    for module in MODULES:
        loaded = {name for e in imports_of(module) if not e.lazy for name in (e.target, *ancestors(e.target))}
        # a package is half loaded while its modules are: that alone is no circle
        graph[module] = {name for name in loaded if name in MODULES and name not in (module, *ancestors(module))}
    TopologicalSorter(graph).prepare()  # raises CycleError, which shows the circle


def room_of(module: str) -> str | None:
    """The file or folder directly in its package that a module lies in; None for the package itself."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else None


def room_graph(package: str) -> dict[str, set[str]]:
    """Room -> other rooms of its package that it imports, also inside functions."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        room = room_of(module)
        if room is not None and module.startswith(f"{package}."):
            found = {room_of(entry.target) for entry in imports_of(module) if entry.target.startswith(f"{package}.")}
            graph.setdefault(room, set()).update(other for other in found if other not in (None, room))
    return graph


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_form_no_circle(package):
    TopologicalSorter(room_graph(package)).prepare()  # raises CycleError, which shows the circle


def test_a_circle_of_rooms_is_found():
    circle = {"multimodal.data": {"multimodal.model"}, "multimodal.model": {"multimodal.data"}}
    with pytest.raises(CycleError, match=r"multimodal\.data"):
        TopologicalSorter(circle).prepare()


def test_the_page_of_the_architecture_names_every_room_and_none_that_is_not():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.relative_to(ROOT).as_posix() for path in (ROOT / "multimodal").iterdir() if is_room(path)}
    tree = page.partition("```")[2].partition("```")[0]
    named = {f"multimodal/{name}" for name in re.findall(r"^  ([a-z_]+(?:/|\.py))", tree, re.MULTILINE)}
    assert {name.rstrip("/") for name in named} == rooms
    mentioned = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)", page))
    homes = [ROOT, *(ROOT / package for package in PACKAGES), ROOT / "encoders" / "preprocessing"]
    missing = sorted(name for name in mentioned if not any((home / name).exists() for home in homes))
    on_disk = {"checkpoints/", "inputs/", "tasks/", "golden/", "reliability/"}  # folders of runs and bundles
    assert set(missing) <= on_disk, f"docs/architecture.md names what is not there: {missing}"


def is_room(path: Path) -> bool:
    if path.is_dir():
        return (path / "__init__.py").is_file()
    return path.suffix == ".py" and path.stem not in ("__init__", "__main__")


# --- import budgets ----------------------------------------------------------------------------------------------

EXPENSIVE = (
    *("torch", "torchvision", "torchaudio", "transformers", "pandas", "pyarrow", "onnx", "onnxscript", "sklearn"),
    *("fastapi", "starlette", "uvicorn", "prometheus_client"),
)


@pytest.mark.parametrize(
    "statement",
    [
        "import multimodal",
        "import encoders",
        "import encoders; encoders.list_encoders()",
        "import multimodal as mm; mm.read_records([{'text': 'red'}])",
        "import multimodal.cli",
        "from export import Predictor",
        "import multimodal as mm; mm.Predictor",
    ],
)
def test_importing_loads_nothing_expensive(statement):
    code = f"import sys; {statement}; print(*sorted(set({EXPENSIVE}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == []
