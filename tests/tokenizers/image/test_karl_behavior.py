from __future__ import annotations

import pytest
import torch

import visiontok
from visiontok import Latents, Psnr, Tokens
from visiontok.base.errors import ConfigError, HubError, TokenError
from visiontok.core.quality import MeanAbsoluteError
from visiontok.layers.conv import ConvNetConfig
from visiontok.tokenizers.image.karl.model import QUALITIES, Karl, KarlConfig

VIT = {"dim": 64, "depth": 1, "num_heads": 2, "patch_size": 4}
KARL = {
    "image_size": 16,
    "num_latent_tokens": 8,
    "max_latent_tokens": 12,
    "training_lengths": [2, 4, 6, 8, 10, 12],
    "position_side": 4,
    "base": {"type": "patches", "patch_size": 4},
    "encoder": VIT,
    "decoder": {**VIT, "dim": 32},
    "quantizer": {"type": "vq", "codebook_size": 32, "dim": 6, "normalize_latents": True, "normalize_codes": True},
    "halting_dim": 16,
}

NET = {"channels": 32, "channel_mult": [1, 1, 1], "num_res_blocks": 1, "latent_channels": 8}
VAE = {"channels": [32, 32, 32], "num_res_blocks": 1, "bottleneck": {"dim": 4, "scale": 0.5}, "image_size": 16}
BASES = {
    "patches": KARL["base"],
    "vqgan": {"type": "vqgan", "net": NET, "codebook_size": 20},
    "kl_vae": {"type": "kl_vae", "vae": VAE},
}


def model(**changes) -> Karl:
    torch.manual_seed(0)
    karl = Karl(KarlConfig.parse({**KARL, **changes})).eval()
    with torch.no_grad():
        karl.encoder.halting[2].bias.fill_(1.1)  # about half of the tokens halt by chance
        karl.encoder.halting[2].weight.mul_(20)
    return karl


def images(count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 16, 16, generator=generator) * torch.linspace(0.1, 1, count)[:, None, None, None]


