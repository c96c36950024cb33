from __future__ import annotations

import pytest
import torch
from karl_sizes import KARL

import visiontok
from visiontok import Latents, Psnr, Tokens
from visiontok.base.errors import ConfigError, HubError, TokenError
from visiontok.core.quality import MeanAbsoluteError
from visiontok.layers.conv import ConvNetConfig
from visiontok.tokenizers.image.karl.model import QUALITIES, Karl, KarlConfig

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


def pictures(count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 16, 16, generator=generator) * torch.linspace(0.1, 1, count)[:, None, None, None]


@pytest.mark.parametrize("base", BASES)
def test_counts_vary_and_decode_in_one_batch(base: str):
    karl = model(base=BASES[base])
    karl.keeps = lambda halting: torch.arange(8) % torch.arange(1, 5)[:, None] == 0
    tokens = karl.encode(pictures(), max_loss=0.05)
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
    tokens = karl.encode(pictures(), max_loss=0.05)
    for i in range(4):
        one = karl.encode(pictures()[i : i + 1], max_loss=0.05)
        count = int(tokens.sample_lengths[i])
        assert one.indices[0].tolist() == tokens.indices[i, :count].tolist()
        assert one.positions[0].tolist() == tokens.positions[i, :count].tolist()


def test_dropped_tokens_are_never_seen():
    karl = model()
    latents = torch.randn(1, 8, 6)
    kept = torch.tensor([[True, False, True, True, False, False, True, False]])
    masked = karl.predict(latents, kept=kept)
    places = torch.nonzero(kept[0]).T
    torch.testing.assert_close(karl.predict(latents[:, places[0]], positions=places), masked, rtol=0, atol=1e-5)
    torch.testing.assert_close(karl.predict(latents * 100 * ~kept[..., None] + latents * kept[..., None], kept=kept), masked, rtol=0, atol=1e-5)


def test_a_number_of_tokens_is_exact_and_with_a_wish_an_upper_bound():
    karl = model()
    assert karl.encode(pictures(), num_tokens=5).sample_lengths.tolist() == [5] * 4
    mixed = karl.encode(pictures(), num_tokens=torch.tensor([3, 8, 1, 3]))
    assert mixed.sample_lengths.tolist() == [3, 8, 1, 3]
    assert mixed.indices[0, :3].tolist() == karl.encode(pictures()[:1], num_tokens=3).indices[0].tolist()
    assert int(karl.encode(pictures(), num_tokens=4, max_loss=0.05).sample_lengths.max()) <= 4
    with pytest.raises(TokenError, match="cannot write 9 tokens"):
        karl.encode(pictures(), num_tokens=9)


def test_a_wish_means_the_next_larger_one_that_was_learned():
    karl = model()
    asked: list[int] = []
    karl.encoder.register_forward_pre_hook(lambda _module, inputs: asked.extend(inputs[2].tolist()))
    karl.encode(pictures(1), max_loss=0.0)
    karl.encode(pictures(1), max_loss=0.05)
    karl.encode(pictures(2), max_loss=torch.tensor([0.051, 5.0]))
    karl.encode(pictures(1), target=MeanAbsoluteError(0.05))
    karl.encode(pictures(1))
    assert [QUALITIES[row] for row in asked] == [0.005, 0.05, 0.06, 0.38, 0.05, 0.05]


@pytest.mark.parametrize("wish", [-0.1, float("nan"), torch.full((3,), 0.1)])
def test_a_wish_that_says_nothing_is_refused(wish: object):
    with pytest.raises(TokenError, match="max_loss must be"):
        model().encode(pictures(), max_loss=wish)


def test_an_image_may_need_no_token_at_all():
    karl = model()
    with torch.no_grad():
        karl.encoder.halting[2].bias.fill_(1e4)
    tokens = karl.encode(pictures())
    assert tokens.sample_lengths.tolist() == [0] * 4
    assert karl.decode(tokens).shape == (4, 3, 16, 16)


def test_other_targets_are_searched_for():
    karl = model()
    first = karl.encode(pictures(), num_tokens=1)
    reached = [float(-10 * torch.log10((a - b).square().mean())) for a, b in zip(karl.decode(first), pictures(), strict=True)]
    easy = karl.encode(pictures(), target=Psnr(min(reached) - 1))
    impossible = karl.encode(pictures(), target=Psnr(90))
    assert easy.sample_lengths.max() < 8
    assert impossible.sample_lengths.tolist() == [8] * 4
    with pytest.raises(TokenError, match="max_loss or target"):
        karl.encode(pictures(), max_loss=0.1, target=Psnr(20))
    with pytest.raises(TokenError, match="not trained with ordered tokens"):
        easy.prefix(1)


