"""The one place that turns a job description into objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from encoders import create_encoder, find_encoder
from encoders.base import Encoder
from encoders.preprocessing import UnreadableValueError
from fusion import FusionModule, LateFusion, create_fusion
from multimodal.augment import Augmentation
from multimodal.closed_form.neighbours_head import NeighboursHead
from multimodal.config import ConfigError, Input, Target, Task
from multimodal.contrastive import WIDTH, ContrastiveHead
from multimodal.decoding import Decoding, Softmax
from multimodal.heads import ClassificationHead, Head, MultilabelHead, RegressionHead
from multimodal.late import LateHead
from multimodal.model import MultimodalModel
from multimodal.new_layers import NewLayers
from multimodal.objective import Objective
from multimodal.pairs import evaluation_views, keeps_apart
from multimodal.records import InputReader, RecordError, Records, class_label, is_missing
from multimodal.targets import (
    ClassTarget,
    LabelSetTarget,
    NumberTarget,
    PairTarget,
    TargetReader,
    balanced_weights,
    class_counts,
    label_counts,
    parse_number,
    read_labels,
)
from multimodal.task_weighting import TASK_WEIGHT, LearnedTaskWeights
from multimodal.tower import TowerHead
from multimodal.transfer import (
    EncoderPolicy,
    Finetune,
    GradualUnfreezing,
    LayerwiseDecay,
    LinearProbe,
    Lora,
    NormAndBias,
    OptimizerSpec,
    Partial,
    ProbeThenFinetune,
    TrainNothing,
    TransferStrategy,
    TwoPhase,
)
from multimodal.transfer.two_phase import CLASSIC
from multimodal.unimodal import UnimodalHeads
from multimodal.views import Views
from multimodal.zero_shot import PullToNames, ZeroShotHead, zero_shot_heads

HEADS: dict[str, type[Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "knn": NeighboursHead,
}


OnError = Literal["raise", "skip"]


def build_encoders(inputs: Mapping[str, Input], base: Path) -> dict[str, Encoder]:
    """One encoder per input, shared where the input says so.

    Args:
        base: folder that relative weights and model folders start from.

    Raises:
        ConfigError: if an encoder's modality is not the one that was given.
    """
    own = {name: build_encoder(name, entry, base) for name, entry in inputs.items() if entry.encoder is not None}
    encoders = {name: own[name if entry.share is None else entry.share] for name, entry in inputs.items()}
    for name, entry in inputs.items():
        if entry.modality not in (None, encoders[name].modality):
            raise ConfigError(
                f"inputs.{name}: modality is {entry.modality!r}, but its encoder {encoders[name].name} reads "
                f"{encoders[name].modality!r}; leave modality out, or take another encoder"
            )
    return encoders


def build_encoder(name: str, entry: Input, base: Path) -> Encoder:
    """The encoder of an input of its own.

    Raises:
        ConfigError: if it cannot be built; begins with the input's place in the config.
    """
    assert entry.encoder is not None
    encoder_name, weights = entry.encoder, entry.weights
    family, _, folder = encoder_name.partition("/")
    if folder and ((base / folder).is_dir() or (family == "wordvectors" and (base / folder).is_file())):
        encoder_name = f"{family}/{(base / folder).resolve()}"
    if weights not in (None, "default", "pretrained") and (base / str(weights)).exists():
        weights = str((base / str(weights)).resolve())
    try:
        return create_encoder(encoder_name, weights=... if weights == "default" else weights, **entry.options)
    except (LookupError, ValueError, TypeError, OSError) as error:
        message = error.args[0] if isinstance(error, LookupError) else error  # a LookupError shows its text quoted
        raise ConfigError(f"inputs.{name}: {message}") from error


def build_readers(task: Task, encoders: Mapping[str, Encoder]) -> dict[str, InputReader]:
    """One reader per input: its column and its encoder's preprocessor."""
    return {name: InputReader(name, task.input_column(name), encoders[name].preprocessor) for name in task.inputs}


def build_augmentations(
    task: Task, encoders: Mapping[str, Encoder], *, training: bool = True
) -> dict[str, Augmentation]:
    """One augmentation per input that has it enabled; outside training, for views of one value alone."""
    augmented = set(task.inputs) if training else evaluation_views(task)
    return {
        name: Augmentation(encoders[name].modality, entry.augment, task.train.seed, name)
        for name, entry in task.inputs.items()
        if entry.augment.enabled and name in augmented
    }


def build_views(task: Task, encoders: Mapping[str, Encoder]) -> dict[str, Views]:
    """The views of each input's training values, for where its encoder is frozen."""
    count, seed = task.transfer.views, task.train.seed
    return {
        name: Views(
            count, Augmentation(encoders[name].modality, entry.augment, seed) if entry.augment.enabled else None
        )
        for name, entry in task.inputs.items()
    }


