"""The families whose tokens are bits: BSQ-ViT and Open-MAGVIT2's tokenizer."""

from __future__ import annotations

import pytest
import torch
from family_checks import assert_bfloat16_is_close, assert_learns_colors, assert_round_trips

import visiontok
from visiontok.base.errors import ConfigError, SignalError
from visiontok.base.resources import configs_folder
from visiontok.core.model import Model
from visiontok.losses import ReconstructionConfig
from visiontok.registry import checkpoints, find_family
from visiontok.tokenizers.image.bsq_vit.model import BsqVit, spherical
from visiontok.tokenizers.image.open_magvit2.model import OpenMagvit2
from visiontok.training.recipe import load_recipe

VIT = {"dim": 32, "depth": 1, "num_heads": 4, "patch_size": 4}
NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 6, "norm_groups": 4}
CONFIGS = {
    "bsq-vit": {"image_size": 16, "encoder": VIT, "decoder": VIT, "head_dim": 24, "quantizer": spherical(6)},
    "open-magvit2": {"image_size": 16, "net": NET, "quantizer": {"dim": 6, "entropy": {"weight": 0.01}}},
}
VITCONFIG = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 1, "heads": 4, "mlp_ratio": 4}


def model(family: str, **changes: object) -> Model:
    torch.manual_seed(0)
    return visiontok.create(family, **{**CONFIGS[family], **changes}).eval()


def images(count: int = 2, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", CONFIGS)
def test_configuration_and_weights_round_trip(family: str, tmp_path) -> None:
    assert_round_trips(model(family), images(), tmp_path)


@pytest.mark.parametrize("family", CONFIGS)
def test_training_lowers_the_loss(family: str) -> None:
    colors = torch.nn.functional.interpolate(images(4, 2), scale_factor=8.0)  # four squares of one color each
    objective = ReconstructionConfig(quantizer_weight=0.1).build()
    stats = assert_learns_colors(model(family).train(), colors, objective=objective, steps=40)
    assert {"sample_entropy", "batch_entropy"} <= set(stats)


@pytest.mark.parametrize("family", CONFIGS)
def test_bfloat16_encodes_and_decodes(family: str) -> None:
    assert_bfloat16_is_close(model(family), model(family), images())


@pytest.mark.parametrize("family", CONFIGS)
def test_the_same_bits_in_several_indices_decode_alike(family: str) -> None:
    quantizer = CONFIGS[family]["quantizer"]
    whole, split = model(family), model(family, quantizer={**quantizer, "chunks": [2, 4]})
    tokens = split.encode(images())
    assert tokens.layout.segments[0].vocab_sizes == (4, 16)
    assert tokens.view().shape == (*whole.encode(images()).view().shape, 2)
    assert torch.equal(split.decode(tokens), whole.decode(whole.encode(images())))


def test_open_magvit2_takes_any_multiple_of_its_stride_but_one_position() -> None:
    tokenizer = model("open-magvit2")
    tokens = tokenizer.encode(torch.rand(1, 3, 12, 20))
    assert tokens.view().shape == (1, 6, 10)
    assert tokenizer.decode(tokens).shape == (1, 3, 12, 20)
    with pytest.raises(SignalError, match="one latent position"):
        tokenizer.decode(tokenizer.encode(torch.rand(1, 3, 2, 2)))


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="quantizer of 7"):
        model("open-magvit2", quantizer={"dim": 7})
    with pytest.raises(ConfigError, match="must be equal"):
        model("bsq-vit", decoder={**VIT, "patch_size": 8})


def test_thirty_six_bits_become_two_indices_or_the_authors_groups() -> None:
    config = {"embed_dim": 36, "l2_norm": True, "post_q_l2_norm": True, "persample_entropy_compute": "analytical", "vitconfig": VITCONFIG}
    for group, chunks in ((1, (18, 18)), (9, (9, 9, 9, 9))):
        assert BsqVit.config_from_reference({**config, "embed_group_size": group}, {}).quantizer.chunks == chunks
    assert BsqVit.config_from_reference({**config, "embed_dim": 24}, {}).quantizer.chunks is None


