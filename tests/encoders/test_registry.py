import builtins
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encoders import EncoderInfo, create_encoder, find_encoder, list_encoders, register_encoder, registry
from encoders.preprocessing import load_preprocessor, preprocessor_from_config, save_preprocessor

PLUGIN = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=80"]
build-backend = "setuptools.build_meta"
[project]
name = "satellite-encoders"
version = "0.1"
[tool.setuptools]
packages = ["satellite_encoders"]
[project.entry-points."multimodal.encoders"]
"satellite/v1" = "satellite_encoders.encoders:satellite"
"satellite/v2" = "satellite_encoders.encoders:Satellite"
"satellite/gone" = "satellite_encoders.encoders:Nothing"
"satellite/needy" = "satellite_encoders.needy:build"
[project.entry-points."multimodal.preprocessors"]
bands = "satellite_encoders.preprocessing:Bands"
""",
    "satellite_encoders/__init__.py": "",
    "satellite_encoders/preprocessing.py": '''
import numpy as np
from encoders.preprocessing import TensorSpec, stack_arrays

class Bands:
    """The first ``n`` numbers of a list."""
    modality = "satellite"
    def __init__(self, n):
        self.n = n
        self.tensors = (TensorSpec("bands", "float32", ("batch", n)),)
    def __call__(self, raw):
        return {"bands": np.asarray(raw, np.float32)[: self.n]}
    def blank(self):
        return {"bands": np.zeros(self.n, np.float32)}
    def stack(self, samples):
        return stack_arrays(samples, self.tensors, {})
    def to_config(self):
        return {"kind": "bands", "n": self.n}
    @classmethod
    def from_config(cls, config, assets):
        return cls(config["n"])
''',
    "satellite_encoders/encoders.py": """
import torch
from torch import nn
from encoders import Encoder, register_encoder
from satellite_encoders.preprocessing import Bands

class Linear(Encoder):
    def __init__(self, n):
        super().__init__()
        self.modality, self.embed_dim, self.preprocessor = "satellite", 8, Bands(n)
        self.linear = nn.Linear(n, 8)
    def forward(self, inputs):
        return self.linear(inputs["bands"])[:, None], torch.ones(len(inputs["bands"]), 1, dtype=torch.bool)
    def depth_groups(self):
        return [list(self.parameters())]

def satellite(*, weights, n=4):
    return Linear(n)

@register_encoder("satellite/v2", modality="satellite", embed_dim=8, licence="MIT")
class Satellite(Linear):
    def __init__(self, *, n=3):
        super().__init__(n)
