"""num_tokens, target, prefixes and mixed lengths, on a toy whose tokens are ordered by construction, and on one whose are not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ordered_family import OrderedConfig, OrderedTokenizer

import visiontok
from visiontok import Psnr, Tokens
from visiontok.base.errors import TokenError
from visiontok.core.quality import QualityTarget, shortest_lengths
from visiontok.layers.nested_dropout import ListedLengths

VIT = {"dim": 8, "depth": 1, "num_heads": 2, "patch_size": 8}
UNORDERED = {
    "image_size": 16,
    "num_latent_tokens": 4,
    "encoder": VIT,
    "decoder": VIT,
    "quantizer": {"type": "vq", "codebook_size": 8, "dim": 4},
}


@pytest.fixture
def ordered():
    return OrderedTokenizer(OrderedConfig()).eval()


def stripes(count: int = 5) -> torch.Tensor:
    """(B, 3, 8, 8): images of ever finer detail along the columns."""
    columns = torch.rand(count, 8, generator=torch.Generator().manual_seed(0))
    columns[0] = 0.5
    columns[1, :4], columns[1, 4:] = 0.2, 0.8
    return columns[:, None, None].expand(-1, 3, 8, -1).contiguous()


def test_num_tokens_is_a_prefix_of_all_tokens(ordered):
    whole = ordered.encode(stripes())
    assert torch.equal(ordered.encode(stripes(), num_tokens=3).indices, whole.indices[:, :3])
    mixed = ordered.encode(stripes(), num_tokens=torch.tensor([1, 2, 3, 8, 5]))
    assert mixed.sample_lengths.tolist() == [1, 2, 3, 8, 5]
    assert torch.equal(mixed.indices, whole.prefix(torch.tensor([1, 2, 3, 8, 5])).indices)


def test_mixed_lengths_decode_as_each_alone(ordered):
    lengths = torch.tensor([1, 2, 3, 8, 5])
    whole = ordered.encode(stripes())
    together = ordered.decode(whole.prefix(lengths))
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(together[row], ordered.decode(whole[row : row + 1].prefix(length))[0])
    torch.testing.assert_close(ordered.decode(whole)[3], together[3])


def test_lengths_supported(ordered):
    assert list(ordered.lengths_supported) == list(range(1, 9))
    assert list(visiontok.create("titok", **UNORDERED).lengths_supported) == [4]


@pytest.mark.parametrize("wrong", [0, 9, -1, 2.0, torch.tensor([1, 2]), torch.tensor([1, 2, 3, 4, 9]), torch.tensor(True)])
def test_lengths_that_do_not_exist_are_refused(ordered, wrong):
    with pytest.raises(TokenError, match=r"1 to 8|num_tokens"):
        ordered.encode(stripes(), num_tokens=wrong)


def test_unordered_families_refuse(ordered):
    unordered = visiontok.create("titok", **UNORDERED).eval()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(unordered.encode(images, num_tokens=4).indices, unordered.encode(images).indices)
    with pytest.raises(TokenError, match="2 tokens"):
        unordered.encode(images, num_tokens=2)
    with pytest.raises(TokenError, match="4 tokens"):
        unordered.encode(images, target=Psnr(20))
    with pytest.raises(TokenError, match="prefixes"):
        unordered.encode(images).prefix(2)


def test_a_target_takes_as_few_tokens_as_reach_it(ordered):
    images, target = stripes(), Psnr(24)
    tokens = ordered.encode(images, target=target)
    whole = ordered.encode(images)
    for row, found in enumerate(tokens.sample_lengths.tolist()):
        reached = [
            bool(target.reached(images[row : row + 1], ordered.decode(whole[row : row + 1].prefix(length)))) for length in ordered.lengths_supported
        ]
        assert found == (reached.index(True) + 1 if any(reached) else 8)
    assert tokens.sample_lengths[0] == 1
    assert tokens.sample_lengths[1] == 2
    assert tokens.sample_lengths.max() > 4
    assert torch.equal(tokens.indices, whole.prefix(tokens.sample_lengths).indices)


def test_a_target_out_of_reach_gives_every_token(ordered):
    assert isinstance(ordered.encode(stripes(), target=Psnr(200)), Tokens)
    assert ordered.encode(stripes(), target=Psnr(200)).is_full
    with pytest.raises(ValueError, match="inf"):
        Psnr(float("inf"))


def test_a_target_with_a_number_of_tokens_takes_at_most_so_many(ordered):
    images, target = stripes(), Psnr(24)
    fewest = ordered.encode(images, target=target).sample_lengths
    for most in (2, torch.tensor([1, 8, 3, 2, 8])):
        tokens = ordered.encode(images, target=target, num_tokens=most)
        assert torch.equal(tokens.sample_lengths, torch.minimum(fewest, torch.as_tensor(most).expand(5)))


def test_a_model_that_knows_the_length_is_asked_once(ordered, monkeypatch):
    def known(signal, options):
        assert options.target == Psnr(24)
        return ordered.encode_prepared(signal, replace(options, lengths=torch.full((5,), 2), target=None))

    monkeypatch.setattr(ordered, "encode_to_target", known)
    monkeypatch.setattr(ordered, "decode_tokens", lambda tokens, options: pytest.fail("searched all the same"))
    assert ordered.encode(stripes(), target=Psnr(24)).indices.shape == (5, 2)


def test_psnr_is_that_of_the_evaluation():
    from visiontok.evaluation.metrics.fidelity import psnr

    signal, other = torch.rand(8, 3, 4, 4), torch.rand(8, 3, 4, 4)
    values = psnr(signal, other, data_range=1.0)
    assert torch.equal(Psnr(7.8).reached(signal, other), values >= 7.8)
    assert bool(Psnr(300).reached(signal, signal).all())
    assert isinstance(Psnr(1), QualityTarget)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.lists(st.integers(1, 100), min_size=1, max_size=11, unique=True))
def test_the_search_finds_the_first_length_that_reaches(firsts, lengths):
    lengths = sorted(lengths)
    needed = torch.tensor([lengths[first] if first < len(lengths) else 10**6 for first in firsts])
    asked = []

    def reached(tried):
        asked.append(tried)
        return tried >= needed

    found = shortest_lengths(reached, lengths, batch=len(firsts))
    assert found.tolist() == [min(int(length), lengths[-1]) for length in needed]
    assert len(asked) <= 2 + len(lengths).bit_length()


def test_nested_dropout_reads_only_prefixes_in_training():
    tokenizer = OrderedTokenizer(OrderedConfig.parse({"nested_dropout": {"schedule": "listed", "lengths": [2]}}))
    assert isinstance(tokenizer.nested_dropout, ListedLengths)
    images = stripes()
    torch.testing.assert_close(tokenizer.train()(images).reconstruction, tokenizer.decode(tokenizer.encode(images, num_tokens=2)))
    torch.testing.assert_close(tokenizer.eval()(images).reconstruction, tokenizer.decode(tokenizer.encode(images)))
