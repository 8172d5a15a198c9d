import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file
from support.checkpoints import write_text_model

from encoders import create_encoder
from encoders.weights.hub import licence_of, locate, weight_files


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache with org/tiny in it, as a download leaves it, on a machine without a connection."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = folder / "models--org--tiny" / "snapshots" / commit
    write_text_model(snapshot)
    (snapshot / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    refs = folder / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    return snapshot


def test_a_hub_id_is_found_in_the_cache(cache):
    encoder = create_encoder("transformers/org/tiny")
    assert encoder.name == "transformers/org/tiny"
    assert encoder.embed_dim == 32
    assert (encoder.provenance.weights, encoder.provenance.licence) == ("pretrained", "apache-2.0")


def test_a_hub_id_can_be_given_as_weights(cache, tmp_path):
    write_text_model(tmp_path / "mine", seed=1)
    encoder = create_encoder(f"transformers/{tmp_path / 'mine'}", weights="org/tiny")
    expected = load_file(cache / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert torch.equal(encoder.model.embeddings.word_embeddings.weight, expected)
    assert encoder.provenance.weights == "org/tiny"


def test_of_a_sentence_model_all_parts_are_fetched(monkeypatch, tmp_path):
    files = ("config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "onnx/model.onnx")
    files += ("2_Dense/model.safetensors", "0_BERT/config.json", "tokenizer_config.json", "tf_model.h5", "modeling.py")
    fetched: list[str] = []

    def fetch(hub_id, allow_patterns):
        fetched.extend(filter_repo_objects(files, allow_patterns=allow_patterns))
        return tmp_path

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    locate("org/other", with_weights=False)
    assert set(fetched) == set(files) - {"onnx/model.onnx", "tf_model.h5", "modeling.py"}


def test_old_weight_files_are_taken_where_there_is_nothing_else(cache):
    torch.save(load_file(cache / "model.safetensors"), cache / "pytorch_model.bin")
    assert [path.name for path in weight_files(cache)] == ["model.safetensors"]
    (cache / "model.safetensors").unlink()
    assert create_encoder("transformers/org/tiny").provenance.weights == "pretrained"


def test_a_download_that_stopped_before_the_weights_says_so(cache):
    (cache / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"looked for model\.safetensors and pytorch_model\.bin in .*neither"):
        create_encoder("transformers/org/tiny")
    assert create_encoder("transformers/org/tiny", weights=None).embed_dim == 32


def test_an_id_that_the_hub_refuses_is_the_same_error():
    with pytest.raises(FileNotFoundError, match=r"of transformers/a--b are not on this machine; looked for model"):
        create_encoder("transformers/a--b")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlanguage: en\nlicense: 'cc-by-4.0'\n---\nlicense: gpl\n", "cc-by-4.0"),
        ("# A model\nlicense: mit\n", "unknown"),
        ("---\nlanguage: en\n---\nlicense: mit\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_what_the_card_declares(card, licence, tmp_path):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) == licence
