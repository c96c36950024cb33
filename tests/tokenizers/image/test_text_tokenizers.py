"""Tokenizers that read a text: TA-TiTok in the decoder, TexTok on both sides."""

from __future__ import annotations

import pytest
import torch
from family_checks import fit

import visiontok
from visiontok import Psnr
from visiontok.base.errors import ConfigError, TextError
from visiontok.encoders.text import HashedWords

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
SIZES = {
    "image_size": 16,
    "num_latent_tokens": 6,
    "encoder": VIT,
    "decoder": VIT,
    "text": {"length": 5, "dim": 8, "encoder": {"type": "hashed_words"}},
}
VQ = {"type": "vq", "codebook_size": 32, "dim": 4}
FAMILIES = ("tatitok", "textok")


def model(family: str, **changes):
    torch.manual_seed(0)
    return visiontok.create(family, **{**SIZES, "quantizer": VQ, **changes}).eval()


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def embeddings(seed: int = 2, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 5, 8, generator=torch.Generator().manual_seed(seed)) * 4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_changes_what_tokens_decode_to(family):
    tokenizer, text = model(family), embeddings()
    tokens = tokenizer.encode(images(), text=text)
    image = tokenizer.decode(tokens, text=text)
    assert image.shape == (3, 3, 16, 16)
    assert torch.equal(image, tokenizer.decode(tokens, text=text))
    assert not torch.allclose(image, tokenizer.decode(tokens, text=embeddings(3)))


def test_only_textok_needs_the_text_to_encode():
    tatitok, textok = (model(family) for family in FAMILIES)
    assert torch.equal(tatitok.encode(images()).indices, tatitok.encode(images(), text=embeddings()).indices)
    with pytest.raises(TextError, match=r"\(3, 5, 8\)"):
        textok.encode(images())
    first, second = (textok.encode_latents(images(), embeddings(seed)) for seed in (2, 3))
    assert first.shape == (3, 6, 4)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_or_unfitting_text_is_named(family):
    tokenizer, text = model(family), embeddings()
    tokens = tokenizer.encode(images(), text=text)
    with pytest.raises(TextError, match="text="):
        tokenizer.decode(tokens)
    with pytest.raises(TextError, match=r"\(3, 5, 7\)"):
        tokenizer.decode(tokens, text=text[..., :7])
    with pytest.raises(TextError, match="2 texts"):
        tokenizer.decode(tokens, text=text[:2])
    with pytest.raises(TextError, match="attach_text_encoder"):
        tokenizer.decode(tokens, text="a circle")


def test_strings_are_read_by_an_attached_encoder():
    tokenizer = model("textok").attach_text_encoder()
    tokens = tokenizer.encode(images(), text="a red circle")
    embedded = HashedWords(length=5, dim=8)(["a red circle"])
    assert torch.equal(tokens.indices, tokenizer.encode(images(), text=embedded.expand(3, -1, -1)).indices)
    one_each = tokenizer.decode(tokens, text=["a red circle", "a cat", "a dog"])
    for_all = tokenizer.decode(tokens, text="a red circle")
    torch.testing.assert_close(one_each[0], for_all[0])
    assert not torch.allclose(one_each[1], for_all[1])
    with pytest.raises(TextError, match=r"\(4, 8\)"):
        tokenizer.attach_text_encoder(HashedWords(length=4, dim=8))
    with pytest.raises(ConfigError, match=r"text\.encoder"):
        model("tatitok", text={"length": 5, "dim": 8}).attach_text_encoder()


def test_a_text_is_read_by_one_call_only():
    tokenizer = model("tatitok")
    tokens = tokenizer.encode(images())
    tokenizer.decode(tokens, text=embeddings())
    with pytest.raises(TextError):
        tokenizer.decode(tokens)
    with pytest.raises(TextError):
        tokenizer(images())


def test_tokenizers_that_read_no_text_refuse_one():
    titok = visiontok.create("titok", **{name: value for name, value in SIZES.items() if name != "text"}, quantizer=VQ).eval()
    with pytest.raises(TextError, match="a circle"):
        titok.encode(images(), text="a circle")


def test_save_and_load_leave_the_text_encoder_out(tmp_path):
    tokenizer = model("tatitok").attach_text_encoder()
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(tokenizer, tmp_path / "model"))
    assert loaded.config == tokenizer.config
    assert loaded.text_encoder is None
    tokens = tokenizer.encode(images())
    assert torch.equal(loaded.decode(tokens, text=embeddings()), tokenizer.decode(tokens, text=embeddings()))
    assert "text=" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_nested_dropout_and_targets_work_beside_the_text(family):
    tokenizer, text = model(family, nested_dropout={"schedule": "uniform"}), embeddings()
    lengths = torch.tensor([1, 6, 3])
    mixed = tokenizer.decode(tokenizer.encode(images(), text=text, num_tokens=lengths), text=text)
    for row, length in enumerate(lengths.tolist()):
        part = slice(row, row + 1)
        alone = tokenizer.encode(images()[part], text=text[part], num_tokens=length)
        torch.testing.assert_close(mixed[part], tokenizer.decode(alone, text=text[part]))
    assert tokenizer.encode(images(), text=text, target=Psnr(1)).sample_lengths.tolist() == [1, 1, 1]
    with pytest.raises(TextError):
        tokenizer.encode(images(), target=Psnr(1))


@pytest.mark.parametrize("quantizer", [VQ | {"clustering": {}}, {"type": "gaussian", "dim": 4}])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_steps_lower_the_loss_and_reach_every_weight(family, quantizer):
    tokenizer = model(family, quantizer=quantizer).train()

    def loss(step: int) -> torch.Tensor:
        output = tokenizer(images(), text=embeddings())
        return (output.reconstruction - images()).square().mean() + sum(output.losses.values())

    losses = fit(tokenizer.parameters(), loss, steps=30, lr=3e-3)
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in tokenizer.parameters())


def test_the_sizes_of_textok_are_about_the_published_ones():
    with torch.device("meta"):
        tokenizer = visiontok.create("textok", num_latent_tokens=128)
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == pytest.approx(176e6, rel=0.01)
    assert tokenizer.layout.is_continuous
