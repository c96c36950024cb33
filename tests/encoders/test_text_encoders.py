"""Text encoders, offline: a tiny CLIP and a tiny T5 with random weights, and word vectors."""

from __future__ import annotations

import pytest
import torch
from tiny_clip import POSITIONS, WIDTH, save_tiny_clip
from transformers import BatchEncoding, T5Config, T5EncoderModel

from visiontok.base.errors import ConfigError, HubError
from visiontok.encoders.text import ClipTextConfig, HashedWordsConfig, T5Text, T5TextConfig


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return ClipTextConfig(source=save_tiny_clip(tmp_path_factory.mktemp("clip"))).build(length=POSITIONS, dim=WIDTH)


def test_clip_gives_every_position_with_zeros_after_the_end(clip):
    ids = clip.token_ids(["cat", "a  Cat &amp;"])
    start, end = int(ids[0, 0]), int(ids[0, 4])
    assert ids.shape == (2, POSITIONS)
    assert (ids[0, 5:] == 0).all()
    assert int(ids[1, 7 - 1]) == end  # start, a, c, a, t, &, end: one space, no capital, the entity read
    embeddings = clip(["cat", "a  Cat &amp;"])
    whole = clip._network(input_ids=ids).last_hidden_state
    assert start != end
    assert torch.equal(embeddings, whole)
    norm = clip._network.text_model.final_layer_norm if hasattr(clip._network, "text_model") else clip._network.final_layer_norm
    states = clip._network(input_ids=ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(embeddings, norm(states[-1]))


def test_clip_cuts_long_texts_before_the_end_mark(clip):
    ids = clip.token_ids(["abcdefghijklmnopqrstuvwxyz", "a"])
    assert ids.shape == (2, POSITIONS)
    assert int(ids[0, -1]) == int(ids[1, 2])  # the end mark


def test_clip_of_another_width_or_too_few_positions_is_refused(tmp_path):
    source = save_tiny_clip(tmp_path)
    with pytest.raises(ConfigError, match="32 channels"):
        ClipTextConfig(source=source).build(length=POSITIONS, dim=768)
    with pytest.raises(ConfigError, match="12 positions"):
        ClipTextConfig(source=source).build(length=77, dim=WIDTH)


@pytest.mark.parametrize("config", [ClipTextConfig, T5TextConfig])
def test_a_source_that_is_not_there_says_what_to_do(config, tmp_path):
    with pytest.raises(HubError, match="pass embeddings"):
        config(source=str(tmp_path / "nothing")).build(length=4, dim=8)


class Letters:
    """The interface of T5's tokenizer: letters, the end mark 1, and filling 0."""

    def __call__(self, texts, *, truncation, padding, max_length, return_tensors):
        assert (truncation, padding, return_tensors) == (True, "max_length", "pt")
        rows = [[*(ord(letter) - 95 for letter in text[: max_length - 1]), 1] for text in texts]
        ids = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids != 0).long()})


def test_t5_does_not_see_the_filling():
    torch.manual_seed(0)
    network = T5EncoderModel(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
    short, long = (T5Text(network, Letters(), length=length)(["abc", "hello"]) for length in (6, 9))
    assert short.shape == (2, 6, 16)
    torch.testing.assert_close(short, long[:, :6])
    assert bool((long[0, 4:] == 0).all())
    assert not short.requires_grad


def test_hashed_words_depend_on_the_letters_alone():
    encoder = HashedWordsConfig().build(length=4, dim=8)
    embeddings = encoder(["A red circle.", "red", "one two three four five"])
    assert embeddings.shape == (3, 4, 8)
    assert torch.equal(embeddings[0, 1], embeddings[1, 0])
    assert not torch.equal(embeddings[0, 0], embeddings[0, 1])
    assert bool((embeddings[1, 1:] == 0).all())
    assert torch.equal(HashedWordsConfig().build(length=4, dim=8)(["red"]), embeddings[1:2])
