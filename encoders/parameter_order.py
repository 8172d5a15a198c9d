"""Parameters that tokens depend on, in order of depth: for models whose code is not ours."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def settle(
    model: nn.Module, probe: Callable[[], Tensor], order: Callable[[], list[list[str]]] = list
) -> tuple[int, list[list[str]]]:
    """Removes the parameters that the tokens do not depend on; returns the tokens' dim, and what ``order`` gives then.

    Args:
        model: left in train mode.
        probe: gives tokens ``[b l d]``; dropout is off meanwhile, which would be drawn from the seed.
    """
    model.eval()
    with torch.enable_grad():
        tokens = probe()
        removed = remove_unused(model, tokens)
        groups = order()
    model.train()
    if removed:
        logger.info("removed, because no token depends on it: %s", ", ".join(removed))
    return tokens.shape[2], groups


def remove_unused(model: nn.Module, tokens: Tensor) -> list[str]:
    """Removes the parameters that ``tokens`` do not depend on, such as a pooler's; returns their names.

    A module that has no other parameters gives way to an Identity.

    Args:
        tokens: what the model gave, with its autograd graph.
    """
    used = {id(parameter) for parameter in _leaves(tokens)}
    removed: list[str] = []
    _remove(model, used, "", removed)
    return removed


def _leaves(tokens: Tensor) -> list[Tensor]:
    """The tensors at the input end of an autograd graph."""
    found, seen, waiting = [], set(), [tokens.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # AccumulateGrad
            found.append(node.variable)
        waiting.extend(following for following, _ in node.next_functions)
    return found


def _remove(module: nn.Module, used: set[int], path: str, removed: list[str]) -> None:
    for name, child in list(module.named_children()):
        parameters = dict(child.named_parameters(prefix=f"{path}{name}"))
        if parameters and not any(id(parameter) in used for parameter in parameters.values()):
            setattr(module, name, nn.Identity())
            removed.extend(parameters)
        else:
            _remove(child, used, f"{path}{name}.", removed)
    for name, parameter in list(module.named_parameters(recurse=False)):
        if id(parameter) not in used:
            setattr(module, name, None)
            removed.append(f"{path}{name}")


def depth_order(model: nn.Module, run: Callable[[], object]) -> list[list[str]]:
    """Names of the parameters in the order in which a forward pass meets their modules: stem, layers, what follows.

    The layers are the items of the list with the most parameters; stages that are lists of layers themselves are
    opened, and what lies between two layers is a group, too. A parameter whose own module is never called (an
    embedding whose matrix is used directly) counts where the module around it is called.

    Args:
        run: one forward pass of ``model``.
    """
    layers = _opened(_largest_list(model))
    layer_of = {id(parameter): index for index, layer in enumerate(layers) for parameter in layer.parameters()}
    called = call_order(model, run)
    starts = [called.get(layer, 0) for layer in layers]
    inside: list[list[str]] = [[] for _ in layers]
    before: list[list[str]] = [[] for _ in [*layers, None]]  # the last holds what follows all layers
    for name, parameter in model.named_parameters():
        if id(parameter) in layer_of:
            inside[layer_of[id(parameter)]].append(name)
        else:
            time = _call_time(model, name, called)
            before[sum(start <= time for start in starts)].append(name)
    groups = [group for pair in zip(before, [*inside, []], strict=True) for group in pair]
    return [group for group in groups if group]


def _largest_list(model: nn.Module) -> list[nn.Module]:
    """Items of the list of layers with the most parameters; a Sequential counts if its items have parts."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    sequences = [list(module) for module in model.modules() if isinstance(module, nn.Sequential)]
    lists += [items for items in sequences if all(list(item.children()) for item in items)]
    return max(lists, key=_size, default=[])


def _opened(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers, or those inside them where nearly all that a layer has is a list of layers (a stage)."""
    opened: list[nn.Module] = []
    for layer in layers:
        inner = _largest_list(layer)
        opened.extend(_opened(inner) if 2 * _size(inner) > _size([layer]) else [layer])
    return opened


def _size(modules: Sequence[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def call_order(model: nn.Module, run: Callable[[], object]) -> dict[nn.Module, int]:
    """Module -> how many others were called before it was called first."""
    called: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: object) -> None:
        called.setdefault(module, len(called))

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return called


def _call_time(model: nn.Module, name: str, called: dict[nn.Module, int]) -> int:
    """Place in the call order of the innermost called module around a parameter."""
    path = name.rpartition(".")[0]
    while path and model.get_submodule(path) not in called:
        path = path.rpartition(".")[0]
    return called.get(model.get_submodule(path), 0)
