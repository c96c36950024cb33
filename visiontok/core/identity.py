"""Which tokenizer made tokens: what token sets, token files and generators carry, so that no other tokenizer decodes them unnoticed."""

from __future__ import annotations

from typing import Any

from visiontok.base.config import Config
from visiontok.base.errors import IdentityError
from visiontok.core.model import Model, weights_sha256


class TokenizerIdentity(Config):
    """Which weights made the tokens.

    Attributes:
        name: as `from_pretrained` was given it.
        revision: of the hub repository; None where there is none.
        weights_sha256: of every parameter and buffer, by name.
    """

    name: str
    revision: str | None = None
    weights_sha256: str

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.name}{revision} (weights {self.weights_sha256[:12]})"

    def is_same(self, other: TokenizerIdentity) -> bool:
        """Whether the weights are the same, whatever they are called."""
        return self.weights_sha256 == other.weights_sha256


def identify(tokenizer: Model[Any], name: str, *, revision: str | None = None) -> TokenizerIdentity:
    """The identity of a loaded tokenizer: how it was called and the SHA-256 of its weights."""
    return TokenizerIdentity(name=name, revision=revision, weights_sha256=weights_sha256(tokenizer.state_dict()))


def check_same_tokenizer(made_by: TokenizerIdentity | None, given: TokenizerIdentity | None, *, what: str, allow_other: bool = False) -> None:
    """Refuse tokens of one tokenizer where another one is used; unknown identities are not refused.

    Args:
        made_by: whose tokens they are.
        given: the tokenizer, or that of the generator, that is to read them.
        what: the tokens, for the error: "the token set tokens/digits".
        allow_other: the caller knows that they differ.

    Raises:
        IdentityError: naming both.
    """
    if allow_other or made_by is None or given is None or made_by.is_same(given):
        return
    raise IdentityError(
        f"{what} was made with {made_by}, not with {given}: equal layouts do not make tokens mean the same. Use {made_by.name}, or accept "
        "tokens of another tokenizer explicitly (allow_other_tokenizer=True, --allow-other-tokenizer)"
    )
