from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontok.base.errors import ConfigError
from visiontok.quantizers import BinaryQuantizerConfig

CONFIGS = st.fixed_dictionaries(
    {
        "dim": st.integers(1, 12),
        "num_bits": st.sampled_from([None, 5]),
        "normalize": st.booleans(),
        "scale": st.sampled_from([0.5, 1.0]),
        "codes": st.sampled_from(["cube", "sphere"]),
        "bit_order": st.sampled_from(["msb", "lsb"]),
        "scale_gradient": st.booleans(),
    }
)


@settings(max_examples=50, deadline=None)
@given(values=CONFIGS, split=st.booleans(), training=st.booleans(), shape=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_lookup_of_the_indices_is_what_the_decoder_reads(values, split, training, shape):
    torch.manual_seed(0)
    bits = values["num_bits"] or values["dim"]
    chunks = (1, bits - 1) if split and bits > 1 else None
    config = BinaryQuantizerConfig(**values, chunks=chunks)
    quantizer = config.build().train(training)
    quantized = quantizer(torch.randn(*shape, values["dim"], requires_grad=True))
    assert quantized.indices.shape == ((*shape, 2) if chunks else tuple(shape))
    torch.testing.assert_close(quantized.latents, quantizer.lookup(quantized.indices), rtol=0, atol=1e-6)
    assert BinaryQuantizerConfig.parse(config.to_dict()) == config


@pytest.mark.parametrize(("codes", "scale", "length"), [("sphere", 1.0, 1.0), ("sphere", 0.5, 0.5), ("cube", 1.0, 3.0)])
def test_codes_lie_where_they_should(codes, scale, length):
    quantizer = BinaryQuantizerConfig(dim=9, codes=codes, scale=scale).build()
    torch.testing.assert_close(quantizer(torch.randn(7, 9)).latents.norm(dim=-1), torch.full((7,), length))


def test_zero_is_a_negative_bit():
    quantized = BinaryQuantizerConfig(dim=3).build()(torch.tensor([0.0, 1.0, -1.0]))
    assert quantized.latents.tolist() == [-1, 1, -1]
    assert quantized.indices.item() == 2


def test_the_gradient_passes_straight_through_scaled_where_asked():
    latents, cotangent = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    for scale_gradient, factor in ((False, 1.0), (True, 0.5)):
        config = BinaryQuantizerConfig(dim=4, codes="sphere", scale_gradient=scale_gradient, entropy=None)
        quantized = config.build()(latents)
        assert torch.equal(quantized.latents.abs(), torch.full((3, 4), 0.5))
        (found,) = torch.autograd.grad((quantized.latents * cotangent).sum(), latents)
        torch.testing.assert_close(found, cotangent * factor)


def test_commitment_is_averaged_over_elements_or_positions():
    latents = torch.randn(5, 8)
    losses = {mean: BinaryQuantizerConfig(dim=8, commitment_mean=mean).build()(latents).losses["commitment"] for mean in ("elements", "positions")}
    torch.testing.assert_close(losses["elements"], 0.25 * (latents.abs() - 1).square().mean())
    torch.testing.assert_close(losses["positions"], 8 * losses["elements"])


def test_losses_are_zero_in_evaluation_unless_asked_for():
    latents = torch.randn(5, 8)
    silent, loud = (BinaryQuantizerConfig(dim=8, losses_in_eval=asked).build() for asked in (False, True))
    assert [float(loss) for loss in silent.eval()(latents).losses.values()] == [0, 0]
    trained, evaluated = silent.train()(latents).losses, loud.eval()(latents).losses
    assert all(torch.equal(trained[name], evaluated[name]) for name in ("commitment", "entropy"))


def test_descending_the_entropy_loss_spreads_the_codes_and_settles_the_bits():
    torch.manual_seed(0)
    latents = (torch.randn(256, 6) * 0.1 + 0.3).requires_grad_(True)
    quantizer = BinaryQuantizerConfig(dim=6, entropy={"weight": 1.0, "inv_temperature": 1.0}, commitment_weight=0.0).build()
    before = len(quantizer(latents).indices.unique())
    optimizer = torch.optim.Adam([latents], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        quantized = quantizer(latents)
        quantized.losses["entropy"].backward()
        optimizer.step()
    assert before < 20 < 50 < len(quantized.indices.unique())
    assert quantized.stats["sample_entropy"] < 1 < 4 < quantized.stats["batch_entropy"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents_get_codes_of_their_type(dtype):
    quantizer = BinaryQuantizerConfig(dim=8, normalize=True, codes="sphere").build()
    latents = torch.randn(50, 8).to(dtype)
    quantized = quantizer(latents)
    assert quantized.latents.dtype == dtype
    assert torch.equal(quantized.indices, quantizer(latents.float()).indices)


def test_thirty_six_bits_are_one_exact_index_or_two():
    latents = torch.full((1, 36), 1.0)
    joint = BinaryQuantizerConfig(dim=36, bit_order="msb", entropy={"group_size": 1})
    assert joint.vocab_size == (2**36,)
    assert joint.build()(latents).indices.tolist() == [2**36 - 1]
    split = joint.replace(chunks=(18, 18))
    assert split.vocab_size == (2**18, 2**18)
    assert split.build()(latents).indices.tolist() == [[2**18 - 1, 2**18 - 1]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 8, "chunks": (4, 5)}, "must add up to 8 bits"),
        ({"dim": 80, "entropy": None}, "must add up to 80 bits"),
        ({"dim": 36}, "group_size 36"),
        ({"dim": 8, "entropy": {"group_size": 3}}, "must divide the 8 bits"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        BinaryQuantizerConfig.parse(values)