def label_cells(name: str, target: Target, column: str, records: Records, on_error: OnError = "raise") -> list[Any]:
    """The cells of a task's column; with ``on_error="skip"`` one that cannot be used counts as empty.

    Raises:
        RecordError: for the first cell that cannot be used, with its place.
    """
    cells = []
    for row, record in enumerate(records.rows):
        cell = record.get(column)
        try:
            read_labels(cell, target.type)
        except UnreadableValueError as error:
            if on_error == "raise":
                raise RecordError(row, name, f"{records.place(row, column)}: {error}") from error
            cell = None
        cells.append(cell)
    return cells


def head_arguments(
    name: str,
    target: Target,
    column: str,
    records: Records,
    on_error: OnError = "raise",
    beside: Sequence[Records] = (),
) -> dict[str, Any]:
    """JSON arguments of a task's head, as the training records have it: labels, class weights, mean and deviation.

    Args:
        beside: other tables that the task is learned from; its labels are those of all.

    Raises:
        ConfigError: if the records hold too little to learn the task from.
        RecordError: as ``label_cells``.
    """
    values = [cell for table in (records, *beside) for cell in label_cells(name, target, column, table, on_error)]
    if target.type == "regression":
        numbers = [number for number in map(parse_number, values) if number is not None]
        if len(numbers) < 2 or np.std(numbers) == 0:
            raise ConfigError(
                f"tasks.{name}: column {column!r} of {records.source} has {len(set(numbers))} distinct numbers; "
                "regression needs at least two"
            )
        return {"mean": float(np.mean(numbers)), "std": float(np.std(numbers)), "unit": target.unit}
    counts = class_counts(values) if target.type == "classification" else label_counts(values)
    labels = sorted(counts) if target.zero_shot.labels is None else target.zero_shot.labels
    fewest = 2 if target.type == "classification" else 1
    if len(labels) < fewest:
        raise ConfigError(
            f"tasks.{name}: column {column!r} of {records.source} has {len(labels)} distinct labels ({labels}); "
            f"{target.type} needs at least {fewest}"
        )
    known = sum(not is_missing(value) for value in values)
    if target.head == "knn":
        return {"labels": labels, "frequencies": [counts[label] / known for label in labels]}
    arguments: dict[str, Any] = {
        "labels": labels,
        "label_smoothing": target.label_smoothing,
        "frequencies": [counts[label] / max(1, known) for label in labels],
    }
    if target.imbalance == "balanced_sampler" or not all(counts[label] for label in labels):
        arguments["frequencies"] = [1 / len(labels)] * len(labels)
    if target.imbalance == "logit_adjustment":
        arguments["logit_adjustment"] = True
    if target.imbalance == "class_weights":
        arguments["class_weights"] = balanced_weights([counts[label] for label in labels])
    if target.type == "multilabel":
        arguments["threshold"] = target.threshold
    return arguments


def task_arguments(task: Task, name: str, records: Records, beside: Sequence[Records] = ()) -> dict[str, Any]:
    """As ``head_arguments``; a contrastive task's head has none, but needs records that have both of its inputs.

    Raises:
        ConfigError, RecordError: as ``head_arguments``.
    """
    column, target = task.task_column(name), task.tasks[name]
    if column is not None:
        return head_arguments(name, target, column, records, task.data.on_error, beside)
    count = _pair_target(task, name).count(records.rows)
    if count < 2:
        raise ConfigError(
            f"tasks.{name}: {count} records of {records.source} have both {' and '.join(task.task_inputs(name))}; a "
            "contrastive task needs at least two"
        )
    return {}


def build_head(kind: str, in_dim: int, arguments: Mapping[str, Any], *, tower: Sequence[int] = ()) -> Head:
    """A head from its type (or "knn") and what ``head_arguments`` gave, over a tower of these widths, if any."""
    if not tower:
        return HEADS[kind](in_dim, **arguments)
    return TowerHead(in_dim, tower, HEADS[kind](tower[-1], **arguments))


def build_decodings(task: Task, decodings: Mapping[str, Decoding]) -> dict[str, Decoding]:
    """The heads' decodings, with what the task description says of answers."""
    return {
        name: replace(decoding, min_probability=task.tasks[name].min_probability)
        if isinstance(decoding, Softmax)
        else decoding
        for name, decoding in decodings.items()
    }


def build_target(task: Task, name: str, arguments: Mapping[str, Any]) -> TargetReader:
    """What reads a task's answers, from what ``task_arguments`` gave."""
    column, kind = task.task_column(name), task.tasks[name].type
    if column is None:
        return _pair_target(task, name)
    if kind == "regression":
        return NumberTarget(column)
    labels = tuple(arguments["labels"])
    return ClassTarget(column, labels) if kind == "classification" else LabelSetTarget(column, labels)


def _pair_target(task: Task, name: str) -> PairTarget:
    first, second = map(task.input_column, task.task_inputs(name))
    return PairTarget((first, second))


def build_fusion(task: Task, encoders: Mapping[str, Encoder]) -> FusionModule:
    """The fusion over all inputs.

    Raises:
        ConfigError: if an argument does not suit it.
    """
    in_dims = {name: encoder.embed_dim for name, encoder in encoders.items()}
    try:
        return create_fusion(task.fusion.name, in_dims, task.fusion.dim, **task.fusion.options())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"fusion: {error}") from error


def build_model(task: Task, encoders: dict[str, Encoder], heads: Mapping[str, Mapping[str, Any]]) -> MultimodalModel:
    """Encoders, fusion and heads in one model.

    Args:
        heads: task -> what ``task_arguments`` gave.
    """
    fusion, settings = build_fusion(task, encoders), task.fusion
    built: dict[str, Head] = {}
    unimodal: dict[str, dict[str, Head]] = {}
    for name, arguments in heads.items():
        kind, alone = task.tasks[name].type, _unimodal_heads(task, name, encoders, arguments)
        if kind == "contrastive":
            built[name] = _contrastive_head(task, name, encoders, fusion)
        elif task.tasks[name].head == "zero_shot":
            built[name] = _zero_shot_head(task, name, fusion, arguments)
        elif isinstance(fusion, LateFusion):
            built[name] = LateHead(alone, fusion.in_dims)
        else:
            own = "knn" if task.tasks[name].head == "knn" else kind
            built[name] = build_head(own, fusion.out_dim, arguments, tower=task.tasks[name].tower)
            unimodal[name] = alone
    return MultimodalModel(
        encoders,
        fusion,
        built,
        reads={name: task.task_inputs(name) for name in heads},
        unimodal=UnimodalHeads(unimodal, weight=settings.unimodal_weight, dropout=settings.dropout or 0.0),
        layers=_new_layers(task, encoders),
        modality_dropout=settings.modality_dropout,
    )


def _new_layers(task: Task, encoders: Mapping[str, Encoder]) -> dict[str, NewLayers]:
    """New layers over each encoder that wants some, under the first input that uses it, as the model keeps encoders."""
    first: dict[int, str] = {}
    kept_as = {name: first.setdefault(id(encoder), name) for name, encoder in encoders.items()}
    return {
        kept_as[name]: NewLayers(encoders[name].embed_dim, entry.new_layers)
        for name, entry in task.inputs.items()
        if entry.new_layers
    }


def _contrastive_head(task: Task, name: str, encoders: Mapping[str, Encoder], fusion: FusionModule) -> ContrastiveHead:
    first, second = task.task_inputs(name)
    shared, mixed = encoders[first] is encoders[second], not keeps_apart(task.fusion)
    return ContrastiveHead(fusion.in_dims, (first, second), shared=shared, mixed=mixed)


def _zero_shot_head(task: Task, name: str, fusion: FusionModule, arguments: Mapping[str, Any]) -> ZeroShotHead:
    """Without its class embeddings, which are among the weights."""
    entry, is_projected = task.zero_shot_input(name), task.tasks[name].zero_shot.source is not None
    width = fusion.in_dims[entry]
    projection = nn.Linear(width, WIDTH) if is_projected else None
    head = ClassificationHead(WIDTH if is_projected else width, **arguments)
    return ZeroShotHead(fusion.in_dims, entry, head, projection=projection)


def _unimodal_heads(
    task: Task, name: str, encoders: Mapping[str, Encoder], arguments: Mapping[str, Any]
) -> dict[str, Head]:
    """Input -> head of a task that sees it alone; none where nothing has a use for them."""
    kind, late = task.tasks[name].type, task.fusion.name == "late"
    if kind == "contrastive" or (not late and task.fusion.unimodal_weight == 0):
        return {}
    tower = task.tasks[name].tower if late else ()  # auxiliary heads shall ask much of the encoder, not of a tower
    widths = {entry: encoders[entry].embed_dim for entry in task.task_inputs(name)}
    return {entry: build_head(kind, width, arguments, tower=tower) for entry, width in widths.items()}


