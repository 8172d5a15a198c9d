"""The one place that turns a job description into objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders import create_encoder, find_encoder
from encoders.base import Encoder
from encoders.preprocessing import UnreadableValueError
from fusion import ConcatFusion, FusionModule, LateFusion, create_fusion
from multimodal.arcface import ArcFaceHead
from multimodal.augment import Augmentation
from multimodal.config import ConfigError, Input, Target, Task
from multimodal.contrastive import ContrastiveHead
from multimodal.decoding import Decoding, Softmax
from multimodal.embedding import EmbeddingHead
from multimodal.heads import ClassificationHead, Head, MultilabelHead, RegressionHead
from multimodal.late import LateHead
from multimodal.model import MultimodalModel
from multimodal.pairs import evaluation_views
from multimodal.records import InputReader, RecordError, Records, class_label, is_missing
from multimodal.supcon import SupConHead
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
from multimodal.transfer import (
    EncoderPolicy,
    Finetune,
    GradualUnfreezing,
    LayerwiseDecay,
    LinearProbe,
    Lora,
    NormAndBias,
    OptimizerSpec,
    ProbeThenFinetune,
    TransferStrategy,
)
from multimodal.unimodal import UnimodalHeads


def embedding_head(in_dim: int, *, labels: Sequence[str], loss: str, **arguments: Any) -> EmbeddingHead:
    """The head of an embedding task, by its loss."""
    if loss == "arcface":
        return ArcFaceHead(in_dim, num_labels=len(labels), **arguments)
    return SupConHead(in_dim, **arguments)


HEADS: dict[str, Callable[..., Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "embedding": embedding_head,
}


OnError = Literal["raise", "skip"]


def build_encoders(inputs: Mapping[str, Input], base: Path) -> dict[str, Encoder]:
    """One encoder per input, shared where the input says so.

    Args:
        base: folder that relative weights and model folders start from.

    Raises:
        ConfigError: if an encoder's modality is not the one that was given.
    """
    own = {name: _build_encoder(name, entry, base) for name, entry in inputs.items() if entry.encoder is not None}
    encoders = {name: own[name if entry.share is None else entry.share] for name, entry in inputs.items()}
    for name, entry in inputs.items():
        if entry.modality not in (None, encoders[name].modality):
            raise ConfigError(
                f"inputs.{name}: modality is {entry.modality!r}, but its encoder {encoders[name].name} reads "
                f"{encoders[name].modality!r}; leave modality out, or take another encoder"
            )
    return encoders


def _build_encoder(name: str, entry: Input, base: Path) -> Encoder:
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
    name: str, target: Target, column: str, records: Records, on_error: OnError = "raise"
) -> dict[str, Any]:
    """JSON arguments of a task's head, as the training records have it: labels, class weights, mean and deviation.

    Raises:
        ConfigError: if the records hold too little to learn the task from.
        RecordError: as ``label_cells``.
    """
    values = label_cells(name, target, column, records, on_error)
    if target.type == "regression":
        numbers = [number for number in map(parse_number, values) if number is not None]
        if len(numbers) < 2 or np.std(numbers) == 0:
            raise ConfigError(
                f"tasks.{name}: column {column!r} of {records.source} has {len(set(numbers))} distinct numbers; "
                "regression needs at least two"
            )
        return {"mean": float(np.mean(numbers)), "std": float(np.std(numbers)), "unit": target.unit}
    counts = label_counts(values) if target.type == "multilabel" else class_counts(values)
    labels = sorted(counts)
    fewest = 1 if target.type == "multilabel" else 2
    if len(labels) < fewest:
        raise ConfigError(
            f"tasks.{name}: column {column!r} of {records.source} has {len(labels)} distinct labels ({labels}); "
            f"{target.type} needs at least {fewest}"
        )
    if target.type == "embedding":
        return {"labels": labels, **_embedding_arguments(target)}
    known = sum(not is_missing(value) for value in values)
    arguments: dict[str, Any] = {
        "labels": labels,
        "label_smoothing": target.label_smoothing,
        "frequencies": [counts[label] / known for label in labels],
    }
    if target.imbalance == "balanced_sampler":
        arguments["frequencies"] = [1 / len(labels)] * len(labels)
    if target.imbalance == "class_weights":
        arguments["class_weights"] = balanced_weights([counts[label] for label in labels])
    if target.type == "multilabel":
        arguments["threshold"] = target.threshold
    return arguments


def _embedding_arguments(target: Target) -> dict[str, Any]:
    arguments: dict[str, Any] = {"loss": target.loss, "width": target.width}
    if target.loss == "arcface":
        arguments["margin"] = target.margin
    return arguments if target.temperature is None else arguments | {"temperature": target.temperature}


def task_arguments(task: Task, name: str, records: Records) -> dict[str, Any]:
    """As ``head_arguments``; a contrastive task's head has none, but needs records that have both of its inputs.

    Raises:
        ConfigError, RecordError: as ``head_arguments``.
    """
    column, target = task.task_column(name), task.tasks[name]
    if column is not None:
        return head_arguments(name, target, column, records, task.data.on_error)
    count = _pair_target(task, name).count(records.rows)
    if count < 2:
        raise ConfigError(
            f"tasks.{name}: {count} records of {records.source} have both {' and '.join(task.task_inputs(name))}; a "
            "contrastive task needs at least two"
        )
    return {}


def build_head(kind: str, in_dim: int, arguments: Mapping[str, Any]) -> Head:
    """A head from its type and what ``head_arguments`` gave."""
    return HEADS[kind](in_dim, **arguments)


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
    if kind == "multilabel":
        return LabelSetTarget(column, labels)
    return ClassTarget(column, labels, open_set=kind == "embedding")


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
        elif isinstance(fusion, LateFusion):
            built[name] = LateHead(alone, fusion.in_dims)
        else:
            built[name] = build_head(kind, fusion.out_dim, arguments)
            unimodal[name] = alone
    return MultimodalModel(
        encoders,
        fusion,
        built,
        reads={name: task.task_inputs(name) for name in heads},
        unimodal=UnimodalHeads(unimodal, weight=settings.unimodal_weight, dropout=settings.dropout or 0.0),
        modality_dropout=settings.modality_dropout,
    )


def _contrastive_head(task: Task, name: str, encoders: Mapping[str, Encoder], fusion: FusionModule) -> ContrastiveHead:
    assert isinstance(fusion, ConcatFusion)  # checked with the config: its parts lie side by side
    first, second = task.task_inputs(name)
    return ContrastiveHead(fusion.in_dims, (first, second), shared=encoders[first] is encoders[second])


def _unimodal_heads(
    task: Task, name: str, encoders: Mapping[str, Encoder], arguments: Mapping[str, Any]
) -> dict[str, Head]:
    """Input -> head of a task that sees it alone; none where nothing has a use for them."""
    kind = task.tasks[name].type
    if kind == "contrastive" or (task.fusion.name != "late" and task.fusion.unimodal_weight == 0):
        return {}
    return {entry: build_head(kind, encoders[entry].embed_dim, arguments) for entry in task.task_inputs(name)}


def build_strategy(task: Task, model: MultimodalModel) -> TransferStrategy:
    """The strategy, with each encoder's own settings."""
    if task.transfer.strategy == "linear_probe":
        return LinearProbe()
    kept = {name: task.inputs[name] for name in model.encoders}  # under the first input that uses them
    owners = {name: entry if entry.share is None else task.inputs[entry.share] for name, entry in kept.items()}
    policy = EncoderPolicy(
        scales={name: _learning_rate_scale(task, entry, model.encoder(name)) for name, entry in owners.items()},
        frozen=frozenset(name for name, entry in owners.items() if entry.frozen),
        fresh=frozenset(name for name in owners if has_random_weights(model.encoder(name))),
        unfreeze_from=task.transfer.unfreeze_from,
    )
    transfer, lora = task.transfer, task.transfer.lora
    strategies: dict[str, Callable[[], TransferStrategy]] = {
        "finetune": lambda: Finetune(policy),
        "probe_then_finetune": lambda: ProbeThenFinetune(policy, transfer.probe_epochs),
        "gradual_unfreezing": lambda: GradualUnfreezing(policy),
        "layerwise_lr_decay": lambda: LayerwiseDecay(policy, transfer.layer_decay),
        "norm_and_bias": lambda: NormAndBias(policy),
        "lora": lambda: Lora(policy, lora.rank, lora.alpha, lora.dropout, lora.targets),
    }
    return strategies[transfer.strategy]()


def _learning_rate_scale(task: Task, entry: Input, encoder: Encoder) -> float:
    if entry.learning_rate_scale is not None:
        return entry.learning_rate_scale
    if has_random_weights(encoder):
        return 1.0
    own = task.transfer.encoder_scale
    return find_encoder(encoder.name).learning_rate_scale if own is None else own


def has_random_weights(encoder: Encoder) -> bool:
    """Whether the encoder knows nothing yet."""
    return encoder.provenance.weights == "random"


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
