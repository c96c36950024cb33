"""What the families with a grid of tokens share: LlamaGen's tokenizer, IBQ, ELM's binary autoencoder."""

from __future__ import annotations

import pytest
import torch
from family_checks import assert_bfloat16_is_close, assert_learns_colors, assert_round_trips

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.resources import configs_folder
from visiontok.core.model import Model
from visiontok.registry import checkpoints
from visiontok.tokenizers.image.elm_bae.model import ElmBaeConfig
from visiontok.tokenizers.image.elm_bae.reference import key_map
from visiontok.tokenizers.image.ibq.model import Ibq
from visiontok.tokenizers.image.llamagen_vq.model import LlamaGenVq
from visiontok.tokenizers.shared.moving_average import averaged_weights, last_weights
from visiontok.tokenizers.shared.taming_keys import attention_levels
from visiontok.training.recipe import load_recipe

NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4, "attention_levels": [1]}
BAE_NET = {**NET, "last_activation": False}
QUANTIZERS = {
    "llamagen-vq": {"type": "vq", "codebook_size": 32, "dim": 4, "normalize_latents": True, "normalize_codes": True, "entropy": {"weight": 0.01}},
    "ibq": {"codebook_size": 32, "dim": 6, "entropy": {"weight": 0.3, "temperature": 0.1}},
    "elm-bae": {"dim": 8, "chunks": [3, 3]},
}


def model(family: str, **changes: object) -> Model:
    torch.manual_seed(0)
    net = BAE_NET if family == "elm-bae" else NET
    values = {"image_size": 16, "encoder": net, "decoder": net, "quantizer": QUANTIZERS[family], **changes}
    return visiontok.create(family, **values).eval()


def images(count: int = 2, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", QUANTIZERS)
def test_any_multiple_of_the_stride_keeps_its_shape(family: str) -> None:
    tokenizer = model(family)
    tokens = tokenizer.encode(images(height=12, width=20))
    assert tokens.view().shape[:3] == (2, 6, 10)
    assert tokens.layout.signal_shape == (12, 20)
    image = tokenizer.decode(tokens)
    assert image.shape == (2, 3, 12, 20)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert torch.equal(tokenizer.encode(images()).indices, tokenizer.encode(images()).indices)


@pytest.mark.parametrize("family", QUANTIZERS)
def test_configuration_and_weights_round_trip(family: str, tmp_path) -> None:
    assert_round_trips(model(family), images(), tmp_path)


@pytest.mark.parametrize("family", QUANTIZERS)
def test_training_lowers_the_loss(family: str) -> None:
    colors = torch.nn.functional.interpolate(images(4, 2, 2), scale_factor=8.0)  # four squares of one color each
    assert_learns_colors(model(family).train(), colors)


@pytest.mark.parametrize("family", QUANTIZERS)
def test_bfloat16_encodes_and_decodes(family: str) -> None:
    assert_bfloat16_is_close(model(family), model(family), images())


@pytest.mark.parametrize("family", QUANTIZERS)
def test_nets_that_do_not_fit_each_other_are_refused(family: str) -> None:
    deeper = {**NET, "channel_mult": [1, 2, 2]}
    with pytest.raises(ConfigError, match="not the decoder's 4"):
        model(family, decoder=deeper)
    with pytest.raises(ConfigError, match="no multiple of the stride 2"):
        model(family, image_size=17)


def test_elms_latents_are_as_wide_as_the_nets() -> None:
    with pytest.raises(ConfigError, match=r"must be equal, not \(256, 16, 256\)"):
        ElmBaeConfig.parse({"quantizer": {"dim": 16, "chunks": [4]}})


def test_bits_are_drawn_only_when_noise_is_given() -> None:
    tokenizer = model("elm-bae")
    first, second = (tokenizer.encode(images(), noise=torch.Generator().manual_seed(5)).indices for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, tokenizer.encode(images()).indices)


def test_levels_are_named_by_their_sides_in_the_configured_image() -> None:
    assert attention_levels(levels=5, resolution=256, attended=[16]) == ((4,), (4,))
    assert attention_levels(levels=5, resolution=256, attended=[32, 128]) == ((1, 3), (1, 3))
    assert attention_levels(levels=2, resolution=33, attended=[33]) == ((0,), ())  # the decoder's finest level is 32 wide


def test_averages_are_found_under_names_without_dots() -> None:
    last = {"encoder.conv_in.weight": torch.zeros(1), "quant_conv.bias": torch.zeros(2)}
    averages = {f"model_ema.{name.replace('.', '')}": tensor + 1 for name, tensor in last.items()}
    whole = {**last, **averages, "model_ema.decay": torch.tensor(0.999), "model_ema.lossx": torch.ones(1), "loss.x": torch.ones(1)}
    assert {name: float(tensor[0]) for name, tensor in averaged_weights(whole).items()} == dict.fromkeys(last, 1.0)
    assert last_weights(whole) == last
    with pytest.raises(CheckpointError, match=r"2 tensors have none under model_ema\.: encoder\.conv_in\.weight, quant_conv\.bias"):
        averaged_weights(last)


IBQ_SIZES = {"z_channels": 8, "resolution": 16, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [8]}


def test_authors_configurations_with_unknown_or_missing_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="codebok"):
        LlamaGenVq.config_from_reference({"codebok": 3}, {})
    with pytest.raises(ConfigError, match=r"ddconfig\.tanh_out"):
        Ibq.config_from_reference({"ddconfig": {**IBQ_SIZES, "tanh_out": True}, "n_embed": 4, "embed_dim": 8}, {})
    with pytest.raises(ConfigError, match="n_embed"):
        Ibq.config_from_reference({"ddconfig": IBQ_SIZES, "embed_dim": 8}, {})
    with pytest.raises(ConfigError, match="in_channels"):
        Ibq.config_from_reference({"ddconfig": {**IBQ_SIZES, "in_channels": 1}, "n_embed": 4, "embed_dim": 8}, {})
    with pytest.raises(ConfigError, match="emb_dim"):
        visiontok.from_reference("elm", {"codebook_size": 4}, {})
    with pytest.raises(CheckpointError, match=r"stray\.weight"):
        visiontok.from_reference("llamagen-vq", {"ch": 32, "encoder_ch_mult": [1], "decoder_ch_mult": [1]}, {"stray.weight": torch.zeros(1)})


