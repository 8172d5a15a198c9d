"""Which modules train and which are frozen, and keeping it so."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def set_training_modes(model: nn.Module) -> None:
    """Puts every module that trains nothing into eval mode, and all others into train mode.

    A module trains iff one of its parameters does; one without parameters (dropout) follows the smallest
    enclosing module that has some. A frozen BatchNorm must stay in eval mode, or its running statistics drift.
    """
    _set_mode(model, inherited=True)


def _set_mode(module: nn.Module, *, inherited: bool) -> None:
    parameters = list(module.parameters())
    mode = any(parameter.requires_grad for parameter in parameters) if parameters else inherited
    module.training = mode
    for child in module.children():
        _set_mode(child, inherited=mode)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """Its BatchNorm modules that see the records of this process alone."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return [child for child in module.modules() if isinstance(child, kinds)]


def training_batch_norms(model: nn.Module) -> list[str]:
    """Names of the BatchNorm modules whose parameters train, so that their answers depend on the batch."""
    names = {child: name for name, child in model.named_modules()}
    trained = (child for child in batch_norms(model) if any(p.requires_grad for p in child.parameters()))
    return [names[child] for child in trained]


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule has the mode that it had."""
    modes = [(child, child.training) for module in modules for child in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode
