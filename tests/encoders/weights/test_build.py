import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.assertions import assert_close
from support.checkpoints import SPEECH, write_text_model
from torch import nn

from encoders import create_encoder
from encoders.base import Encoder
from encoders.preprocessing import save_preprocessor
from encoders.preprocessing.image import ImagePreprocessor
from encoders.registry import EncoderInfo
from encoders.weights.build import build
from encoders.weights.download import download
from encoders.weights.state import digest_of_files, load_state, read_state

RESNET = "torchvision/resnet18"


class Mean(Encoder):
    """The mean colour of an image, through a linear layer."""

    def __init__(self, *, dim: int = 4) -> None:
        super().__init__()
        self.modality, self.embed_dim = "image", dim
        self.preprocessor = ImagePreprocessor(8)
        self.linear = nn.Linear(3, dim)

    def forward(self, inputs):
        tokens = self.linear(inputs["pixels"].float().mean(dim=(2, 3)))[:, None]
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)

    def depth_groups(self):
        return [list(self.linear.parameters())]


INFO = EncoderInfo("mine/mean", "image", licence="MIT")


def write_run(folder: Path, encoders: dict[str, Encoder], *, shares: dict[str, str] | None = None) -> Path:
    """Encoders in the folder of a training run."""
    shares = shares or {}
    folder.mkdir(parents=True)
    state = {f"encoders.{name}.{key}": t for name, e in encoders.items() for key, t in e.state_dict().items()}
    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "model.safetensors")
    inputs = {}
    for name in (*encoders, *shares):
        encoder = encoders[shares.get(name, name)]
        save_preprocessor(encoder.preprocessor, folder / "inputs" / name)
        inputs[name] = {
            "encoder": encoder.name,
            "arguments": encoder.architecture(),
            "shares": shares.get(name),
            "kept_as": shares.get(name, name),
            "provenance": {"weights": "random", "sha256": None, "licence": "CC0-1.0"},
        }
    (folder / "model.json").write_text(json.dumps({"format": 1, "inputs": inputs}))
    return folder


def make_resnet(seed: int, image_size: int = 32) -> Encoder:
    torch.manual_seed(seed)
    return create_encoder(RESNET, weights=None, image_size=image_size)


# --- a file into a module ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint", "parallel"])
def test_every_common_form_of_a_state_dict_is_loaded(form, tmp_path):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    state = dict(source.state_dict())
    path = tmp_path / ("state.safetensors" if form == "safetensors" else "state.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "pth":
        torch.save(state, path)
    elif form == "checkpoint":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    digest = load_state(target, path)
    assert torch.equal(target.weight, source.weight)
    assert torch.equal(target.bias, source.bias)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_does_not_fit_is_listed(tmp_path):
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("0")}
    torch.save({**state, "head.weight": torch.zeros(1)}, tmp_path / "state.pt")
    expected = r"state\.pt does not fit this encoder; missing: 0\.bias, 0\.weight; unexpected: head\.weight; give"
    with pytest.raises(ValueError, match=expected):
        load_state(model, tmp_path / "state.pt")
    torch.save({"head.weight": torch.zeros(1)}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"missing: 0\.bias, .*, 2\.bias and 3 more; unexpected: head"):
        load_state(model, tmp_path / "state.pt")
    torch.save({**model.state_dict(), "0.weight": torch.zeros(3, 2)}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"of another shape: 0\.weight \[3, 2\] instead of \[2, 2\]"):
        load_state(model, tmp_path / "state.pt")


def test_ignored_names_are_left_out(tmp_path):
    model = nn.Linear(2, 2)
    torch.save({**model.state_dict(), "fc.weight": torch.zeros(1)}, tmp_path / "state.pt")
    load_state(model, tmp_path / "state.pt", ignore=("fc.",))


def test_a_file_that_could_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_run",))

    (tmp_path / "trap.pt").write_bytes(pickle.dumps({"weight": Trap()}))
    torch.save({"weight": Trap()}, tmp_path / "trap2.pt")
    for name in ("trap.pt", "trap2.pt"):
        with pytest.raises(ValueError, match=r"could run code\. Save model\.state_dict"):
            read_state(tmp_path / name)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 torn"])
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.pt: cannot be read as tensors only; it is damaged"):
        read_state(tmp_path / "state.pt")
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"is no whole safetensors file .*; copy it again"):
        read_state(tmp_path / "state.safetensors")


@pytest.mark.parametrize("content", [torch.zeros(2), {"weight": 3}, {}, [torch.zeros(2)]])
def test_files_without_a_state_dict_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="holds no state_dict"):
        read_state(tmp_path / "state.pt")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights .*nothing\.pt': is not there; give a safetensors file"):
        create_encoder(RESNET, weights=tmp_path / "nothing.pt")
    with pytest.raises(FileNotFoundError, match=r"is a folder without a finished training run; give"):
        create_encoder(RESNET, weights=tmp_path)


