from __future__ import annotations

import re
import sys

import pytest
import torch
from diffusers import AutoencoderKL
from family_checks import fit, posterior_loss

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError, DependencyError
from visiontok.base.noise import RecordedNoise
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokens import Latents

CONFIG = KlVaeConfig.parse(
    {"image_size": 16, "channels": [8, 16], "num_res_blocks": 1, "norm_groups": 4, "encoder_attention": [1],
     "bottleneck": {"dim": 3, "scale": 0.5, "shift": 0.25}}
)  # fmt: skip


def images(count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def theirs() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=3, sample_size=16, scaling_factor=0.5, shift_factor=0.25,
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
    ).eval()  # fmt: skip


def test_it_gives_what_diffusers_gives(theirs: AutoencoderKL):
    ours = visiontok.from_reference("kl-vae", dict(theirs.config), theirs.state_dict())
    assert ours.config == CONFIG
    posterior = theirs.encode(images() * 2 - 1).latent_dist
    latents = ours.encode(images())
    assert isinstance(latents, Latents)
    torch.testing.assert_close(latents.view().permute(0, 3, 1, 2), (posterior.mode() - 0.25) * 0.5)
    torch.testing.assert_close(ours.decode(latents), ((theirs.decode(posterior.mode()).sample + 1) / 2).clamp(0, 1))
    noise = torch.randn(posterior.mean.shape)
    drawn = ours.quantizer(ours.encode_latents(images()), noise=RecordedNoise(normal=[noise.permute(0, 2, 3, 1)]))
    torch.testing.assert_close(ours.quantizer.restore(drawn.latents).permute(0, 3, 1, 2), posterior.mean + posterior.std * noise)
    torch.testing.assert_close(drawn.stats["kl"], posterior.kl().mean())


def test_names_of_older_diffusers_versions_are_read(theirs: AutoencoderKL):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, tensor in theirs.state_dict().items():
        for new, name in names.items():
            key = re.sub(rf"(attentions\.\d+\.){re.escape(new)}\.", rf"\1{name}.", key)
        old[key] = tensor
    assert any(".query." in key for key in old)
    ours = KlVae.from_reference(dict(theirs.config), old)
    assert all(torch.equal(tensor, ours.state_dict()[key]) for key, tensor in theirs.state_dict().items())


def test_a_diffusers_folder_loads_without_being_told_what_it_is(theirs: AutoencoderKL, tmp_path):
    theirs.save_pretrained(tmp_path / "diffusers")
    ours = visiontok.from_pretrained(tmp_path / "diffusers")
    saved = visiontok.from_pretrained(visiontok.save_pretrained(ours, tmp_path / "ours"))
    assert saved.config == ours.config == CONFIG
    assert torch.equal(saved.encode(images()).values, ours.encode(images()).values)


def test_noise_draws_and_its_absence_gives_the_mode():
    vae = KlVae(CONFIG).eval()
    first, second = (vae.encode(images(), noise=torch.Generator().manual_seed(4)).values for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, vae.encode(images()).values)
    assert torch.equal(vae.encode(images()).values, vae.encode(images()).values)


def test_any_multiple_of_the_stride_keeps_its_shape():
    vae = KlVae(CONFIG).eval()
    latents = vae.encode(torch.rand(1, 3, 8, 20))
    assert latents.view().shape == (1, 4, 10, 3)
    assert vae.decode(latents).shape == (1, 3, 8, 20)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    vae = KlVae(CONFIG).train()
    colors = torch.rand(4, 3, 1, 1).expand(-1, -1, 16, 16)
    totals = fit(vae.parameters(), lambda step: posterior_loss(vae, colors), steps=40, lr=1e-2)
    assert totals[-1] < totals[0] / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"act_fn": "relu"}, "act_fn"), ({"latents_mean": [0.0]}, "latents_mean"), ({"stray": 1}, "stray"), ({"up_block_types": ["Odd", "Odd"]}, "Odd")],
)
def test_diffusers_configurations_that_mean_another_model_are_refused(theirs: AutoencoderKL, changes, message):
    with pytest.raises(ConfigError, match=message):
        KlVae.from_reference({**theirs.config, **changes}, theirs.state_dict())


def test_stray_and_missing_tensors_are_named(theirs: AutoencoderKL):
    weights = theirs.state_dict()
    with pytest.raises(CheckpointError, match="stray"):
        KlVae.from_reference(dict(theirs.config), {**weights, "stray.weight": torch.zeros(1)})
    del weights["encoder.conv_in.weight"]
    with pytest.raises(CheckpointError, match=r"encoder\.conv_in\.weight"):
        KlVae.from_reference(dict(theirs.config), weights)


@pytest.mark.parametrize(
    ("changes", "message"), [({"norm_groups": 5}, "norm_groups"), ({"encoder_attention": [2]}, "levels"), ({"image_size": 15}, "multiple")]
)
def test_configurations_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        CONFIG.replace(**changes)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(DependencyError, match=r"visiontok\[zoo\]"):
        KlVae(CONFIG)
