"""New layers on top of an encoder that may stay frozen."""

import pytest
import torch
from support.assertions import assert_close
from support.tiny_pretrained import shop_job, shop_setup

from multimodal.builders.training import build_strategy
from multimodal.config import ConfigError, parse_job
from multimodal.job import kept_tokens
from multimodal.job.kept_tokens import keep_tokens
from multimodal.model.layers import NewLayers
from multimodal.run import Run
from multimodal.runtime.runtime import Runtime
from multimodal.training import fit

pytestmark = pytest.mark.usefixtures("planted_encoders")


def test_they_begin_near_the_identity_and_every_parameter_learns():
    torch.manual_seed(0)
    layers, tokens = NewLayers(8, 3), torch.randn(4, 5, 8)
    said = layers(tokens)
    assert 0 < float((said - tokens).detach().norm() / tokens.norm()) < 0.05
    said.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layers.parameters())


def test_they_are_new_parameters_beside_the_heads(shop):
    job = shop_setup(shop, **{"inputs.text.new_layers": 2, "transfer.strategy": "linear_probe"})
    (phase,) = build_strategy(job.job, job.model).plan(job.model, 1)
    listed = {name for group in phase.groups for name in group.params}
    own = {name for name, _ in job.model.named_parameters() if name.startswith("layers.text.")}
    assert len(own) == 2 * 6
    assert own <= listed
    assert not any(name.startswith("encoders.") for name in listed)


@pytest.mark.parametrize("fusion", [{"name": "concat", "dim": 8}, {"name": "late"}])
def test_on_a_frozen_encoder_they_learn_from_kept_tokens_and_export_in_parity(shop, tmp_path, fusion, monkeypatch):
    """A bundle is written only where onnxruntime agrees with torch on every combination of inputs."""
    kept = []
    reader = kept_tokens.feature_reader
    monkeypatch.setattr(kept_tokens, "feature_reader", lambda *a, **k: kept.append(reader(*a, **k)) or kept[-1])
    layers = {"inputs.text.new_layers": 2, "inputs.image.new_layers": 1, "transfer.strategy": "linear_probe"}
    task = shop_job(shop, fusion=fusion, **layers)
    run = fit(task, out=tmp_path / "run")
    assert {reader.name for reader in kept} == {"image", "text"}
    assert max(len(tokens) for reader in kept for tokens in reader.store._tokens.values()) > 1  # not the mean alone
    again = Run(run.folder)
    assert again.evaluate(shop / "valid.csv")["tasks"] == run.metrics["tasks"]
    before, after = shop_setup(shop, **layers).model.state_dict(), again.model.state_dict()
    for name in before:
        if name.startswith(("encoders.", "layers.")):
            assert torch.equal(before[name], after[name]) == name.startswith("encoders."), name
    run.export(tmp_path / "bundle")


def test_kept_tokens_give_what_the_values_give(shop, tmp_path):
    job = shop_setup(shop, **{"inputs.text.new_layers": 1, "inputs.image.new_layers": 1})
    job.model.eval()
    kept = keep_tokens(job, [], Runtime())
    scores = [entry.validator()[0] for entry in (job, kept)]
    assert scores[0].keys() == scores[1].keys()
    for name, value in scores[0].items():
        assert_close(scores[1][name], value)


def test_a_shared_encoder_has_its_layers_whichever_input_comes_first(shop):
    inputs = {"back": {"column": "text", "share": "text"}, "text": {"encoder": "planted/words", "new_layers": 1}}
    model = shop_setup(shop, inputs=inputs).model
    assert list(model.layers) == ["back"] == list(model.encoders)


def test_an_input_that_shares_an_encoder_shares_its_layers():
    inputs = {"a": {"encoder": "compact/text"}, "b": {"share": "a", "new_layers": 1}}
    with pytest.raises(ConfigError, match="new_layers and candidates belong to the encoder; set them on the input 'a'"):
        parse_job({"inputs": inputs, "tasks": {"c": {}}})
