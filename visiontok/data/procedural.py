"""What the built-in sets have in common whose samples are drawn: every sample follows from (name, seed, split, index) alone."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

import numpy as np

from visiontok.data.source import Source, fingerprint


class ProceduralConfig(Protocol):
    """The fields of their configurations that say which samples there are."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> Literal["train", "test"]: ...

    @property
    def num_samples(self) -> int: ...

    @property
    def seed(self) -> int: ...

    def model_dump_json(self, *, exclude_none: bool) -> str: ...


class ProceduralSource(Source):
    """A set of drawn samples.

    Attributes:
        config: of the set.
        version: of its formulas and their draws; part of the identity, since results on other samples cannot be compared.
    """

    config: ProceduralConfig
    version: ClassVar[int] = 1

    @property
    def identity(self) -> str:
        return fingerprint(self.config.name, len(self), [str(self.version), self.config.model_dump_json(exclude_none=True)])

    def __len__(self) -> int:
        return self.config.num_samples

    def key(self, index: int) -> str:
        return f"{self.config.name}-{self.config.split}-{index:06d}"

    def rng(self, index: int) -> np.random.Generator:
        """The draws of a sample."""
        return np.random.default_rng([self.version, self.config.seed, ("train", "test").index(self.config.split), index])
