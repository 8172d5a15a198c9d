"""Weights that a training keeps to average them at its end: of two ends, of its best epochs, of all its steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from multimodal.config import ConfigError, Transfer
from multimodal.runtime.checkpoint import load_tensors, save_tensors
from multimodal.transfer.averaging import AveragedState, ExponentialAverage, greedy_soup, wise_ft

Score = Callable[[AveragedState], float]
"""How good weights are on the validation table; higher is better."""


@dataclass(frozen=True, eq=False)
class CandidateWeights:
    """The best average of its kind."""

    name: str
    average: AveragedState
    score: float
    tried: dict[str, float] = field(default_factory=dict)
    """Name -> score, of all that were compared."""


class WeightTracker:
    """Looks on while the trainer trains; what it keeps survives the process, in files or in the checkpoints."""

    def begin_phase(self, model: nn.Module, index: int) -> None:
        """Before the first step of a phase."""

    def after_step(self, model: nn.Module) -> None:
        """After each step."""

    def end_epoch(self, model: nn.Module, epoch: int, score: float) -> None:
        """After each epoch was scored."""

    def end_phase(self, model: nn.Module) -> None:
        """After the last step of a phase, before the trainer goes back to the best weights."""

    def state(self) -> dict[str, Any]:
        """State that a checkpoint keeps of it, JSON."""
        return {}

    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors that a checkpoint keeps of it."""
        return {}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resumes from what a checkpoint kept."""


class WeightAveraging(WeightTracker, ABC):
    """Keeps weights on the way, and offers averages of them."""

    @abstractmethod
    def best(self, score: Score) -> CandidateWeights:
        """Compares what it can make of the weights that it kept."""


class WiseFt(WeightAveraging):
    """Between the weights after the first phase, a probe, and those at the end of fine-tuning.

    Wortsman et al. (2022, https://arxiv.org/abs/2109.01903); of equal scores the share that is nearer to the probe.

    When not to use: with a probe that has learned little: below a share of 1 that is noise.

    Args:
        folder: takes the weights of both ends.
        shares: of the fine-tuned weights.
        writes: whether this process does.
    """

    def __init__(self, folder: Path, shares: Sequence[float], *, writes: bool = True) -> None:
        self.start, self.end = folder / "wise_ft-start.safetensors", folder / "wise_ft-end.safetensors"
        self.shares, self.writes = sorted(shares), writes

    def begin_phase(self, model: nn.Module, index: int) -> None:
        """Keeps the probe."""
        if index == 1 and self.writes:
            save_tensors(self.start, model.state_dict())

    def end_phase(self, model: nn.Module) -> None:
        """Keeps the end, which the last phase writes last."""
        if self.writes:
            save_tensors(self.end, model.state_dict())

    def best(self, score: Score) -> CandidateWeights:
        """The best share."""
        start, end = load_tensors(self.start)[0], load_tensors(self.end)[0]
        tried = {share: score(wise_ft(start, end, share)) for share in self.shares}
        best = max(self.shares, key=lambda share: tried[share])
        names = {f"share {share:g}": value for share, value in tried.items()}
        return CandidateWeights(f"share {best:g}", wise_ft(start, end, best), tried[best], names)


class Soup(WeightAveraging):
    """A greedy soup of the best epochs.

    Wortsman et al. (2022, https://arxiv.org/abs/2203.05482). Ours differs: their members are trainings of several
    settings, ours epochs of one, which are less different and gain less.

    When not to use: where disk is short: each member is a copy of the model.

    Args:
        folder: takes the members.
        size: most members.
        writes: whether this process does.
    """

    def __init__(self, folder: Path, size: int, *, writes: bool = True) -> None:
        self.folder, self.size, self.writes = folder, size, writes
        self.scores: dict[str, float] = {}

    def end_epoch(self, model: nn.Module, epoch: int, score: float) -> None:
        """Keeps the epoch, and leaves out the worst of more than ``size``; of equal ones the latest."""
        self.scores[str(epoch)] = score
        worst = min(reversed(self.scores), key=lambda name: self.scores[name]) if len(self.scores) > self.size else None
        if worst is not None:
            del self.scores[worst]
        if not self.writes:
            return
        if str(epoch) != worst:
            save_tensors(self._file(str(epoch)), model.state_dict())
        if worst is not None:
            self._file(worst).unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """The members' scores."""
        return {"scores": dict(self.scores)}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resumes with these members."""
        self.scores = dict(state["scores"])

    def best(self, score: Score) -> CandidateWeights:
        """The greedy soup."""
        states = {name: load_tensors(self._file(name))[0] for name in self.scores}
        soup = greedy_soup(states, self.scores, score)
        names = {f"epoch {name}": value for name, value in self.scores.items()}
        return CandidateWeights(f"soup of epochs {', '.join(soup.members)}", soup.average, soup.score, names)

    def _file(self, name: str) -> Path:
        return self.folder / f"soup-{int(name):06d}.safetensors"


class Ema(WeightAveraging):
    """An exponential moving average over the steps of the last phase.

    When not to use: with phases of fewer steps than some 1 / (1 - decay).

    Args:
        decay: share that stays at each step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: ExponentialAverage | None = None

    def begin_phase(self, model: nn.Module, index: int) -> None:
        """Begins anew: what trains is not what trained before."""
        self.average = ExponentialAverage(model, self.decay)

    def after_step(self, model: nn.Module) -> None:
        """Takes in the weights."""
        if self.average is not None:
            self.average.update(model)

    def state(self) -> dict[str, Any]:
        """Number of steps that it has seen."""
        return {} if self.average is None else {"step": self.average.step}

    def tensors(self) -> Mapping[str, Tensor]:
        """The average."""
        return {} if self.average is None else self.average.state

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resumes with this average."""
        self.average = ExponentialAverage(nn.Module(), self.decay)
        self.average.step, self.average.state = state["step"], dict(tensors)

    def best(self, score: Score) -> CandidateWeights:
        """The one that there is."""
        assert self.average is not None  # a training has a phase
        averaged = AveragedState(self.average.state, ())
        return CandidateWeights("moving average", averaged, score(averaged))


def build_averaging(transfer: Transfer, folder: Path, phases: int, *, writes: bool) -> WeightAveraging | None:
    """Average that ``transfer.average`` names; None where it is none.

    Args:
        folder: of the checkpoints.
        phases: how many the training has.
        writes: whether this process does.

    Raises:
        ConfigError: if WiSE-FT has no probe to start from.
    """
    if transfer.average == "wise_ft":
        if phases < 2:
            raise ConfigError(
                f"transfer.average is wise_ft, which needs a probe before fine-tuning, and {transfer.strategy} has one "
                "phase here; set transfer.strategy: probe_then_finetune and at least 2 epochs, or average: soup"
            )
        return WiseFt(folder, transfer.wise_ft_shares, writes=writes)
    if transfer.average == "soup":
        return Soup(folder, transfer.soup_size, writes=writes)
    return Ema(transfer.ema_decay) if transfer.average == "ema" else None
