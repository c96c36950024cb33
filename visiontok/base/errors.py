"""The exceptions a user can meet. Each message names the value, what was expected and what to do next."""


class VisiontokError(Exception):
    """Base of every error that visiontok raises on purpose; the command line prints it without a traceback."""


class ConfigError(VisiontokError, ValueError):
    """A configuration holds an unknown key, a value out of range, or does not fit the model."""


class TokenError(VisiontokError, ValueError):
    """Token indices, lengths or bytes do not fit their layout."""


class LatentError(VisiontokError, ValueError):
    """Latents, or their mask, have another shape or type than a quantizer reads."""


class IdentityError(VisiontokError, ValueError):
    """Tokens of one tokenizer were given to another, or to a generator that was trained on another's."""


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
    """An optional package that a model needs is not installed; the message names the extra that brings it."""


class TrainingError(VisiontokError):
    """Training cannot start, resume or go on."""


class DataError(VisiontokError):
    """A data set cannot be opened or holds no usable sample."""


class EvaluationError(VisiontokError):
    """A metric cannot be computed, or would not be what its name says."""
