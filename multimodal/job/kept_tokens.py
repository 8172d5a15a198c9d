"""Tokens of the encoders of a job that never train, in the place of the values of their inputs."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from multimodal.builders.encoders import build_views
from multimodal.config import ConfigError, Job
from multimodal.config.frozen_rules import closed_form_inputs, mapped_inputs
from multimodal.config.pair_rules import evaluation_views
from multimodal.features import FeatureReader, TrainingViews, feature_reader
from multimodal.job.setup import TrainingSetup
from multimodal.records import InputReader
from multimodal.runtime.runtime import Runtime
from multimodal.transfer.plan import parameter_names


def keep_tokens(setup: TrainingSetup, trained: Collection[str], runtime: Runtime) -> TrainingSetup:
    """The setup with tokens of encoders that never train, computed by the main process where all share a disk.

    Args:
        trained: names of the parameters that train at some time.

    Raises:
        ConfigError: if a contrastive task compares views of such an input, which would be equal, or more views are
            asked for and none would differ.
    """
    first = runtime.cache is None or runtime.processes.is_main
    if first:
        setup = _with_readers(setup, trained, runtime)
    runtime.processes.wait()
    return setup if first else _with_readers(setup, trained, runtime)  # opens what the main process kept


def _with_readers(setup: TrainingSetup, trained: Collection[str], runtime: Runtime) -> TrainingSetup:
    job, model, datasets = setup.job, setup.model, setup.datasets
    names, readers = parameter_names(model), dict(datasets.readers)
    # these read tokens also of encoders that have nothing to learn
    computed = {*closed_form_inputs(job), *mapped_inputs(job)}
    views = build_views(job, setup.encoders)
    training = [records for _, records in setup.tables.training()]
    for name, encoder in setup.encoders.items():
        own = {names[id(parameter)] for parameter in encoder.parameters()}
        if (encoder.state_dict() or name in computed) and not own & set(trained):
            _reject_compared_views(job, name)
            readers[name] = feature_reader(
                datasets.readers[name],
                encoder,
                setup.tables.all(),
                pooled=model.uses_mean_token_only(name),
                runtime=runtime,
                training=TrainingViews(views[name], training),
            )
    _reject_equal_views(job, readers)
    return replace(setup, datasets=replace(datasets, readers=readers))


def _reject_compared_views(job: Job, name: str) -> None:
    if name in evaluation_views(job):
        raise ConfigError(
            f"inputs.{name}: a contrastive task compares views of it, but nothing trains its encoder, so that it is "
            "not augmented and they are equal; set weights: null or another transfer.strategy, or leave that task out"
        )


def _reject_equal_views(job: Job, readers: Mapping[str, InputReader]) -> None:
    kept = [name for name, reader in readers.items() if isinstance(reader, FeatureReader)]
    if job.transfer.views > 1 and not any(job.inputs[name].augment.enabled for name in kept):
        reason = f"no view of {' and '.join(kept)} differs" if kept else "no encoder is frozen"
        raise ConfigError(
            f"transfer.views is {job.transfer.views}, but {reason}, so that it has no effect; leave it out, or set "
            f"{' or '.join(f'inputs.{name}.augment.enabled: true' for name in kept) or 'inputs.NAME.frozen: true'}"
        )