def test_continuous_latents_keep_their_places():
    karl = model(quantizer={"type": "continuous", "dim": 6})
    latents = karl.encode(pictures(), max_loss=0.05)
    assert isinstance(latents, Latents)
    kept = latents.values.any(dim=-1)
    assert 0 < int(kept.sum()) < kept.numel()
    features = karl.base.features(pictures())
    raw, halting = karl.distil(pictures(), features, torch.full((4,), 0.05), num_tokens=8)
    assert torch.equal(kept, karl.keeps(halting))
    expected = karl.base.pixels(karl.predict(raw, kept=kept)).clamp(0, 1)
    torch.testing.assert_close(karl.decode(latents), expected, rtol=0, atol=1e-5)


def test_a_vae_base_is_sampled_only_when_asked():
    karl = model(base=BASES["kl_vae"], quantizer={"type": "continuous", "dim": 6})
    same = [karl.encode(pictures()).values for _ in range(2)]
    assert torch.equal(*same)
    drawn = [karl.encode(pictures(), generator=torch.Generator().manual_seed(3)).values for _ in range(2)]
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
        losses = karl(pictures()).losses
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
    losses, lighter = (each.two_passes(pictures(), num_tokens=4, quality=torch.full((4,), 0.01)).losses for each in (plain, light))
    for name, loss in losses.items():
        assert float(lighter[name].detach()) == pytest.approx(float(loss.detach()) * (0.25 if ".halting." in name else 1)), name


def test_training_asks_less_often_for_what_it_already_reaches():
    karl = model().train()
    before = karl.quality_odds.clone()
    karl.base.pixels = lambda predicted: pictures() + 0.021  # the first pass loses 0.021
    karl.two_passes(pictures(), num_tokens=4, quality=torch.full((4,), 0.01))
    after = karl.quality_odds
    assert float(after.sum()) == pytest.approx(1)
    reached = torch.tensor(QUALITIES) >= 0.021
    wished = before > 0
    assert bool((after[wished & reached] < before[wished & reached]).all())
    assert bool((after[wished & ~reached] > before[wished & ~reached]).all())


def test_the_second_stage_compares_the_pixels_of_both_passes():
    karl = model(base=BASES["vqgan"], stage="pixels").train()
    output = karl.two_passes(pictures(), num_tokens=4, quality=torch.full((4,), 0.01))
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
    tokens, again = karl.encode(pictures()), loaded.encode(pictures())
    assert torch.equal(tokens.indices, again.indices)
    assert torch.equal(tokens.positions, again.positions)


def test_another_default_shares_the_weights():
    karl = model()
    other = karl.with_max_loss(0.3)
    assert other.config.default_max_loss == 0.3
    assert karl.config.default_max_loss == 0.05
    assert other.encoder is karl.encoder
    assert torch.equal(other.encode(pictures()).indices, karl.encode(pictures(), max_loss=0.3).indices)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_latent_tokens": 8}, "12 tokens are asked for"),
        ({"base": {"type": "patches", "patch_size": 2}}, "must be a position of the base, 2 pixels"),
        ({"image_size": 18}, "do not divide"),
        ({"encoder": {**KARL["encoder"], "dim": 48}}, "no room"),
        ({"halting_threshold": 1.5}, "halting_threshold"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        KarlConfig.parse({**KARL, **changes})


def test_unknown_bases_of_the_authors_are_refused():
    with pytest.raises(ConfigError, match="vqgan, vae"):
        Karl.config_from_reference({"base_tokenizer": {"id": "dct", "ddconfig": {}}, "karl": {}}, {})


def test_files_beside_the_hub_are_asked_for(tmp_path):
    with pytest.raises(HubError, match=r"does not lie on the hub: download imagenet/karl_small_vqgan.*cache_dir"):
        visiontok.from_pretrained("karl-small-vqgan-in1k")
    with pytest.raises(HubError, match="does not lie on the hub"):
        visiontok.from_pretrained("karl-small-vqgan-in1k", cache_dir=tmp_path)


def test_a_middle_of_its_own_length():
    from visiontok.encoders.conv import ConvEncoder

    config = ConvNetConfig.parse({**NET, "num_mid_blocks": 3})
    encoder = ConvEncoder(config)
    assert len(encoder.mid) == 3
    assert len(encoder.levels[0].blocks) == 1