def test_the_digest_of_several_files_is_that_of_their_contents_in_order(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode() * 3)
    assert digest_of_files(paths) == hashlib.sha256(b"aaabbb").hexdigest()


# --- calling a factory -------------------------------------------------------------------------------------------


def test_a_class_without_weights_is_built_and_loaded(tmp_path):
    encoder = build(INFO, Mean, None, {"dim": 5})
    assert (encoder.name, encoder.arguments, encoder.embed_dim) == ("mine/mean", {"dim": 5}, 5)
    assert (encoder.provenance.weights, encoder.provenance.sha256) == ("random", None)
    torch.save(encoder.state_dict(), tmp_path / "mean.pt")
    loaded = build(INFO, Mean, tmp_path / "mean.pt", {"dim": 5})
    assert torch.equal(loaded.linear.weight, encoder.linear.weight)
    assert loaded.provenance.weights == str(tmp_path / "mean.pt")
    assert loaded.provenance.sha256 == hashlib.sha256((tmp_path / "mean.pt").read_bytes()).hexdigest()


def test_a_factory_gets_weights_and_name_if_it_takes_them():
    seen = {}

    def factory(*, weights, name, **options):
        seen.update(weights=weights, name=name, **options)
        return Mean()

    encoder = build(INFO, factory, "pretrained", {"size": 3})
    assert seen == {"weights": "pretrained", "name": "mine/mean", "size": 3}
    assert (encoder.provenance.weights, encoder.provenance.licence) == ("pretrained", "MIT")


def test_a_factory_that_takes_anything_gets_weights():
    encoder = build(INFO, lambda **options: Mean(dim=len(options)), "some/where", {"a": 1})
    assert encoder.embed_dim == 2
    assert (encoder.provenance.weights, encoder.provenance.licence) == ("some/where", "unknown")


def test_unknown_options_are_named_beside_the_known_ones():
    with pytest.raises(TypeError, match=r"mine/mean takes no option size, depth; it takes dim"):
        build(INFO, Mean, None, {"size": 3, "depth": 1})
    with pytest.raises(TypeError, match=r"torchvision/resnet18 takes no option dim; it takes image_size"):
        create_encoder(RESNET, weights=None, dim=3)


def test_pretrained_is_refused_where_there_is_nothing():
    with pytest.raises(ValueError, match="mine/mean has no pretrained weights of its own"):
        build(INFO, Mean, "pretrained", {})


def test_what_is_no_encoder_is_refused():
    with pytest.raises(TypeError, match=r"the factory of mine/mean returned a Linear; return an encoders\.Encoder"):
        build(INFO, lambda weights: nn.Linear(1, 1), None, {})

    class Bare(Mean):
        def __init__(self):
            Encoder.__init__(self)

    with pytest.raises(TypeError, match="mine/mean has no modality, embed_dim, preprocessor; set it in __init__"):
        build(INFO, Bare, None, {})
    with pytest.raises(ValueError, match="registered for 'text' but reads 'image'"):
        build(EncoderInfo("mine/mean", "text"), Mean, None, {})


def test_arguments_that_an_encoder_sets_itself_rebuild_it():
    class Filled(Mean):
        def __init__(self, *, dim: int = 4) -> None:
            super().__init__(dim=dim)
            self.arguments = {"dim": dim}

    for given in ({}, {"dim": 5}):
        encoder = build(INFO, Filled, None, given)
        assert encoder.architecture() == {"dim": encoder.embed_dim}
        assert build(INFO, Filled, None, encoder.architecture()).embed_dim == given.get("dim", 4)


# --- an earlier run ----------------------------------------------------------------------------------------------


def test_a_run_brings_architecture_preprocessor_and_weights(tmp_path):
    source = make_resnet(0, image_size=48)
    run = write_run(tmp_path / "run", {"photo": source})
    encoder = create_encoder(RESNET, weights=run)
    assert encoder.preprocessor.to_config() == source.preprocessor.to_config()
    assert encoder.architecture() == source.architecture()
    assert encoder.arguments == source.architecture()
    for name, tensor in source.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name
    assert encoder.provenance.weights == str(run)
    assert encoder.provenance.sha256 == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert encoder.provenance.licence == "CC0-1.0"


def test_a_run_s_text_encoder_needs_the_model_s_folder_no_more(tmp_path):
    write_text_model(tmp_path / "bert")
    source = create_encoder(f"transformers/{tmp_path / 'bert'}", max_tokens=5).eval()
    run = write_run(tmp_path / "run", {"title": source})
    inputs = source.preprocessor.stack([source.preprocessor("a ripe apple from the farm")])
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    expected = source(tensors)[0]
    shutil.rmtree(tmp_path / "bert")
    encoder = create_encoder(source.name, weights=str(run)).eval()
    assert encoder.preprocessor.to_config() == source.preprocessor.to_config()
    assert encoder.preprocessor("a ripe apple from the farm")["input_ids"].tolist() == inputs["input_ids"][0].tolist()
    assert_close(encoder(tensors)[0], expected, "float32")


