"""What FlexTok promises beside parity: any length in one batch, reproducible images, configurations that cannot run code, training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from decoding_checks import assert_lengths_share_a_batch, assert_noise_follows_from_tokens_or_is_given
from family_checks import changed, fit

import visiontok
from visiontok import Psnr
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.noise import RecordedNoise
from visiontok.decoders.flow.guidance import AdaptiveProjected, ClassifierFree
from visiontok.decoders.flow.sampling import FlowSampling
from visiontok.tokenizers.image.flextok.model import FlexTok, FlexTokConfig
from visiontok.tokenizers.shared.flow_tokenizer import FlowOptions

TRUNK = {"dim": 16, "depth": 2, "num_heads": 2}
SIZES = {
    "image_size": 16,
    "vae": None,
    "patch_size": 4,
    "num_registers": 8,
    "quantizer": {"levels": [4, 5]},
    "encoder": TRUNK,
    "decoder": TRUNK,
    "time_features": 16,
    "sampling": {"steps": 3, "guidance": None},
}
GUIDED = FlowSampling(steps=3, guidance=AdaptiveProjected(scale=3.0))
REFERENCE = Path(__file__).parents[2] / "reference" / "flextok" / "tiny_a" / "config.json"


@pytest.fixture(scope="module")
def model() -> FlexTok:
    torch.manual_seed(0)
    model = visiontok.create("flextok", **SIZES).eval()
    for parameter in model.parameters():  # nothing may stay at its zero start
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sampling", [FlowSampling(steps=3, guidance=None), FlowSampling(steps=3, guidance=ClassifierFree(scale=3.0)), GUIDED])
def test_lengths_share_a_batch(model, sampling):
    assert_lengths_share_a_batch(model, images(), torch.tensor([1, 8, 5]), FlowOptions(sampling=sampling))


def test_one_register_stands_for_all_beyond_the_prefix(model):
    """Against the sequence spelled out, register by register."""
    decoder, codes, noise = model.decoder, torch.randn(2, 8, 2), torch.randn(2, *model.config.grid)
    lengths = torch.tensor([3, 6])
    counted = decoder(noise, torch.tensor([0.3, 0.8]), decoder.condition(codes, lengths))
    kept = decoder.from_latents(codes) + decoder.register_positions
    spelled = torch.where((torch.arange(8) < lengths[:, None])[..., None], kept, decoder.mask_token)
    torch.testing.assert_close(
        decoder(noise, torch.tensor([0.3, 0.8]), decoder.condition(codes, lengths)._replace(registers=spelled, mask=None)), counted
    )


def test_tokens_come_in_order(model):
    """A register's token does not depend on the registers after it."""
    shorter = visiontok.create("flextok", **{**SIZES, "num_registers": 5}).eval()
    state = {
        name: tensor[:5] if name in ("encoder.registers", "decoder.register_positions") else tensor for name, tensor in model.state_dict().items()
    }
    shorter.load_state_dict(state)
    assert torch.equal(shorter.encode(images()).indices, model.encode(images(), num_tokens=5).indices)


def test_decoding_is_reproducible_and_takes_noise(model):
    assert_noise_follows_from_tokens_or_is_given(model, images(), torch.randn(3, 16, 16, 3, generator=torch.Generator().manual_seed(2)))


def test_a_target_finds_a_length_for_every_image(model):
    tokens = model.encode(images(), target=Psnr(5.0))
    assert tokens.sample_lengths.shape == (3,)
    assert bool(Psnr(5.0).reached(images(), model.decode(tokens))[tokens.sample_lengths < 8].all())


def test_guidance_of_one_is_none(model):
    tokens = model.encode(images(), num_tokens=4)
    plain = model.decode(tokens)
    for rule in (ClassifierFree(scale=1.0), AdaptiveProjected(scale=1.0)):
        torch.testing.assert_close(model.decode_with(tokens, FlowOptions(sampling=FlowSampling(steps=3, guidance=rule))), plain)
    assert not torch.allclose(model.decode_with(tokens, FlowOptions(sampling=GUIDED)), plain)


def test_configuration_round_trip(model, tmp_path):
    assert FlexTokConfig.parse(json.loads(json.dumps(model.config.to_dict()))) == model.config
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.decode(loaded.encode(images())), model.decode(model.encode(images())))
    with pytest.raises(ConfigError, match="divide"):
        visiontok.create("flextok", **{**SIZES, "patch_size": 3})


