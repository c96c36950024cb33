"""SpeechTokenizer against the authors' code: every stage, levels apart, and one training step of the codebooks."""

from __future__ import annotations

import copy

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import DecodeOptions
from visiontok.tokenizers.audio.speechtokenizer.model import SpeechTokenizer


def of_levels(model: SpeechTokenizer, codes: torch.Tensor, start: int) -> torch.Tensor:
    """The sum (B, T, D) of the levels from `start` on, for their codes (B, T, k)."""
    return sum(model.quantizer.levels[start + number].lookup(part) for number, part in enumerate(codes.unbind(dim=-1)))  # type: ignore[return-value]


def without_first_level(model: SpeechTokenizer, latents: torch.Tensor) -> torch.Tensor:
    """The codes (B, T, K - 1) of the later levels for latents that are taken for what the first one left."""
    later = copy.deepcopy(model.quantizer)
    later.levels, later.num_levels = later.levels[1:], later.num_levels - 1
    indices = later(latents).indices
    assert indices is not None
    return indices


@pytest.mark.parametrize("case", cases("speechtokenizer"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("speechtokenizer", case.config, case.weights)
    assert isinstance(model, SpeechTokenizer)
    audio = case.inputs["audio"]
    latents = model.encode_latents(audio)
    tokens = model.encode(audio)
    codes = model.unwrap(tokens)
    training = copy.deepcopy(model.quantizer).train()
    trained = training(latents.detach())
    first, last = of_levels(model, codes[..., :1], 0), of_levels(model, codes[..., -1:], codes.shape[-1] - 1)
    case.compare(
        {
            "encoder_out": latents.transpose(1, 2),
            "codes": codes.permute(2, 0, 1),
            "codes_nq2": model.unwrap(model.encode(audio, num_levels=2)).permute(2, 0, 1),
            "codes_st1": without_first_level(model, latents).permute(2, 0, 1),
            "quantized": model.lookup(codes).transpose(1, 2),
            "layer_quantized_0": first.transpose(1, 2),
            "layer_quantized_1": last.transpose(1, 2),
            "audio": model.decode_tokens(tokens, DecodeOptions()),
            "audio_rvq1": model.decode_tokens(tokens.levels(1), DecodeOptions()),
            "audio_rvq2to3": model.decode_latents(of_levels(model, codes[..., 1:3], 1)),
            "forward_audio": model.decode_latents(model.quantizer(latents).latents),
            "semantic_feature": model.semantic_features(codes),
            "train_codes": trained.indices.permute(2, 0, 1),
            "train_commit_loss": trained.losses["commitment"],
            "train_cluster_size_after_0": training.levels[0].ema.counts,
            "train_embed_avg_after_0": training.levels[0].ema.sums,
            "train_embed_after_0": training.levels[0].codebook,
        },
        without_counterpart={
            "d_axis_distill_loss": "the distillation of the authors' training needs a teacher",
            "forward_commit_loss": "zero in the authors' evaluation",
        },
    )


@pytest.mark.parametrize("case", cases("speechtokenizer"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("speechtokenizer", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["audio"])
    assert torch.equal(loaded.unwrap(tokens).permute(2, 0, 1), case.outputs["codes"])
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("case", cases("speechtokenizer"))
def test_an_unknown_activation_is_refused(case: ReferenceCase) -> None:
    with pytest.raises(ConfigError, match="GELU"):
        visiontok.from_reference("speechtokenizer", {**case.config, "activation": "GELU"}, case.weights)