def test_the_authors_whole_file_tells_the_range_of_pixels() -> None:
    arguments = {"embed_dim": 6, "vitconfig": VITCONFIG, "embed_group_size": 3}
    assert BsqVit.config_from_reference(arguments, {}).pixel_range == (0, 1)
    whole = {"model": {"target": "transcoder.models.bsqvit.VITBSQModel", "params": arguments}, "data": {"zero_mean": True}}
    config = BsqVit.config_from_reference(whole, {})
    assert config.pixel_range == (-1, 1)
    assert config.quantizer.entropy.group_size == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"embed_dim": 6, "vitconfig": VITCONFIG, "codebook": 1}, "codebook"),
        ({"embed_dim": 6, "vitconfig": {**VITCONFIG, "num_frames": 4}}, "num_frames"),
        ({"embed_dim": 6, "vitconfig": VITCONFIG, "logit_laplace": True}, "logit_laplace"),
        ({"embed_dim": 6}, "vitconfig"),
    ],
)
def test_what_a_bsq_vit_cannot_be_is_named(config, message) -> None:
    with pytest.raises(ConfigError, match=message):
        BsqVit.config_from_reference(config, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"quant_conv": True}, "quant_conv"), ({"n_embed": 100}, "64 codes"), ({"ddconfig": {"ch": 8}}, "ch_mult")],
)
def test_what_an_open_magvit2_cannot_be_is_named(changes, message) -> None:
    sizes = {"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "z_channels": 6, "resolution": 16}
    with pytest.raises(ConfigError, match=message):
        OpenMagvit2.config_from_reference({"ddconfig": sizes, "n_embed": 64, "embed_dim": 6, **changes}, {})


RELEASED_SHAPES = {
    "bsq-vit-b18": {
        "module.encoder.conv1.weight": (768, 192),
        "module.encoder.positional_embedding": (1024, 768),
        "module.decoder.transformer.resblocks.11.attn.in_proj_weight": (2304, 768),
        "module.decoder.ffn.0.weight": (3072, 768),
        "module.decoder.conv_out.bias": (192,),
        "module.quant_embed.weight": (18, 768),
    },
    "open-magvit2-256": {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.down.3.downsample.bias": (256,),
        "encoder.down.2.block.0.nin_shortcut.weight": (256, 128, 1, 1),
        "encoder.conv_out.weight": (18, 512, 1, 1),
        "decoder.mid_block.3.conv2.weight": (512, 512, 3, 3),
        "decoder.up.4.upsample.conv1.weight": (2048, 512, 3, 3),
        "decoder.adaptive.3.gamma.weight": (512, 18),
        "decoder.adaptive.0.beta.bias": (128,),
    },
}


@pytest.mark.parametrize("name", RELEASED_SHAPES)
def test_released_sizes_have_the_published_names_and_shapes(name: str) -> None:
    family, checkpoint = checkpoints()[name]
    model_class = family.model_class()
    with torch.device("meta"):
        built = model_class(model_class.config_from_reference(checkpoint.reference_config, {}))
        theirs = {key: torch.empty(shape) for key, shape in RELEASED_SHAPES[name].items()}
    ours = built.state_dict()
    mapped = model_class.weights_from_reference(theirs)
    assert len(mapped) == len(theirs)
    assert {key: tensor.shape for key, tensor in mapped.items()} == {key: ours[key].shape for key in mapped}


@pytest.mark.parametrize("family", CONFIGS)
def test_registered_checkpoints_build_with_the_listed_number_of_parameters(family: str) -> None:
    for checkpoint in find_family(family).checkpoints:
        with torch.device("meta"):
            built = visiontok.create(checkpoint.name)
        assert sum(parameter.numel() for parameter in built.parameters()) == checkpoint.parameters
        assert built.layout.length == checkpoint.tokens
        sizes = set(built.layout.segments[0].vocab_sizes)
        assert checkpoint.vocab_size == (sizes.pop() if len(sizes) == 1 else None)
        assert built.config.image_size == checkpoint.signal.size[0]


@pytest.mark.parametrize(("recipe", "name"), [("bsq-vit-b18", "bsq-vit-b18-approx"), ("open-magvit2-256", "open-magvit2-256")])
def test_the_recipes_build_the_released_models(recipe: str, name: str) -> None:
    family, checkpoint = checkpoints()[name]
    model_class = family.model_class()
    config = load_recipe(configs_folder() / "tokenizers" / f"{recipe}.yaml").model.config
    assert model_class.config_class.parse(config) == model_class.config_from_reference(checkpoint.reference_config, {})
