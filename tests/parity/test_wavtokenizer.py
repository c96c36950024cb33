"""WavTokenizer against the authors' code: every stage of the encoder, the codes, and every stage of the decoder."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import DecodeOptions
from visiontok.tokenizers.audio.wavtokenizer.model import WavTokenizer

STAGES = {
    "backbone_embed": "decoder.embed",
    "backbone_pos_net": "decoder.context",
    "backbone_norm": "decoder.backbone.norm",
    "backbone_out": "decoder.backbone.final_norm",
    "head_linear": "decoder.head.linear",
}


@pytest.mark.parametrize("case", cases("wavtokenizer"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("wavtokenizer", case.config, case.weights)
    assert isinstance(model, WavTokenizer)
    audio = case.inputs["audio"][:, None]
    latents = model.encode_latents(audio)
    quantized = model.quantizer(latents).latents
    tokens = model.encode(audio)
    stages = Taps(model, STAGES)
    decoded = model.decode_tokens(tokens, DecodeOptions())[:, 0]
    case.compare(
        {
            **stages.seen,
            "encoder_out": latents.transpose(1, 2),
            "codes": model.unwrap(tokens).permute(2, 0, 1),
            "features": quantized.transpose(1, 2),
            "features_from_codes": model.lookup(model.unwrap(tokens)).transpose(1, 2),
            "audio": decoded,
            "forward_audio": model.decode_latents(quantized)[:, 0],
        }
    )


@pytest.mark.parametrize("case", cases("wavtokenizer"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("wavtokenizer", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    audio = case.inputs["audio"][:, None]
    tokens = loaded.encode(audio)
    assert torch.equal(tokens.view()[None], case.outputs["codes"])
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("case", cases("wavtokenizer"))
def test_training_parts_of_a_checkpoint_are_ignored(case: ReferenceCase) -> None:
    beside = {f"{name}.weight": torch.zeros(1) for name in ("multiperioddisc", "multiresddisc", "dac", "dacdiscriminator", "melspec_loss")}
    model = visiontok.from_reference("wavtokenizer", case.config, {"state_dict": {**case.weights, **beside}, "global_step": 1})
    assert torch.equal(model.encode(case.inputs["audio"][:, None]).view()[None], case.outputs["codes"])


@pytest.mark.parametrize("case", cases("wavtokenizer"))
def test_several_quantizers_are_refused(case: ReferenceCase) -> None:
    features = case.config["feature_extractor"]
    several = {**features, "init_args": {**features["init_args"], "num_quantizers": 2}}
    with pytest.raises(ConfigError, match="num_quantizers"):
        visiontok.from_reference("wavtokenizer", {**case.config, "feature_extractor": several}, case.weights)
