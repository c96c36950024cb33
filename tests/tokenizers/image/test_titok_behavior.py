from __future__ import annotations

import numpy as np
import pytest
import torch
from family_checks import fit
from PIL import Image

from visiontok import Latents, Segment, TokenLayout, Tokens
from visiontok.base.errors import CheckpointError, ConfigError, SignalError, TokenError
from visiontok.losses import ReconstructionConfig
from visiontok.tokenizers.image.titok.model import TiTok, TiTokConfig
from visiontok.tokenizers.image.titok.reference import VIT_SIZES

VIT = {**VIT_SIZES["tiny"], "patch_size": 8}
VQ = {"type": "vq", "codebook_size": 32, "dim": 8}


def config(**changes) -> TiTokConfig:
    return TiTokConfig.parse({"image_size": 32, "num_latent_tokens": 6, "encoder": VIT, "decoder": VIT, "quantizer": VQ, **changes})


def model(**changes) -> TiTok:
    torch.manual_seed(0)
    return TiTok(config(**changes)).eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_whatever_a_caller_holds_becomes_the_same_tokens(tmp_path):
    tokenizer = model()
    array = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "image.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected = tokenizer.encode(tensor[None].float() / 255).indices
    for form in (tensor, array, Image.fromarray(array), tmp_path / "image.png", str(tmp_path / "image.png"), [array]):
        assert torch.equal(tokenizer.encode(form).indices, expected)


def test_tokens_decode_to_an_image_in_range():
    tokenizer = model()
    tokens = tokenizer.encode(images())
    assert tokens.layout == tokenizer.layout
    image = tokenizer.decode(tokens)
    assert image.shape == (2, 3, 32, 32)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert torch.equal(tokenizer.decode(Tokens.unpack(tokens.pack(), tokens.layout)), image)


def test_other_image_sizes_are_resized_and_cropped():
    assert len(model().encode(torch.rand(1, 3, 40, 70))) == 1


def test_wrong_signals_are_refused_by_name():
    tokenizer = model()
    for signal, message in (
        (images() * 2 - 1, r"\[-1, 1\]"),
        (torch.zeros(2, 1, 32, 32), r"\(2, 1, 32, 32\)"),
        ("no/such/file.png", "no/such/file.png"),
    ):
        with pytest.raises(SignalError, match=message):
            tokenizer.encode(signal)


def test_tokens_of_another_tokenizer_are_refused():
    other = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(6,), vocab_size=99),), signal_shape=(32, 32))
    with pytest.raises(TokenError, match="99"):
        model().decode(Tokens(torch.zeros(1, 6, dtype=torch.int64), other))


def test_an_index_out_of_range_is_named():
    tokenizer = model()
    indices = torch.zeros(2, 6, dtype=torch.int64)
    indices[1, 4] = 32
    with pytest.raises(TokenError, match=r"32 of sample 1 .*'latents', position \(4\)"):
        tokenizer.decode(Tokens(indices, tokenizer.layout))


def test_prefixes_are_refused_since_titok_is_not_ordered():
    with pytest.raises(TokenError):
        model().encode(images()).prefix(3)


def test_a_continuous_titok_gives_latents_deterministically_or_sampled():
    tokenizer = model(quantizer={"type": "gaussian", "dim": 5})
    assert tokenizer.layout.is_continuous
    latents = tokenizer.encode(images())
    assert isinstance(latents, Latents)
    assert torch.equal(latents.values, tokenizer.encode(images()).values)
    first, second = (tokenizer.encode(images(), noise=torch.Generator().manual_seed(3)).values for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, latents.values)
    assert tokenizer.decode(latents).shape == (2, 3, 32, 32)


def test_a_first_stage_model_has_no_pixels():
    tokenizer = model(head="codes", num_teacher_codes=64)
    assert tokenizer(images()).reconstruction.shape == (2, 64, 4, 4)
    assert not tokenizer.can_decode
    with pytest.raises(TokenError, match="TiTok"):
        tokenizer.decode(tokenizer.encode(images()))


def test_a_second_stage_model_decodes_through_the_vqgan():
    pixel_decoder = {"channels": 32, "channel_mult": [1, 1, 1, 1], "num_res_blocks": 1, "latent_channels": 16}
    tokenizer = model(head="codes", num_teacher_codes=64, pixel_decoder=pixel_decoder)
    assert tokenizer.decode(tokenizer.encode(images())).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 30}, "30"),
        ({"pixel_decoder": {}}, "pixel_decoder"),
        ({"head": "codes", "quantizer": {"type": "gaussian", "dim": 5}}, "gaussian"),
        ({"num_tokens": 6}, "unknown key"),
        ({"num_latent_tokens": 0}, "num_latent_tokens"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_configurations_round_trip():
    tokenizer = model()
    assert TiTokConfig.parse(tokenizer.config.to_dict()) == tokenizer.config


@pytest.mark.parametrize("quantizer", [VQ, {"type": "gaussian", "dim": 8}])
def test_training_lowers_the_loss(quantizer):
    tokenizer = model(quantizer=quantizer).train()
    objective = ReconstructionConfig().build()

    def loss(step: int) -> torch.Tensor:
        output = tokenizer(images(8))
        return sum(objective.generator_terms(output.reconstruction, images(8), output.losses, step=step).values())

    totals = fit(tokenizer.parameters(), loss, steps=30, lr=1e-3)
    assert totals[-1] < totals[0] / 2


def test_bfloat16_decodes_to_nearly_the_same_image():
    tokenizer = model()
    tokens = tokenizer.encode(images())
    image = tokenizer.decode(tokens)
    half = tokenizer.to(torch.bfloat16)
    assert half.encode(images()).indices.shape == tokens.indices.shape
    assert (half.decode(tokens).float() - image).abs().max() < 0.05


def test_reference_weights_with_a_stray_or_missing_tensor_are_refused():
    reference = {
        "model": {
            "vq_model": {
                "codebook_size": 32, "token_size": 8, "vit_enc_model_size": "tiny", "vit_dec_model_size": "tiny", "vit_enc_patch_size": 8,
                "vit_dec_patch_size": 8, "num_latent_tokens": 6, "finetune_decoder": False, "is_legacy": False,
            }
        },
        "dataset": {"preprocessing": {"crop_size": 32}},
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="stray"):
        TiTok.from_reference(reference, {"stray.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"missing: .*quantizer.codebook|missing"):
        TiTok.from_reference(reference, {"latent_tokens": torch.zeros(6, 32)})
    reference["model"]["vq_model"]["vit_enc_model_size"] = "huge"
    with pytest.raises(ConfigError, match="huge"):
        TiTok.from_reference(reference, {})
