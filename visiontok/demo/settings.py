"""What the demo trains and how much it samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from visiontok.base.config import Config, Positive


class DemoConfig(Config):
    """Recipes and sizes.

    Attributes:
        seed: of both trainings and of the generated digits.
        tokenizer, generator: recipes, by name or path.
        tokenizer_overrides, generator_overrides: dotted keys and values that override them.
        per_class: digits generated per class.
        photo_model: bundled checkpoint for the photographs.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    tokenizer: str = "demo/titok-digits"
    generator: str = "demo/gpt-digits"
    tokenizer_overrides: tuple[str, ...] = ()
    generator_overrides: tuple[str, ...] = ()
    per_class: Positive = 35
    photo_model: str = "vqgan-photos-f4"
