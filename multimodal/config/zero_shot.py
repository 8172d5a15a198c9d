"""A classification head that is made of the names of its classes."""

import difflib
from collections.abc import Collection

from pydantic import Field, field_validator, model_validator

from multimodal.config.section import Section


class ZeroShot(Section):
    """For `head: zero_shot`: an input whose encoder is aligned with texts is compared with what the classes are called.

    The encoder is the image half of a CLIP or SigLIP (options: {tower: image, pooling: projected}), whose text half
    reads the names; or that of `source`, an earlier run with a contrastive task between it and a text.
    """

    input: str | None = None
    """Input that is compared; left out: the task's only one that is no text."""
    prompts: list[str] = Field(default=["a photo of {}"], min_length=1)
    """Texts with {} for the class; their embeddings are averaged."""
    labels: list[str] | None = Field(default=None, min_length=2)
    """Names of the classes, for tables without labels; left out: those of the training table."""
    words: dict[str, str] = Field(default_factory=dict)
    """Class: what the prompts call it; left out: its name, with spaces for - and _."""
    source: str | None = None
    """Folder of an earlier run with a contrastive task, whose text encoder and projections are taken."""
    pull: float = Field(default=0.0, ge=0)
    """Of half the squared distance of the head's weights from where they started, in the loss; 0 lets them go."""

    @field_validator("prompts")
    @classmethod
    def _hold_the_class(cls, value: list[str]) -> list[str]:
        for prompt in value:
            if prompt.count("{}") != 1:
                raise ValueError(
                    f"the prompt {prompt!r} has no single {{}} for the class; write one like 'a photo of {{}}'"
                )
        return value

    @field_validator("labels")
    @classmethod
    def _each_once(cls, value: list[str] | None) -> list[str] | None:
        twice = sorted({label for label in value or () if (value or []).count(label) > 1})
        if twice:
            raise ValueError(f"the labels {twice} are given twice; give each once")
        return value

    @model_validator(mode="after")
    def _words_are_of_classes(self) -> "ZeroShot":
        if self.labels is not None:
            self.check_words(self.labels)
        return self

    def check_words(self, labels: Collection[str]) -> None:
        """Refuses words for what is no class.

        Raises:
            ValueError: names them, and the nearest class.
        """
        for label in self.words:
            if label not in labels:
                near = difflib.get_close_matches(label, labels, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(labels)}"
                raise ValueError(f"words: there is no class {label!r}; {hint}")

    def texts(self, label: str) -> list[str]:
        """What the prompts say of a class."""
        called = self.words.get(label, label.replace("-", " ").replace("_", " "))
        return [prompt.replace("{}", called) for prompt in self.prompts]