def test_the_loss_falls():
    torch.manual_seed(0)
    model = visiontok.create("flextok", **{**SIZES, "image_size": 8, "patch_size": 2}).train()
    plain = torch.rand(16, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 8, 8)
    losses = fit(model.parameters(), lambda step: model(plain).losses["flow"], steps=80, lr=3e-3)
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_compiled_or_not_a_step_has_no_choices_in_it(model):
    """One graph serves every step of a decode: the time is data, not a constant."""
    condition = model.decoder.condition(torch.randn(1, 4, 2), torch.tensor([4]))
    noise = torch.randn(1, *model.config.grid)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    step = torch.compile(model.decoder, backend=count, fullgraph=True)
    with torch.no_grad():
        for time in (1.0, 0.5):
            torch.testing.assert_close(step(noise, torch.full((1,), time), condition), model.decoder(noise, torch.full((1,), time), condition))
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("encoder/_target_", "os.system", "not imported"),
        ("decoder/module_dict/dec_to_patches/_target_", "flextok.model.postprocessors.heads.MLPHead", "not imported"),
        ("encoder/module_dict/enc_channels_to_last/per_sample_op", {"_target_": "subprocess.run", "_partial_": True}, "per_sample_op"),
        ("encoder/module_dict/extra", {"_target_": "os.system"}, "in this order"),
        ("decoder/module_dict/dec_nested_dropout", None, "in this order"),
        ("decoder/module_dict/dec_to_patches/use_mup_readout", True, "use_mup_readout"),
        ("decoder/module_dict/dec_transformer/rotary", True, "rotary"),
        ("decoder/module_dict/dec_transformer/adaLN_expansion", 1, "adaLN_expansion"),
        ("encoder/module_dict/enc_seq_packer/mask_mode", "full", "mask_mode"),
        ("decoder/module_dict/dec_nested_dropout/size_sampling_mode", "cubic", "cubic"),
        ("vae/scaling_factor", None, "scaling_factor"),
        ("teacher", {"_target_": "os.system"}, "teacher"),
    ],
)
def test_only_what_is_known_is_read(path, value, message):
    with pytest.raises(ConfigError, match=message):
        FlexTok.config_from_reference(changed(json.loads(REFERENCE.read_text()), path, value), {})


def test_tensors_without_a_place_are_listed():
    tree = json.loads(REFERENCE.read_text())
    with pytest.raises(CheckpointError, match="surprise"):
        visiontok.from_reference("flextok", tree, {"encoder.module_dict.surprise.weight": torch.zeros(1)})


def test_the_published_recipe_builds_the_released_size():
    from visiontok.base.resources import configs_folder
    from visiontok.registry import checkpoints
    from visiontok.training.recipe import load_recipe

    config = load_recipe(configs_folder() / "tokenizers" / "flextok-d12-d12.yaml").model.config
    family, entry = checkpoints()["flextok-d12-d12-in1k"]
    recipe, released = FlexTokConfig.parse(config), family.model_class().config_from_reference(entry.reference_config, {})
    assert recipe.replace(sample_posterior=False) == released


def test_the_autoencoder_is_not_trained():
    vae = {"image_size": 16, "channels": (4, 4), "norm_groups": 2, "num_res_blocks": 1, "bottleneck": {"dim": 4}}
    model = visiontok.create("flextok", **{**SIZES, "vae": vae, "patch_size": 2, "sample_posterior": True}).train()
    torch.nn.init.normal_(model.decoder.head.weight)
    loss = model(images()).losses["flow"]
    loss.backward()
    assert all(parameter.grad is None for parameter in model.vae.parameters())
    model.eval()
    assert torch.equal(model.encode(images()).indices, model.encode(images()).indices)
    with torch.no_grad():
        posterior = model.vae.encode_latents(images())
    torch.testing.assert_close(model.features(images()), model.vae.quantizer.posterior(posterior)[0])
    drawn = model.features(images(), noise=RecordedNoise(normal=[torch.ones(3, *model.config.grid)]))
    assert not torch.allclose(drawn, model.features(images()))


def test_a_released_configuration_goes_before_the_registered_sizes():
    from visiontok.base.config import merge
    from visiontok.registry import checkpoints

    tree = json.loads(REFERENCE.read_text())
    for name in ("flextok-d12-d12-in1k", "flextok-d18-d18-in1k", "flextok-d18-d28-in1k", "flextok-d18-d28-dfn"):
        registered = checkpoints()[name][1].reference_config
        assert FlexTok.config_from_reference(merge(tree, registered), {}) == FlexTok.config_from_reference(tree, {})