""",
    "satellite_encoders/needy.py": "import a_package_that_is_not_there",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with a throw-away distribution that pip installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, content in PLUGIN.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.fixture
def plugin(site, monkeypatch, clean):
    """The distribution is installed, and nothing of it is imported."""
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "satellite_encoders"]:
        del sys.modules[name]


@pytest.fixture
def clean(monkeypatch):
    """Whatever a test registers is forgotten after it."""
    monkeypatch.setattr(registry.ENCODERS, "registered", {})


def write_distribution(folder: Path, name: str, entry_points: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


# --- names -------------------------------------------------------------------------------------------------------


def test_what_is_built_in_is_listed_by_name():
    infos = list_encoders()
    names = [info.name for info in infos]
    assert names == sorted(names)
    families = ("compact/image", "torchvision/resnet18", "torchvision/wide_resnet101_2", "transformers/*")
    assert {*families, "compact/text", "compact/audio", "torchaudio/wav2vec2_base"} <= set(names)
    assert {info.modality for info in infos} >= {"image", "text", "audio"}
    assert all(info.paper.startswith("https://") for info in infos if info.source in ("torchvision", "torchaudio"))


def test_a_list_can_be_of_one_modality():
    assert {info.modality for info in list_encoders("audio")} == {"audio", "any"}
    assert list_encoders("smell") == []


def test_a_family_takes_any_name_but_none():
    info = find_encoder("transformers/google-bert/bert-base-uncased")
    assert info == EncoderInfo(
        "transformers/google-bert/bert-base-uncased",
        "any",
        source="transformers (any hub id or local folder)",
        has_weights=True,
    )
    with pytest.raises(LookupError, match="there is no encoder 'transformers/'"):
        find_encoder("transformers/")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("torchvision/resnet19", r"did you mean torchvision/resnet1"),
        ("resnet50", r"did you mean torchvision/resnet50"),
        ("compact/imge", r"did you mean compact/image"),
        ("zzz", r"`multimodal encoders` lists what there is"),
    ],
)
def test_an_unknown_name_gets_suggestions(name, hint):
    for look_up in (find_encoder, create_encoder):
        with pytest.raises(LookupError, match=rf"there is no encoder '{name}'; {hint}"):
            look_up(name)


# dims of the other ResNets and of torchaudio's bundles are compared in test_image.py and test_audio.py
@pytest.mark.parametrize("name", ["compact/image", "compact/text", "compact/audio", "torchvision/resnet18"])
def test_the_list_s_dim_is_that_of_the_encoder(name):
    info = find_encoder(name)
    encoder = create_encoder(name, weights=None)
    assert (encoder.embed_dim, encoder.modality, encoder.name) == (info.embed_dim, info.modality, name)


def test_every_builder_exists():
    from encoders.catalogue import entries

    for info, path in entries():
        module, name = path.split(":")
        factory = getattr(importlib.import_module(module), name)
        assert "weights" in inspect.signature(factory).parameters, info.name


# --- registering -------------------------------------------------------------------------------------------------


def test_a_class_is_registered_by_decorator(clean):
    from support.tiny_models import TinyImage

    decorated = register_encoder("mine/tiny", modality="image", embed_dim=8, licence="MIT", paper="https://x")(
        TinyImage
    )
    assert decorated is TinyImage
    assert find_encoder("mine/tiny") == EncoderInfo("mine/tiny", "image", 8, "support.tiny_models", "MIT", "https://x")
    assert "mine/tiny" in [info.name for info in list_encoders("image")]
    encoder = create_encoder("mine/tiny", embed_dim=16)
    assert isinstance(encoder, TinyImage)
    assert (encoder.name, encoder.embed_dim, encoder.arguments) == ("mine/tiny", 16, {"embed_dim": 16})
    assert encoder.architecture() == {"embed_dim": 16}


def test_a_registered_family_is_told_the_whole_name(clean):
    from support.tiny_models import TinyImage

    @register_encoder("mine/*", modality="image")
    def build(*, name, weights):
        return TinyImage(embed_dim=int(name.removeprefix("mine/")))

    assert create_encoder("mine/24").embed_dim == 24
    assert create_encoder("mine/24").name == "mine/24"


def test_weights_left_out_are_the_registry_s_own_if_it_has_any(clean):
    from support.tiny_models import TinyImage

    seen = []

    def build(*, weights):
        seen.append(weights)
        return TinyImage()

    register_encoder("mine/with", modality="image", has_weights=True)(build)
    register_encoder("mine/without", modality="image")(build)
    for name, weights in (("mine/with", ...), ("mine/without", ...), ("mine/with", None)):
        create_encoder(name, weights=weights)
    assert seen == ["pretrained", None, None]


def test_a_name_that_is_taken_names_both_owners(clean):
    @register_encoder("mine/tiny", modality="image")
    def first(*, weights):
        raise NotImplementedError

    def second(*, weights):
        raise NotImplementedError

    with pytest.raises(ValueError, match=r"'mine/tiny' is taken twice, by .*:.*first and by .*:.*second; rename one"):
        register_encoder("mine/tiny", modality="image")(second)
    with pytest.raises(ValueError, match=r"'compact/image' is taken twice, by multimodal-transfer and by .*second"):
        register_encoder("compact/image", modality="image")(second)
    with pytest.raises(ValueError, match=r"'mine/tiny' is taken twice"):
        register_encoder("mine/tiny", modality="image")(first)


# --- other distributions -----------------------------------------------------------------------------------------


def test_listing_finds_an_installed_plugin_without_importing_it(plugin):
    info = next(info for info in list_encoders() if info.name == "satellite/v1")
    assert info == EncoderInfo("satellite/v1", "unknown", source="satellite-encoders")
    assert find_encoder("satellite/v1") == info
    with pytest.raises(LookupError, match="did you mean satellite/v"):
        find_encoder("satellite/v9")
    assert not any(name.startswith("satellite_encoders") for name in sys.modules)


def test_a_plugin_s_factory_is_loaded_when_it_is_created(plugin):
    encoder = create_encoder("satellite/v1", n=5)
    assert (encoder.name, encoder.modality, encoder.embed_dim) == ("satellite/v1", "satellite", 8)
    assert encoder.preprocessor([1, 2, 3, 4, 5, 6])["bands"].tolist() == [1, 2, 3, 4, 5]


def test_a_plugin_may_also_decorate_and_then_says_more(plugin):
    assert find_encoder("satellite/v2").modality == "unknown"
    assert create_encoder("satellite/v2").embed_dim == 8
    assert find_encoder("satellite/v2") == EncoderInfo(
        "satellite/v2", "satellite", 8, source="satellite_encoders.encoders", licence="MIT"
    )


def test_a_plugin_s_preprocessor_is_saved_by_name_and_loaded_if_allowed(plugin, tmp_path):
    encoder = create_encoder("satellite/v1")
    save_preprocessor(encoder.preprocessor, tmp_path)
    assert '"distribution": "satellite-encoders"' in (tmp_path / "preprocess.json").read_text()
    loaded = load_preprocessor(tmp_path, allow_plugins=("bands",))
    raw = [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(loaded(raw)["bands"], encoder.preprocessor(raw)["bands"])
    with pytest.raises(LookupError, match=r"from the distribution 'satellite-encoders', .* allow_plugins=\('bands',\)"):
        load_preprocessor(tmp_path, allow_plugins=())


def test_a_preprocessor_that_is_not_installed_names_its_distribution():
    with pytest.raises(LookupError, match="is not installed; run: pip install satellite-encoders"):
        preprocessor_from_config({"kind": "bands", "n": 3, "distribution": "satellite-encoders"}, {})


@pytest.mark.parametrize(
    ("name", "reason"),
    [("satellite/gone", "has no attribute 'Nothing'"), ("satellite/needy", "No module named 'a_package_that")],
)
def test_a_plugin_that_cannot_be_loaded_names_its_distribution(name, reason, plugin):
    with pytest.raises(ImportError, match=rf"the encoder '{name}' of satellite-encoders cannot be loaded \(.*{reason}"):
        create_encoder(name)


def test_two_distributions_with_one_name_are_both_named(tmp_path, monkeypatch, clean):
    for name in ("alpha-encoders", "beta-encoders"):
        write_distribution(tmp_path, name, "[multimodal.encoders]\nshared/v1 = some.module:factory\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"'shared/v1' is taken twice, by (alpha|beta)-encoders and by (alpha|beta)-enc"
    ):
        create_encoder("shared/v1")


# --- what is not installed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("torchvision", "torchvision/resnet18"),
        ("transformers", "transformers/org/model"),
        ("torchaudio", "torchaudio/wav2vec2_base"),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(package, name, monkeypatch, tmp_path):
    importing = builtins.__import__

    def failing(target, *args, **kwargs):
        if target.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return importing(target, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    options = {"config": {"model_type": "bert"}} if package == "transformers" else {}
    line = rf"^{package} is not installed; run: pip install 'multimodal-transfer\[train\]'$"
    with pytest.raises(ModuleNotFoundError, match=line):
        create_encoder(name, weights=None, **options)


def test_without_torch_everything_can_be_listed_and_the_rest_is_one_line():
    code = """
import sys
sys.modules["torch"] = None
import encoders
print(len(encoders.list_encoders()) > 10, encoders.find_encoder("compact/image").modality)
for use in (lambda: encoders.create_encoder("compact/image"), lambda: encoders.Encoder):
    try:
        use()
    except ModuleNotFoundError as error:
        print(error)
"""
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    line = "torch is not installed; run: pip install 'multimodal-transfer[train]'"
    assert done.stdout.splitlines() == ["True image", line, line]