@pytest.mark.parametrize("name", ["llamagen-vq-ds16", "llamagen-vq-ds8", "ibq-16384", "elm-bae-2x10"])
def test_the_published_recipes_build_the_released_models(name: str) -> None:
    family, checkpoint = checkpoints()[name]
    model_class = family.model_class()
    recipe = load_recipe(configs_folder() / "tokenizers" / f"{name}.yaml").model.config
    assert model_class.config_class.parse(recipe) == model_class.config_from_reference(checkpoint.reference_config, {})


def test_elms_blocks_are_counted_through_in_the_order_in_which_they_run() -> None:
    places = {
        "encoder.blocks.0.weight": "encoder.conv_in.weight",
        "encoder.blocks.3.conv.bias": "encoder.levels.0.downsample.conv.bias",
        "encoder.blocks.7.conv_out.weight": "encoder.levels.2.blocks.0.shortcut.weight",  # 128 -> 256 channels
        "encoder.blocks.8.conv_out.weight": None,
        "encoder.blocks.14.norm.weight": "encoder.levels.4.attention.0.norm.weight",
        "encoder.blocks.17.conv1.weight": "encoder.mid.0.conv1.weight",
        "encoder.blocks.20.bias": "encoder.norm_out.bias",
        "encoder.blocks.21.bias": "encoder.conv_out.bias",
        "generator.blocks.0.weight": "decoder.norm_in.weight",
        "generator.blocks.1.weight": "decoder.conv_in.weight",
        "generator.blocks.3.proj_out.weight": "decoder.mid.1.attn.proj.weight",
        "generator.blocks.5.conv_out.weight": None,
        "generator.blocks.8.norm.bias": "decoder.levels.4.attention.1.norm.bias",
        "generator.blocks.9.conv.weight": "decoder.levels.4.upsample.conv.weight",
        "generator.blocks.10.conv_out.bias": "decoder.levels.3.blocks.0.shortcut.bias",  # 512 -> 256 channels
        "generator.blocks.20.norm2.weight": "decoder.levels.0.blocks.1.norm2.weight",
        "generator.blocks.22.weight": "decoder.conv_out.weight",
        "generator.logsigma.0.weight": None,
    }
    config = ElmBaeConfig()
    keys = key_map(config.encoder, config.decoder)
    numbered = {f"ae.{name}": torch.tensor(number) for number, name in enumerate(places)}
    found = {int(number): name for name, number in keys(numbered).items()}
    assert [found.get(number) for number in range(len(places))] == list(places.values())
