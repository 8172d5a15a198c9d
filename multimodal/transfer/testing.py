"""The contract of strategies as a check that anybody can run: ``check_strategy(MyStrategy)``."""

from collections.abc import Callable
from functools import partial

import torch

from encoders.contract import contract_step, require, some
from encoders.registry import create_encoder
from fusion import create_fusion
from multimodal.model import MultimodalModel
from multimodal.model.heads import ClassificationHead
from multimodal.transfer.plan import EncoderPolicy, Phase, TransferStrategy, check_plan, trained_names

_require, _step = partial(require, kind="a strategy"), partial(contract_step, kind="a strategy")
POLICIES = (
    EncoderPolicy(),
    EncoderPolicy(scales={"back": 0.1}, frozen=frozenset({"back"})),
    EncoderPolicy(fresh=frozenset({"front"})),
    EncoderPolicy(unfreeze_from=1),
)


def check_strategy(build: Callable[[EncoderPolicy], TransferStrategy]) -> None:
    """Checks every promise of a strategy, on a model of two text encoders; returns nothing if all are kept.

    Args:
        build: the class, or a function of an ``EncoderPolicy`` that gives a strategy.

    Raises:
        ContractError: for the first promise that is broken.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for policy in POLICIES:
            for epochs in (1, 2, 5):
                with _step(build, "is built of an EncoderPolicy"):
                    strategy = build(policy)
                is_one = isinstance(strategy, TransferStrategy)
                _require(is_one, strategy, "is a mm.TransferStrategy", "subclass it")
                _check_phases(strategy, policy, epochs)


def _model() -> MultimodalModel:
    encoders = {name: create_encoder("compact/text", weights=None) for name in ("front", "back")}
    fusion = create_fusion("concat", {name: encoder.embed_dim for name, encoder in encoders.items()}, 8)
    return MultimodalModel(encoders, fusion, {"kind": ClassificationHead(8, labels=["a", "b"])}).eval()


def _check_phases(strategy: TransferStrategy, policy: EncoderPolicy, epochs: int) -> None:
    model = _model()
    names = list(model.state_dict())
    with _step(strategy, "prepares a model"):
        strategy.prepare(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with _step(strategy, f"plans {epochs} epochs"):
        phases = strategy.plan(model, epochs)
        again = strategy.plan(model, epochs)
    _require(phases == again, strategy, "plans the same twice", "a resumed run plans again; draw no random numbers")
    after = model.state_dict()
    same = after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    _require(same, strategy, "leaves the model as it is in plan", "change it in prepare, and back in finish")
    if phases:
        with _step(strategy, f"plans phases that {epochs} epochs can carry out"):
            check_plan(model, phases, epochs)
    _check_frozen(strategy, policy, phases)
    with _step(strategy, "finishes a model"):
        strategy.finish(model)
    what = "a run is loaded without its strategy; take out in finish what prepare added"
    _require(list(model.state_dict()) == names, strategy, "gives the model back with the tensors that it had", what)


def _check_frozen(strategy: TransferStrategy, policy: EncoderPolicy, phases: list[Phase]) -> None:
    trained = trained_names(phases)
    for name in policy.frozen:
        held = sorted(param for param in trained if param.startswith(f"encoders.{name}."))
        promise = "trains no encoder that policy.frozen names"
        _require(not held, strategy, promise, f"{some(held)}; use encoder_groups(model, self.policy)")
