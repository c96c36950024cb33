"""Tokens are read by the tokenizer that made them, or by another one knowingly."""

from __future__ import annotations

import pytest

from visiontok.base.errors import IdentityError
from visiontok.core.identity import TokenizerIdentity, check_same_tokenizer

MADE_BY = TokenizerIdentity(name="one", revision="main", weights_sha256="1" * 64)
OTHER = TokenizerIdentity(name="two", weights_sha256="2" * 64)


def test_equal_weights_are_one_tokenizer_whatever_their_name():
    assert MADE_BY.is_same(OTHER.replace(weights_sha256="1" * 64))
    assert not MADE_BY.is_same(OTHER.replace(name="one", revision="main"))
    check_same_tokenizer(MADE_BY, OTHER.replace(weights_sha256="1" * 64), what="the tokens")


def test_another_tokenizer_is_refused_by_name_unless_allowed():
    with pytest.raises(IdentityError) as caught:
        check_same_tokenizer(MADE_BY, OTHER, what="the token set tokens/x")
    for named in ("tokens/x", "one@main", "111111111111", "two", "222222222222"):
        assert named in str(caught.value)
    check_same_tokenizer(MADE_BY, OTHER, what="the tokens", allow_other=True)


def test_what_is_not_known_is_not_refused():
    check_same_tokenizer(None, OTHER, what="the tokens")
    check_same_tokenizer(MADE_BY, None, what="the tokens")
