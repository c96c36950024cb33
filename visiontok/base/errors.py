"""The exceptions a user can meet. Each message names the value, what was expected and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from visiontok.base.printable import printable_lines

_LONGEST = 20_000


class VisiontokError(Exception):
    """Base of every error that visiontok raises deliberately; the command line prints it without a traceback.

    Messages quote files: what is not UTF-8 in them, or would control a terminal, becomes escapes, and what is too long to read is cut.
    """

    def __init__(self, message: str = "") -> None:
        text = message if len(message) <= _LONGEST else f"{message[: _LONGEST - 100]} ... ({len(message)} characters)"
        super().__init__(printable_lines(text))


class ConfigError(VisiontokError, ValueError):
    """A configuration holds an unknown key, a value out of range, or does not fit the model."""


class TokenError(VisiontokError, ValueError):
    """Token indices, lengths or bytes do not fit their layout."""


class LatentError(VisiontokError, ValueError):
    """Latents, or their mask, have another shape or type than a quantizer reads."""


class IdentityError(VisiontokError, ValueError):
    """Tokens of one tokenizer were given to another one, or to a generator that was trained on tokens of another one."""


class SignalError(VisiontokError, ValueError):
    """An image, video or sound cannot be read or has a shape or range that the model cannot take."""


class TextError(VisiontokError, ValueError):
    """A text that a model reads is missing, or has another shape than the model takes."""


class ConditionError(VisiontokError, ValueError):
    """A generator's condition is missing, of another kind, or out of range."""


class NonFiniteError(VisiontokError, ArithmeticError):
    """NaN or infinity where numbers become tokens, signals or weights; the message names the stage."""


class UnknownNameError(VisiontokError, LookupError):
    """A name that no registry table holds; the message lists close matches."""


class CheckpointError(VisiontokError):
    """Weights that cannot be used: truncated, corrupt, with missing, unmapped or wrongly shaped tensors."""


class HubError(VisiontokError):
    """The hub could not serve a file: offline, gated, missing repository, revision or file."""


class DependencyError(VisiontokError, ImportError):
    """An optional package that a model needs is not installed; the message names the extra that installs it."""


class TrainingError(VisiontokError):
    """Training cannot start, resume or go on."""


class FolderInUseError(VisiontokError):
    """Another process writes the same folder or file; the message names it."""


class DataError(VisiontokError):
    """A data set cannot be opened or holds no usable sample."""


class EvaluationError(VisiontokError):
    """A metric cannot be computed, or would not be what its name says."""


@contextmanager
def damage_as(kind: type[VisiontokError], problem: str) -> Iterator[None]:
    """The boundary of a reader: whatever a parser raises on damaged bytes becomes `kind`, with the `problem` before the parser's own words.

    Errors of visiontok pass as they are.
    """
    try:
        yield
    except VisiontokError:
        raise
    except Exception as error:
        raise kind(f"{problem}: {str(error)[:500] or type(error).__name__}") from error