def test_a_run_s_tiny_speech_encoder_is_rebuilt(tmp_path):
    source = create_encoder("torchaudio/wav2vec2_base", weights=None, model=SPEECH, max_seconds=2)
    run = write_run(tmp_path / "run", {"voice": source})
    encoder = create_encoder("torchaudio/wav2vec2_base", weights=run)
    assert encoder.architecture() == source.architecture()
    assert torch.equal(
        encoder.state_dict()["encoder.transformer.layers.1.attention.k_proj.weight"],
        source.state_dict()["encoder.transformer.layers.1.attention.k_proj.weight"],
    )


def test_a_local_model_folder_may_be_written_in_another_way(tmp_path, monkeypatch):
    write_text_model(tmp_path / "bert")
    run = write_run(tmp_path / "run", {"title": create_encoder(f"transformers/{tmp_path / 'bert'}")})
    monkeypatch.chdir(tmp_path)
    assert create_encoder("transformers/bert", weights=run).name == "transformers/bert"


def test_options_may_repeat_what_the_run_has_but_not_change_it(tmp_path):
    run = write_run(tmp_path / "run", {"photo": make_resnet(0, image_size=48)})
    assert create_encoder(RESNET, weights=run, image_size=48).architecture()["image_size"] == 48
    with pytest.raises(ValueError, match=r"image_size is 64, but torchvision/resnet18 of .*run has 48; leave options"):
        create_encoder(RESNET, weights=run, image_size=64)


def test_a_run_without_that_encoder_says_what_it_has(tmp_path):
    run = write_run(tmp_path / "run", {"photo": make_resnet(0)})
    with pytest.raises(ValueError, match=r"has no encoder compact/image, only torchvision/resnet18 \(input photo\)"):
        create_encoder("compact/image", weights=run)


def test_of_several_encoders_one_is_named_by_its_input(tmp_path):
    front, back = make_resnet(0), make_resnet(1)
    run = write_run(tmp_path / "run", {"front": front, "back": back}, shares={"side": "back"})
    with pytest.raises(ValueError, match=r"2 encoders torchvision/resnet18 that differ; give one of .*front, .*back"):
        create_encoder(RESNET, weights=run)
    for name, expected in (("front", front), ("back", back), ("side", back)):
        encoder = create_encoder(RESNET, weights=run / "inputs" / name)
        assert torch.equal(encoder.conv1.weight, expected.conv1.weight)
    with pytest.raises(ValueError, match=r"has no input 'top', only front, back, side; give one of these"):
        create_encoder(RESNET, weights=run / "inputs" / "top")


def test_of_several_equal_encoders_any_will_do(tmp_path):
    encoder = make_resnet(0)
    run = write_run(tmp_path / "run", {"front": encoder, "back": encoder}, shares={"side": "front"})
    assert torch.equal(create_encoder(RESNET, weights=run).conv1.weight, encoder.conv1.weight)
    (run / "inputs" / "back" / "preprocess.json").write_text('{"kind": "image", "size": 99}')
    with pytest.raises(ValueError, match="that differ"):
        create_encoder(RESNET, weights=run)


def test_an_unfinished_run_is_refused(tmp_path):
    run = write_run(tmp_path / "run", {"photo": make_resnet(0)})
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="it did not finish; resume it with `multimodal train"):
        create_encoder(RESNET, weights=run)


def test_a_damaged_run_is_refused(tmp_path):
    run = write_run(tmp_path / "run", {"front": make_resnet(0), "back": make_resnet(0)})
    (run / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"model\.safetensors: is damaged .*; copy the run again"):
        create_encoder(RESNET, weights=run)
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        create_encoder(RESNET, weights=run / "inputs" / "front")
    (run / "model.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="is not of format 1; train it again"):
        create_encoder(RESNET, weights=run)
    (run / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json: is damaged"):
        create_encoder(RESNET, weights=run)


def test_a_run_whose_weights_do_not_fit_names_run_and_input(tmp_path):
    run = write_run(tmp_path / "run", {"photo": make_resnet(0)})
    save_file({"encoders.photo.conv1.weight": torch.zeros(64, 3, 7, 7)}, run / "model.safetensors")
    with pytest.raises(ValueError, match=r"run, input photo, does not fit this encoder; missing: bn1\.bias"):
        create_encoder(RESNET, weights=run)


# --- downloads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def test_a_file_is_fetched_once_and_its_digest_is_checked(torch_home, tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    file = tmp_path / f"tiny-{digest}.pth"
    file.write_bytes(b"weights")
    path = download(file.as_uri(), "mine/tiny")
    assert path == torch_home / file.name
    assert path.read_bytes() == b"weights"
    file.write_bytes(b"changed")
    assert download(file.as_uri(), "mine/tiny").read_bytes() == b"weights"
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"looked for .*invalid hash"):
        download(file.as_uri(), "mine/tiny")
    assert not path.exists()
