"""What every sampler's configuration is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from visiontok.base.config import Config


class SamplingConfig(Config, ABC):
    """The parameters of a sampler, as papers publish them; part of a generator's configuration."""

    @abstractmethod
    def sampler(self) -> Any:
        """The strategy objects, which the family's `generate` takes."""
