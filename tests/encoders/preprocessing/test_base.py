import doctest
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from encoders.preprocessing import (
    Preprocessor,
    TensorSpec,
    load_preprocessor,
    preprocessor_from_config,
    save_preprocessor,
    stack_arrays,
)
from encoders.preprocessing.audio import AudioPreprocessor
from encoders.preprocessing.base import config_arguments
from encoders.preprocessing.image import ImagePreprocessor
from encoders.preprocessing.text import TextPreprocessor
from encoders.testing import ContractError, check_preprocessor

IDS = TensorSpec("ids", "int64", ("batch", "tokens"))


def built_in() -> list[Preprocessor]:
    words = Tokenizer(WordLevel({"[PAD]": 0, "apple": 1}, unk_token="[PAD]"))
    return [ImagePreprocessor(8), TextPreprocessor(words, max_tokens=4), AudioPreprocessor(8_000)]


RAW = {
    "image": np.arange(300, dtype=np.uint8).reshape(10, 10, 3),
    "text": "apple",
    "audio": (np.linspace(-1, 1, 4000), 16_000),
}

each = pytest.mark.parametrize("preprocessor", built_in(), ids=lambda preprocessor: preprocessor.modality)


@each
def test_every_preprocessor_keeps_the_contract(preprocessor):
    assert isinstance(preprocessor, Preprocessor)
    sample = preprocessor(RAW[preprocessor.modality])
    stacked = preprocessor.stack([sample, preprocessor.blank(), sample])
    assert list(stacked) == [spec.name for spec in preprocessor.tensors]
    for spec in preprocessor.tensors:
        assert spec.axes[0] == "batch"
        assert stacked[spec.name].dtype == sample[spec.name].dtype == np.dtype(spec.dtype)
        assert stacked[spec.name].shape[0] == 3
        for size, axis in zip(stacked[spec.name].shape, spec.axes, strict=True):
            assert isinstance(axis, str) or axis == size
        alone = preprocessor.stack([sample])[spec.name][0]
        np.testing.assert_array_equal(alone, sample[spec.name])
        np.testing.assert_array_equal(stacked[spec.name][0], stacked[spec.name][2])


@each
def test_every_preprocessor_keeps_its_promises(preprocessor):
    check_preprocessor(preprocessor)


class Noisy(ImagePreprocessor):
    def __call__(self, raw):
        (pixels,) = super().__call__(raw).values()
        return {"pixels": pixels + np.uint8(1)}


def test_a_broken_promise_of_a_preprocessor_is_named():
    with pytest.raises(ContractError, match="int breaks the promise that a preprocessor has the methods of encoders"):
        check_preprocessor(3)
    with pytest.raises(ContractError, match="Noisy breaks the promise that a preprocessor preprocesses alike once"):
        check_preprocessor(Noisy(8))
    broken = ImagePreprocessor(8)
    broken.tensors = (*broken.tensors, IDS)
    with pytest.raises(ContractError, match=r"a preprocessor preprocesses raw values: .*no array 'ids'"):
        check_preprocessor(broken)


@each
def test_every_preprocessor_is_written_and_read_back(preprocessor, tmp_path):
    save_preprocessor(preprocessor, tmp_path / "inputs" / "x")
    loaded = load_preprocessor(tmp_path / "inputs" / "x")
    assert loaded.to_config() == preprocessor.to_config()
    for name, array in preprocessor(RAW[preprocessor.modality]).items():
        np.testing.assert_array_equal(loaded(RAW[preprocessor.modality])[name], array)
    save_preprocessor(loaded, tmp_path / "again")
    for file in (tmp_path / "again").iterdir():
        assert file.read_bytes() == (tmp_path / "inputs" / "x" / file.name).read_bytes()


@each
def test_an_unknown_key_is_refused(preprocessor):
    config = {**preprocessor.to_config(), "sise": 3}
    with pytest.raises(ValueError, match=f"unknown key 'sise' for the preprocessor '{preprocessor.modality}'"):
        preprocessor_from_config(config, getattr(preprocessor, "assets", dict)())


@each
def test_from_config_takes_its_own_config_and_refuses_another_kind(preprocessor):
    assets = getattr(preprocessor, "assets", dict)()
    assert type(preprocessor).from_config(preprocessor.to_config(), assets).to_config() == preprocessor.to_config()
    with pytest.raises(ValueError, match="of the kind 'video'"):
        type(preprocessor).from_config({"kind": "video"}, assets)


def test_config_arguments_names_what_is_near_and_what_is_missing():
    with pytest.raises(ValueError, match="did you mean 'size'"):
        config_arguments("image", {"sise": 1}, ["size", "crop"])
    with pytest.raises(ValueError, match="there are size, crop"):
        config_arguments("image", {"zzz": 1}, ["size", "crop"])
    with pytest.raises(ValueError, match="has no size"):
        preprocessor_from_config({"kind": "image"}, {})


def test_an_unknown_kind_is_refused():
    with pytest.raises(LookupError, match=r"no preprocessor 'imagee'.*did you mean image\?"):
        preprocessor_from_config({"kind": "imagee"}, {})
    with pytest.raises(LookupError, match="'acme/x' is not installed; run: pip install acme"):
        preprocessor_from_config({"kind": "acme/x", "distribution": "acme"}, {})
    for config in ({}, {"kind": None}, {"kind": ["image"]}):
        with pytest.raises(ValueError, match="needs a `kind`"):
            preprocessor_from_config(config, {})