@pytest.mark.parametrize("base", BASES)
def test_counts_vary_and_decode_in_one_batch(base: str):
    karl = model(base=BASES[base])
    karl.keeps = lambda halting: torch.arange(8) % torch.arange(1, 5)[:, None] == 0
    tokens = karl.encode(images(), target=MeanAbsoluteError(0.05))
    assert isinstance(tokens, Tokens)
    assert tokens.sample_lengths.tolist() == [8, 4, 3, 2]
    assert tokens.positions[2].tolist() == [0, 3, 6, -1, -1, -1, -1, -1]
    together = karl.decode(tokens)
    alone = torch.cat([karl.decode(tokens[i : i + 1]) for i in range(len(tokens))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    unpacked = Tokens.unpack(
        tokens.pack(), tokens.layout, positions=[row[:n].tolist() for row, n in zip(tokens.positions, tokens.sample_lengths, strict=True)]
    )
    assert torch.equal(karl.decode(unpacked), together)
    assert tokens.bits.tolist() == [5.0 * count for count in tokens.sample_lengths.tolist()]


def test_an_image_does_not_depend_on_its_batch():
    karl = model()
    tokens = karl.encode(images(), target=MeanAbsoluteError(0.05))
    for i in range(4):
        one = karl.encode(images()[i : i + 1], target=MeanAbsoluteError(0.05))
        count = int(tokens.sample_lengths[i])
        assert one.indices[0].tolist() == tokens.indices[i, :count].tolist()
        assert one.positions[0].tolist() == tokens.positions[i, :count].tolist()


def test_dropped_tokens_are_never_seen():
    karl = model()
    latents = torch.randn(1, 8, 6)
    kept = torch.tensor([[True, False, True, True, False, False, True, False]])
    masked = karl.predict(latents, kept=kept)
    positions = torch.nonzero(kept[0]).T
    torch.testing.assert_close(karl.predict(latents[:, positions[0]], positions=positions), masked, rtol=0, atol=1e-5)
    torch.testing.assert_close(karl.predict(latents * 100 * ~kept[..., None] + latents * kept[..., None], kept=kept), masked, rtol=0, atol=1e-5)


def test_a_number_of_tokens_is_exact_and_with_a_target_an_upper_bound():
    karl = model()
    assert karl.encode(images(), num_tokens=5).sample_lengths.tolist() == [5] * 4
    mixed = karl.encode(images(), num_tokens=torch.tensor([3, 8, 1, 3]))
    assert mixed.sample_lengths.tolist() == [3, 8, 1, 3]
    assert mixed.indices[0, :3].tolist() == karl.encode(images()[:1], num_tokens=3).indices[0].tolist()
    assert int(karl.encode(images(), num_tokens=4, target=MeanAbsoluteError(0.05)).sample_lengths.max()) <= 4
    with pytest.raises(TokenError, match="9"):
        karl.encode(images(), num_tokens=9)


def test_a_target_error_means_the_next_larger_one_that_was_learned():
    karl = model()
    asked: list[int] = []
    karl.encoder.register_forward_pre_hook(lambda _module, inputs: asked.extend(inputs[2].tolist()))
    for error in (0.0, 0.05):
        karl.encode(images(1), target=MeanAbsoluteError(error))
    karl.encode(images(2), target=MeanAbsoluteError(torch.tensor([0.051, 5.0])))
    karl.encode(images(1))
    assert [QUALITIES[row] for row in asked] == [0.005, 0.05, 0.06, 0.38, 0.05]


def test_a_target_error_per_image_needs_as_many_as_there_are_images():
    with pytest.raises(TokenError, match="3"):
        model().encode(images(), target=MeanAbsoluteError(torch.full((3,), 0.1)))


def test_an_image_may_need_no_token_at_all():
    karl = model()
    with torch.no_grad():
        karl.encoder.halting[2].bias.fill_(1e4)
    tokens = karl.encode(images())
    assert tokens.sample_lengths.tolist() == [0] * 4
    assert karl.decode(tokens).shape == (4, 3, 16, 16)


def test_other_targets_are_searched_for():
    karl = model()
    first = karl.encode(images(), num_tokens=1)
    reached = [float(-10 * torch.log10((a - b).square().mean())) for a, b in zip(karl.decode(first), images(), strict=True)]
    easy = karl.encode(images(), target=Psnr(min(reached) - 1))
    impossible = karl.encode(images(), target=Psnr(90))
    assert easy.sample_lengths.max() < 8
    assert impossible.sample_lengths.tolist() == [8] * 4
    assert karl.encode(images(), num_tokens=3, target=Psnr(90)).sample_lengths.tolist() == [3] * 4
    with pytest.raises(TokenError):
        easy.prefix(1)


def test_continuous_latents_keep_their_positions():
    karl = model(quantizer={"type": "continuous", "dim": 6})
    latents = karl.encode(images(), target=MeanAbsoluteError(0.05))
    assert isinstance(latents, Latents)
    kept = (latents.positions[:, :, None] == torch.arange(8)).any(dim=1)
    assert 0 < int(kept.sum()) < kept.numel()
    features = karl.base.features(images())
    raw, halting = karl.distill(images(), features, torch.full((4,), 0.05), num_tokens=8)
    assert torch.equal(kept, karl.keeps(halting))
    expected = karl.base.pixels(karl.predict(raw, kept=kept)).clamp(0, 1)
    torch.testing.assert_close(karl.decode(latents), expected, rtol=0, atol=1e-5)


def test_a_vae_base_is_sampled_only_when_asked():
    karl = model(base=BASES["kl_vae"], quantizer={"type": "continuous", "dim": 6})
    same = [karl.encode(images()).values for _ in range(2)]
    assert torch.equal(*same)
    drawn = [karl.encode(images(), noise=torch.Generator().manual_seed(3)).values for _ in range(2)]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], same[0])


