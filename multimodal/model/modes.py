"""Keeps modules training or frozen, as a phase says."""

from torch import nn


def set_training_modes(model: nn.Module) -> None:
    """Puts every module that trains nothing into eval mode, and all others into train mode.

    A module trains iff one of its parameters does; one without parameters (dropout) follows the smallest
    enclosing module that has some. A frozen BatchNorm must stay in eval mode, or its running statistics drift.
    """
    _set_mode(model, _trains(model, {}), inherited=True)


def _trains(module: nn.Module, found: dict[nn.Module, bool | None]) -> dict[nn.Module, bool | None]:
    """Module -> whether one of its parameters trains, of this one and all in it; None where it has none."""
    known = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    for child in module.children():
        if child not in found:
            _trains(child, found)
        own = found[child]
        if own is not None:
            known.append(own)
    found[module] = any(known) if known else None
    return found


def _set_mode(module: nn.Module, trains: dict[nn.Module, bool | None], *, inherited: bool) -> None:
    own = trains[module]
    module.training = inherited if own is None else own
    for child in module.children():
        _set_mode(child, trains, inherited=module.training)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """Its BatchNorm modules that see the records of this process alone."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return [child for child in module.modules() if isinstance(child, kinds)]


def training_batch_norms(model: nn.Module) -> list[str]:
    """Names of the BatchNorm modules whose parameters train, so that their known depend on the batch."""
    names = {child: name for name, child in model.named_modules()}
    trained = (child for child in batch_norms(model) if any(p.requires_grad for p in child.parameters()))
    return [names[child] for child in trained]
