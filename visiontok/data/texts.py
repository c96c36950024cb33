"""The text that goes with an image, for tokenizers that read one: the source's caption, or a sentence with the name of its class."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visiontok.base.config import Config
from visiontok.base.errors import DataError
from visiontok.data.batch import DataBatch
from visiontok.data.skips import UNUSABLE
from visiontok.data.source import Sample, Source


class TextsConfig(Config):
    """Where texts come from.

    Attributes:
        source: "captions" of the samples, or their "class_names".
        prompt: the sentence around a class name.
    """

    source: Literal["captions", "class_names"]
    prompt: str = Field(default="A photo of a {class_name}.", pattern=r"\{class_name\}")


def texts_of(source: Source, *, name: str) -> TextsConfig:
    """Which text goes with an image by default: the captions that the source has, else a sentence with the name of its class.

    Args:
        source: of the images.
        name: of the tokenizer, for the error.

    Raises:
        DataError: if the source has neither captions nor class names.
    """
    if _first_caption(source) is not None:
        return TextsConfig(source="captions")
    if source.class_names:
        return TextsConfig(source="class_names")
    raise DataError(
        f"{name} reads a text with every image, but these images have neither captions nor classes with names: complete the source, or take "
        "another one, such as shapes, which has captions"
    )


class Texts:
    """The texts of samples.

    Args:
        config: where they come from.
        class_names: of the source; None where they are not known.

    Raises:
        DataError: if class names are requested and the source has none.
    """

    def __init__(self, config: TextsConfig, class_names: tuple[str, ...] | None) -> None:
        if config.source == "class_names" and not class_names:
            raise DataError("the source names no classes to make texts of; use captions, or a source whose classes have names")
        self._config, self._class_names = config, class_names or ()

    def of(self, batch: DataBatch) -> list[str]:
        """One text per sample.

        Raises:
            DataError: if a sample has no caption, or no class with a name.
        """
        if self._config.source == "captions":
            if batch.captions is None:
                raise DataError(f"not every sample of the batch with {batch.keys[0]!r} has a caption; use class names or complete the source")
            return list(batch.captions)
        if batch.labels is None or int(batch.labels.max()) >= len(self._class_names):
            raise DataError(f"not every sample of the batch with {batch.keys[0]!r} has one of the {len(self._class_names)} named classes")
        return [self._sentence(label) for label in batch.labels.tolist()]

    def of_sample(self, sample: Sample) -> str:
        """The text of one sample.

        Raises:
            DataError: if it has no caption, or no class with a name.
        """
        return self.text(sample.key, caption=sample.caption, label=sample.label)

    def text(self, key: str, *, caption: str | None, label: int | None) -> str:
        """The text of a sample with this key, caption and label.

        Raises:
            DataError: if it has no caption, or no class with a name.
        """
        if self._config.source == "captions":
            if caption is None:
                raise DataError(f"{key} has no caption; use class names or complete the source")
            return caption
        if label is None or label >= len(self._class_names):
            raise DataError(f"{key} has none of the {len(self._class_names)} named classes")
        return self._sentence(label)

    def _sentence(self, label: int) -> str:
        return self._config.prompt.replace("{class_name}", self._class_names[label])


def _first_caption(source: Source) -> str | None:
    """Of the first sample that can be read."""
    for index in range(len(source)):
        try:
            return source.read(index).caption
        except UNUSABLE:
            continue
    return None