@pytest.mark.parametrize("base", BASES)
def test_training_lowers_every_part_of_the_loss(base: str):
    karl = model(base=BASES[base], quantizer={**KARL["quantizer"], "dead_code_reset": {}}).train()
    karl.base.requires_grad_(False)
    optimizer = torch.optim.AdamW([parameter for parameter in karl.parameters() if parameter.requires_grad], lr=4e-3)
    totals = []
    for step in range(24):
        torch.manual_seed(step % 4)  # the draws of one of four iterations
        losses = karl(images()).losses
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append({name: float(value.detach()) for name, value in losses.items()})
    before, after = ({name: sum(step[name] for step in part) for name in totals[0]} for part in (totals[:4], totals[-4:]))
    for name in ("estimate.code", "tokenize.code", "tokenize.halting.unneeded"):
        assert after[name] < before[name], name
    assert sum(after.values()) < 0.9 * sum(before.values())


def test_halting_weighs_what_it_is_told_to():
    plain, light = (model(halting_weight=weight).train() for weight in (1.0, 0.25))
    light.load_state_dict(plain.state_dict())
    losses, lighter = (each.two_passes(images(), num_tokens=4, quality=torch.full((4,), 0.01)).losses for each in (plain, light))
    for name, loss in losses.items():
        assert float(lighter[name].detach()) == pytest.approx(float(loss.detach()) * (0.25 if ".halting." in name else 1)), name


def test_training_asks_less_often_for_what_it_already_reaches():
    karl = model().train()
    before = karl.quality_odds.clone()
    karl.base.pixels = lambda predicted: images() + 0.021  # the first pass loses 0.021
    karl.two_passes(images(), num_tokens=4, quality=torch.full((4,), 0.01))
    after = karl.quality_odds
    assert float(after.sum()) == pytest.approx(1)
    reached = torch.tensor(QUALITIES) >= 0.021
    requested = before > 0
    assert bool((after[requested & reached] < before[requested & reached]).all())
    assert bool((after[requested & ~reached] > before[requested & ~reached]).all())


def test_the_second_stage_compares_the_pixels_of_both_passes():
    karl = model(base=BASES["vqgan"], stage="pixels").train()
    output = karl.two_passes(images(), num_tokens=4, quality=torch.full((4,), 0.01))
    assert output.reconstruction.shape == output.target.shape == (8, 3, 16, 16)
    assert torch.equal(output.target[:4], output.target[4:])
    assert not {"tokenize.code", "tokenize.nll"} & set(output.losses)
    (output.reconstruction - output.target).square().mean().backward()
    assert karl.base.decoder.conv_out.weight.grad.abs().sum() > 0
    assert karl.encoder.latent_tokens.grad.abs().sum() > 0


def test_saved_and_loaded(tmp_path):
    karl = model()
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(karl, tmp_path / "karl"))
    assert loaded.config == karl.config
    assert KarlConfig.parse(karl.config.to_dict()) == karl.config
    tokens, again = karl.encode(images()), loaded.encode(images())
    assert torch.equal(tokens.indices, again.indices)
    assert torch.equal(tokens.positions, again.positions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_latent_tokens": 8}, "max_latent_tokens"),
        ({"base": {"type": "patches", "patch_size": 2}}, "2 pixels"),
        ({"image_size": 18}, "18"),
        ({"encoder": {**KARL["encoder"], "dim": 48}}, "48"),
        ({"halting_threshold": 1.5}, "halting_threshold"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        KarlConfig.parse({**KARL, **changes})


def test_unknown_bases_of_the_authors_are_refused():
    with pytest.raises(ConfigError, match="'dct'"):
        Karl.config_from_reference({"base_tokenizer": {"id": "dct", "ddconfig": {"ch": 8}}, "karl": {"encoder_width": 8}}, {})


def test_files_beside_the_hub_are_asked_for(tmp_path):
    with pytest.raises(HubError, match=r"imagenet/karl_small_vqgan.*cache_dir"):
        visiontok.from_pretrained("karl-small-vqgan-in1k")
    with pytest.raises(HubError, match="karl_small_vqgan"):
        visiontok.from_pretrained("karl-small-vqgan-in1k", cache_dir=tmp_path)


def test_a_middle_of_its_own_length():
    from visiontok.encoders.conv import ConvEncoder

    config = ConvNetConfig.parse({**NET, "num_mid_blocks": 3})
    encoder = ConvEncoder(config)
    assert len(encoder.mid) == 3
    assert len(encoder.levels[0].blocks) == 1
