"""Words for settings from other libraries, and the setting that each of them means here."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from encoders.preprocessing.base import nearest_hint

KEYS: dict[str, tuple[str, ...]] = {
    "data.train": ("train_data", "train_file", "train_dataset", "train_df", "training_data", "dataset"),
    "data.valid": ("val", "dev", "eval", "validation", "validation_data", "validation_file", "eval_dataset"),
    "data.test": ("test_data", "test_file", "test_dataset"),
    "data.group": ("groups", "group_column"),
    "data.workers": ("num_workers", "n_jobs", "dataloader_num_workers"),
    "inputs": ("features", "modalities", "columns", "encoders"),
    "inputs.NAME.column": ("path", "file", "field"),
    "inputs.NAME.encoder": ("model", "model_name", "backbone", "architecture", "arch", "base_model", "extractor"),
    "inputs.NAME.weights": ("pretrained", "checkpoint", "init", "initialization"),
    "inputs.NAME.frozen": ("freeze", "trainable", "requires_grad", "freeze_encoder", "freeze_backbone"),
    "inputs.NAME.augment": ("augmentation", "augmentations", "data_augmentation", "transforms"),
    "inputs.NAME.options": ("kwargs", "image_size", "img_size", "input_size", "max_length", "sample_rate"),
    "fusion.name": ("fusion_type", "fusion_method"),
    "fusion.dropout": ("dropout_rate", "drop_rate"),
    "tasks": ("target", "targets", "labels", "outputs", "heads"),
    "tasks.NAME.column": ("label", "label_column", "target_column", "y"),
    "tasks.NAME.type": ("task_type", "problem_type", "objective", "criterion", "loss", "loss_fn", "loss_function"),
    "tasks.NAME.weight": ("loss_weight", "loss_weights"),
    "tasks.NAME.imbalance": ("class_weight", "class_weights", "sample_weight", "sampler", "oversampling"),
    "tasks.NAME.tower": ("hidden_dims", "hidden_sizes", "hidden_layers", "hidden_layer_sizes", "mlp"),
    "tasks.NAME.head": ("classifier",),
    "transfer.strategy": ("finetune", "fine_tuning", "finetuning", "tuning", "training_strategy"),
    "transfer.lora": ("peft", "peft_config", "adapter"),
    "transfer.average": ("ema", "swa"),
    "train": ("training", "trainer", "training_args", "hyperparameters"),
    "train.epochs": ("epoch", "num_epochs", "n_epochs", "max_epochs", "num_train_epochs", "max_iter", "n_iter"),
    "train.batch_size": ("batch", "bs", "train_batch_size", "per_device_train_batch_size"),
    "train.accumulate": ("gradient_accumulation_steps", "accumulate_grad_batches"),
    "train.learning_rate": ("lr", "max_lr", "base_lr", "learning_rate_init", "eta"),
    "train.optimizer": ("optim", "solver"),
    "train.weight_decay": ("wd", "decay", "l2"),
    "train.warmup": ("scheduler", "lr_scheduler", "lr_scheduler_type", "warmup_ratio", "warmup_steps"),
    "train.clip_norm": ("clip", "clipnorm", "grad_clip", "max_grad_norm", "gradient_clip_val"),
    "train.precision": ("fp16", "bf16", "amp", "mixed_precision", "dtype"),
    "train.seed": ("random_state", "random_seed"),
    "train.patience": ("early_stopping", "early_stopping_patience", "early_stop", "n_iter_no_change"),
    "train.metric": ("metrics", "monitor", "scoring", "metric_for_best_model"),
    "train.trackers": ("callbacks", "loggers", "report_to"),
    "train.checkpoint_steps": ("save_steps",),
    "train.device": ("gpu", "gpus", "cuda", "no_cuda", "accelerator"),
}
"""Place of a setting in a job -> its names in Keras, scikit-learn, transformers, Lightning; the place's own last word
need not be listed."""

VALUES: dict[str, tuple[str, ...]] = {
    "cuda": ("gpu", "cuda:0", "nvidia"),
    "fp32": ("float32", "32", "full", "single"),
    "fp16": ("float16", "16", "half"),
    "bf16": ("bfloat16",),
    "adamw": ("adam",),
    "class_weights": ("balanced", "weighted", "true"),
    "balanced_sampler": ("oversampling", "oversample", "weighted_sampler"),
    "classification": ("binary", "multiclass", "categorical", "cross_entropy"),
    "multilabel": ("multi_label_classification", "binary_cross_entropy"),
    "regression": ("mse", "mae", "continuous", "numeric"),
    "linear_probe": ("freeze", "frozen", "feature_extraction", "head_only"),
    "finetune": ("full", "fine_tuning", "full_finetuning"),
    "concat": ("concatenation", "concatenate", "early"),
    "attention": ("transformer", "cross_attention"),
    "softmax": ("logistic", "logistic_regression"),
    "class_mean": ("centroid", "nearest_centroid"),
}
"""Value of a setting -> other words for it."""


def key_hint(key: str, section: type[BaseModel]) -> str:
    """End of an error message about an unknown key of a section: the setting that was probably meant.

    Args:
        section: class of the section; a setting of the sections in it may be meant, too.
    """
    places = [place for place, words in KEYS.items() if _plain(key) in words]
    known = [last for place in places if (last := place.rpartition(".")[2]) in section.model_fields]
    if known:
        return f"; did you mean {known[0]!r}?"
    places += [place for place in _places(section) if place.rpartition(".")[2] == _plain(key)]
    places += [place for place in KEYS if place.rpartition(".")[2] == _plain(key)]
    if places:
        return f"; did you mean {places[0]}?"
    return nearest_hint(key, section.model_fields)


def same_value(value: str, known: Collection[str]) -> str | None:
    """The known value that another word stands for.

    >>> same_value("GPU", ["auto", "cpu", "cuda"])
    'cuda'
    """
    return next((other for other in known if _plain(value) in VALUES.get(other, ())), None)


def value_hint(value: str, known: Collection[str]) -> str:
    """End of an error message about a value: the known one that was probably meant, if any.

    >>> value_hint("GPU", ["auto", "cpu", "cuda"]), value_hint("adm", ["adamw", "sgd"])
    ("; did you mean 'cuda'?", "; did you mean 'adamw'?")
    """
    same = same_value(value, known)
    near = [same] if same else difflib.get_close_matches(value, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def _places(section: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every setting of the sections in a section."""
    for key, field in section.model_fields.items():
        for part in _parts(field.annotation):
            named = ".NAME" if _is_mapping(field.annotation) else ""
            yield from (f"{above}{key}{named}.{name}" for name in part.model_fields)
            yield from _places(part, f"{above}{key}{named}.")


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _is_mapping(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (dict, Mapping)