def build_strategy(task: Task, model: MultimodalModel) -> TransferStrategy:
    """The strategy, with each encoder's own settings.

    Raises:
        ConfigError: if it is still to be chosen.
    """
    if task.transfer.strategy == "auto":
        raise ConfigError(
            "transfer.strategy is auto, which depends on the training records; take what choose_transfer gives for "
            "them, or name a strategy"
        )
    transfer, lora = task.transfer, task.transfer.lora
    policy, start = _encoder_policy(task, model), transfer.unfreeze_from
    strategies: dict[str, Callable[[], TransferStrategy]] = {
        "linear_probe": LinearProbe,
        "none": TrainNothing,
        "finetune": lambda: Finetune(policy),
        "partial": lambda: Partial(policy, -1 if start is None else start),
        "probe_then_finetune": lambda: ProbeThenFinetune(policy, transfer.probe_epochs),
        "two_phase": lambda: TwoPhase(policy, transfer.probe_epochs, optimizer=_second_phase(task)),
        "gradual_unfreezing": lambda: GradualUnfreezing(policy),
        "layerwise_lr_decay": lambda: LayerwiseDecay(policy, transfer.layer_decay),
        "norm_and_bias": lambda: NormAndBias(policy),
        "lora": lambda: Lora(policy, lora.rank, lora.alpha, lora.dropout, lora.targets),
    }
    return strategies[transfer.strategy]()


def _encoder_policy(task: Task, model: MultimodalModel) -> EncoderPolicy:
    """What fine-tuning does to each encoder that the model keeps."""
    owners = encoder_owners(task)
    kept = {name: owners[name] for name in model.encoders}  # under the first input that uses them
    return EncoderPolicy(
        scales={name: _learning_rate_scale(task, entry, model.encoder(name)) for name, entry in kept.items()},
        frozen=frozenset(name for name, entry in kept.items() if entry.frozen),
        fresh=frozenset(name for name in kept if has_random_weights(model.encoder(name))),
        unfreeze_from=task.transfer.unfreeze_from or 0,
    )


def encoder_owners(task: Task) -> dict[str, Input]:
    """Each input -> the one whose settings its encoder has: its own, or those of the input that it shares with."""
    return {name: entry if entry.share is None else task.inputs[entry.share] for name, entry in task.inputs.items()}


def encoders_to_finetune(task: Task, encoders: Mapping[str, Encoder]) -> list[str]:
    """Those of these inputs whose encoder comes with weights and is not to stay frozen."""
    owners = encoder_owners(task)
    return [name for name, encoder in encoders.items() if not owners[name].frozen and not has_random_weights(encoder)]


def _second_phase(task: Task) -> OptimizerSpec:
    given = task.transfer.two_phase
    return replace(CLASSIC, learning_rate=given.learning_rate, momentum=given.momentum)


def _learning_rate_scale(task: Task, entry: Input, encoder: Encoder) -> float:
    if entry.learning_rate_scale is not None:
        return entry.learning_rate_scale
    if has_random_weights(encoder):
        return 1.0
    own = task.transfer.encoder_scale
    if own is None and task.transfer.strategy == "two_phase":
        return 1.0  # its learning rate is small for the sake of the encoders
    return find_encoder(encoder.name).learning_rate_scale if own is None else own


def has_random_weights(encoder: Encoder) -> bool:
    """Whether the encoder knows nothing yet."""
    return encoder.provenance.weights == "random"


def build_objectives(task: Task, model: MultimodalModel) -> dict[str, Objective]:
    """Name -> loss beside those of the tasks, while training."""
    objectives: dict[str, Objective] = {}
    if task.train.task_weighting == "uncertainty":
        objectives[TASK_WEIGHT] = LearnedTaskWeights({name: target.weight for name, target in task.tasks.items()})
    for name, head in zero_shot_heads(model).items():
        if strength := task.tasks[name].zero_shot.pull:
            objectives[f"pull_{name}"] = PullToNames(name, head, strength)
    return objectives


def build_optimizer_spec(task: Task) -> OptimizerSpec:
    """How phases step that do not say it themselves."""
    train = task.train
    return OptimizerSpec(train.optimizer, train.learning_rate, train.weight_decay, train.momentum, train.warmup)


def sampling_weights(task: Task, records: Records) -> np.ndarray | None:
    """How often each row is drawn, for the task that wants a balanced sampler; rows without its label as the mean."""
    for name, target in task.tasks.items():
        if target.imbalance == "balanced_sampler":
            values = label_cells(name, target, task.label_columns()[name], records, task.data.on_error)
            counts = class_counts(values)
            weights = [np.nan if is_missing(value) else 1.0 / counts[class_label(value)] for value in values]
            return np.nan_to_num(np.array(weights), nan=float(np.nanmean(weights)))
    return None
