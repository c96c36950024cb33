"""What the authors' code of MOSS-Audio-Tokenizer can do beside the release: other norms, gates, positions and searches."""

from __future__ import annotations

import pytest
import torch
from small_models import SMALL
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.layers.carry import Carry
from visiontok.tokenizers.audio.moss_audio_tokenizer.reference import KEY_MAP, fields_of
from visiontok.tokenizers.audio.moss_audio_tokenizer.stages import GatedUnits, Sinusoids, TransformerConfig, transformer

STAGE = {"in_dim": 6, "out_dim": 6, "dim": 8, "depth": 2, "num_heads": 2, "mlp_dim": 32}


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm", "rms_norm_f32"])
@pytest.mark.parametrize("gating", ["none", "silu", "gelu"])
@pytest.mark.parametrize("positions", ["rope", "sin", "sin_rope"])
def test_frames_do_not_read_later_ones(norm: str, gating: str, positions: str) -> None:
    torch.manual_seed(0)
    stage = transformer(TransformerConfig.parse({**STAGE, "norm": norm, "gating": gating, "positions": positions, "layer_scale": None}), window=4)
    x = torch.randn(1, 9, 6)
    torch.testing.assert_close(stage(x)[:, :5], stage(x[:, :5]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 4, 40])
@pytest.mark.parametrize("positions", ["rope", "sin", "sin_rope"])
def test_chunks_in_turn_give_what_the_whole_gives(positions: str, window: int) -> None:
    torch.manual_seed(0)
    stage = transformer(TransformerConfig.parse({**STAGE, "positions": positions, "layer_scale": None}), window=window).eval()
    x = torch.randn(2, 23, 6)
    with torch.no_grad():
        whole = stage(x)
        for sizes in ([5, 1, 1, 3, 13], [1] * 23, [22, 1]):
            carry = Carry()
            parts = [stage(part, carry) for part in x.split(sizes, dim=1)]
            torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)
        if window > 1:
            assert not torch.allclose(stage(x[:, 5:]), whole[:, 5:], atol=1e-3)  # the state matters


def test_positions_are_cosines_then_sines() -> None:
    added = Sinusoids(100.0)(torch.zeros(1, 3, 6))[0, 2]
    angles = torch.tensor([2.0, 2 / 10, 2 / 100])
    torch.testing.assert_close(added, torch.cat([angles.cos(), angles.sin()]))


def test_gated_units() -> None:
    torch.manual_seed(0)
    units, x = GatedUnits(4, 3, "silu"), torch.randn(1, 2, 4)
    hidden = x @ units.linear_in.weight.T
    torch.testing.assert_close(units(x), (F.silu(hidden[..., :3]) * hidden[..., 3:]) @ units.linear_out.weight.T)
    assert TransformerConfig.parse(STAGE).gated_dim == 21
    assert TransformerConfig.parse({**STAGE, "mlp_dim": 30}).gated_dim == 20


def test_other_spellings_of_tensors_are_known() -> None:
    layer, block = "encoder.1.transformer.layers.0", "encoder.1.transformer.blocks.0"
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight",
        "self_attn.in_proj.weight": "attn.qkv.weight",
        "self_attn.out_proj.weight": "attn.proj.weight",
        "norm1.alpha": "norm1.weight",
        "gating.linear_in.weight": "mlp.linear_in.weight",
    }
    for theirs, ours in names.items():
        assert list(KEY_MAP({f"{layer}.{theirs}": torch.zeros(1)})) == [f"{block}.{ours}"]


def test_a_euclidean_search_is_built_and_needs_codes_as_wide_as_latents() -> None:
    small = SMALL["moss-audio-tokenizer"]
    levels = {"type": "residual", "num_levels": 3, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 8}}
    model = visiontok.create("moss-audio-tokenizer", **{**small, "quantizer": levels}).eval()
    sound = torch.rand(1, 1, 50) - 0.5
    assert model.decode(model.encode(sound)).shape == sound.shape
    kwargs = {"input_dim": 8, "rvq_dim": 8, "output_dim": 8, "num_quantizers": 2, "codebook_size": 16, "codebook_dim": 4}
    config = {
        "sampling_rate": 1600, "downsample_rate": 8, "causal_transformer_context_duration": 1.0, "quantizer_type": "rvq", "quantizer_kwargs": kwargs,
        "encoder_kwargs": [{"module_type": "PatchedPretransform", "patch_size": 8}],
        "decoder_kwargs": [{"module_type": "PatchedPretransform", "patch_size": 8}],
    }  # fmt: skip
    with pytest.raises(ConfigError, match="codebook_dim 4"):
        fields_of(config)
    assert fields_of({**config, "quantizer_kwargs": {**kwargs, "codebook_dim": 8}})["quantizer"]["type"] == "residual"
