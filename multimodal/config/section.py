"""Base of the sections of a job: unknown keys are errors that name the nearest one."""

from collections.abc import Mapping
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from encoders.plugins import Registry
from multimodal.config.problems import as_config_error
from multimodal.config.unread import unread
from multimodal.config.words import key_hint, same_value

RESOLVED = {"written by": "a training"}
"""Validation context of a run's own config, in which settings without effect are no error."""


class Section(BaseModel):
    """Settings that belong together; what is wrong with them is a ConfigError."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        coerce_numbers_to_str=True,  # a label or a column that is a number, as it was written
        allow_inf_nan=False,
    )

    def __init__(self, /, **values: Any) -> None:
        with as_config_error():
            super().__init__(**values)

    # as pydantic marks its own: else it would call ours for each section in a section, and lose the context
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validates as pydantic does, with our error."""
        with as_config_error():
            return super().model_validate(obj, **options)

    @model_validator(mode="before")
    @classmethod
    def _suggest(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {key!r}{key_hint(str(key), cls)}")
                if isinstance(data[key], bool) and _is_number(cls.model_fields[key].annotation):
                    raise ValueError(f"{key} is {str(data[key]).lower()}, and a number is needed; give one")
        return data

    @model_validator(mode="after")
    def _is_read(self, info: ValidationInfo) -> Self:
        if info.context is not RESOLVED:
            for problem in unread(self):
                raise ValueError(problem)
        return self


def registered(registry: Registry[Any], *more: str) -> WrapValidator:
    """Validator of a setting that names a part of a registry, or is a registered class; imports no plug-in.

    Args:
        more: names that are no parts.
    """

    def check(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
        try:
            is_plain = value is None or isinstance(value, str | int | float | list | Mapping)
            name: str = handler(value if is_plain else registry.name_of(value))
            if name not in more and info.context is not RESOLVED:  # a run may be used without its strategy
                registry.find(name)
        except LookupError as error:
            meant = same_value(str(value), registry.built_in)
            known = f"there is no {registry.kind} {value!r}; did you mean {meant}?"
            raise ValueError(str(error) if meant is None else known) from error
        return name

    return WrapValidator(check)


def _is_number(annotation: Any) -> bool:
    return annotation in (int, float) or any(map(_is_number, get_args(annotation)))
