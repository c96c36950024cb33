"""Long signals in windows along time, whose length a caller may choose."""

from __future__ import annotations

from typing import ClassVar


class Windowed:
    """Mixed into tokenizers that take long signals in windows. A family defines `usual_window` and `check_window`.

    Attributes:
        window_unit: of the length of windows: "s" for sounds, "frames" for clips.
    """

    window_unit: ClassVar[str]
    _window: float | None = None

    @property
    def usual_window(self) -> float:
        """The length of windows unless one is chosen."""
        raise NotImplementedError

    def check_window(self, length: float) -> None:
        """Whether windows may have that length.

        Raises:
            ConfigError: if not.
        """
        raise NotImplementedError

    @property
    def windows_matter(self) -> bool:
        """Whether the tokens of long signals depend on `window`."""
        return True

    @property
    def window(self) -> float:
        """Length of the windows in which `encode` takes long signals, in `window_unit`. May be set.

        Tokens depend on the signal and on this number only. Infinity takes every signal whole.

        Raises:
            ConfigError: if it is set to a length that windows cannot have.
        """
        return self.usual_window if self._window is None else self._window

    @window.setter
    def window(self, length: float) -> None:
        self.check_window(length)
        self._window = length