def test_a_plugin_that_is_not_allowed_is_refused_before_it_is_looked_for():
    config = {"kind": "acme/x", "distribution": "acme"}
    with pytest.raises(LookupError, match=r"from the distribution 'acme'.*allow_plugins=\('acme/x',\)"):
        preprocessor_from_config(config, {}, allow_plugins=())
    with pytest.raises(LookupError, match="pip install acme"):
        preprocessor_from_config(config, {}, allow_plugins=("acme/x",))


@pytest.mark.parametrize("name", ["acme/x", "imagee", "x", "acme/x/v2", "größe/ü", "acme/*"])
def test_a_part_that_was_registered_in_python_alone_says_so_and_how_to_load_it(name):
    config = {"kind": name, "distribution": None}
    with pytest.raises(LookupError, match="registered in Python and belongs to no distribution") as refused:
        preprocessor_from_config(config, {}, allow_plugins=())
    with pytest.raises(LookupError, match=f"the preprocessor {re.escape(repr(name))} is not registered") as missing:
        preprocessor_from_config(config, {}, allow_plugins=(name,))
    assert f"allow_plugins=({name!r},)" in str(refused.value)
    for error in (refused, missing):
        assert "import the module that registers it before" in str(error.value)
        assert "an entry point 'multimodal.preprocessors' of an installed distribution" in str(error.value)
        assert "unknown" not in str(error.value)


class Sums:
    """A plug-in's preprocessor."""

    modality = "numbers"
    tensors = (TensorSpec("sum", "float32", ("batch",)),)

    @classmethod
    def from_config(cls, config, assets):
        assert (config, assets) == ({}, {})
        return cls()

    def to_config(self):
        return {"kind": "acme/sums"}


class Point(importlib.metadata.EntryPoint):
    def load(self):
        return Sums


def test_a_plugin_is_found_by_its_registered_name_and_two_owners_are_refused(monkeypatch):
    points = [Point("acme/sums", "acme:Sums", "multimodal.preprocessors")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    assert isinstance(preprocessor_from_config(Sums().to_config(), {}, allow_plugins=["acme/sums"]), Sums)
    points.append(points[0])
    with pytest.raises(ValueError, match="'acme/sums' is taken twice, by"):
        preprocessor_from_config(Sums().to_config(), {})


def test_a_preprocessor_that_nobody_could_rebuild_is_not_written(tmp_path):
    with pytest.raises(LookupError, match="'acme/sums' is not registered"):
        save_preprocessor(Sums(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["../a.json", "/a.json", "a/b.json", "preprocess.json", ""])
def test_an_asset_that_would_leave_the_folder_is_not_written(name, tmp_path, monkeypatch):
    preprocessor = ImagePreprocessor(8)
    monkeypatch.setattr(preprocessor, "assets", lambda: {name: ""}, raising=False)
    with pytest.raises(ValueError, match="plain file name"):
        save_preprocessor(preprocessor, tmp_path / "x")


def test_a_folder_that_is_damaged_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no preprocess\.json"):
        load_preprocessor(tmp_path)
    for text in ("", "{", "[1]", "3"):
        (tmp_path / "preprocess.json").write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            load_preprocessor(tmp_path)
    (tmp_path / "preprocess.json").write_text(json.dumps({"kind": "image", "size": 8}))
    (tmp_path / "other").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="damaged"):
        load_preprocessor(tmp_path)


def test_stack_refuses_what_the_spec_does_not_declare():
    fixed = TensorSpec("ids", "int64", ("batch", 2))
    with pytest.raises(ValueError, match="no sample to stack"):
        stack_arrays([], [IDS], {})
    with pytest.raises(ValueError, match="no array 'ids', only other"):
        stack_arrays([{"other": np.zeros(1)}], [IDS], {})
    with pytest.raises(ValueError, match=r"int64 \[3\] but is declared as int64 \[2\]"):
        stack_arrays([{"ids": np.zeros(2, np.int64)}, {"ids": np.zeros(3, np.int64)}], [fixed], {})
    with pytest.raises(ValueError, match="is float64"):
        stack_arrays([{"ids": np.zeros(2)}], [IDS], {})
    with pytest.raises(ValueError, match=r"int64 \[1, 2\]"):
        stack_arrays([{"ids": np.zeros((1, 2), np.int64)}], [IDS], {})


def test_stack_takes_arrays_without_axes():
    spec = TensorSpec("sum", "float32", ("batch",))
    assert stack_arrays([{"sum": np.float32(v).reshape(())} for v in (1, 2)], [spec], {})["sum"].tolist() == [1, 2]


@pytest.mark.parametrize("module", ["base", "files", "image", "text", "audio"])
def test_examples_in_docstrings_are_true(module):
    failed, tried = doctest.testmod(importlib.import_module(f"encoders.preprocessing.{module}"))
    assert tried > 0
    assert failed == 0


def test_no_preprocessor_imports_torch_or_transformers():
    code = (
        "import sys; import encoders.preprocessing.image, encoders.preprocessing.text, encoders.preprocessing.audio; "
        "print(sorted({'torch', 'transformers', 'torchvision', 'torchaudio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
