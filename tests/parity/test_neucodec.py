"""NeuCodec against transformers' own model, and against the authors' class with its own names of tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, cases
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.tokenizers.audio.neucodec.model import NeuCodec


def is_whole(case: ReferenceCase) -> bool:
    """Not of DistillNeuCodec, which is a family of its own."""
    return "distill" not in case.config


def load(case: ReferenceCase) -> NeuCodec:
    model = visiontok.from_reference("neucodec", case.config, case.weights)
    assert isinstance(model, NeuCodec)
    return model


def stages(model: NeuCodec, audio: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    latents = model.join(audio, hidden)
    quantized = model.quantizer(latents)
    codes = model.unwrap(model.wrap(latents, quantized.indices))
    return {
        "semantic_hidden": hidden,
        "acoustic": model.acoustic_encoder(audio),
        "pre_quant": latents,
        "fsq_in": model.quantizer.fsq.project_in(latents),
        "codes": codes.transpose(1, 2),
        "latents": quantized.latents.transpose(1, 2),
        "latents_from_codes": model.lookup(codes),
        "audio": model.decode_latents(model.lookup(codes)),
    }


@pytest.mark.parametrize("case", cases("neucodec", lambda case: "_lengths" in case.config))
def test_every_stage_of_the_library(case: ReferenceCase) -> None:
    """A padded batch goes through the networks with the masks of the recording; our own encoding knows no padding."""
    model = load(case)
    audio, features, mask = case.inputs["input_values"], case.inputs["input_features"], case.inputs["input_features_mask"]
    ours = stages(model, audio, model.hidden_states(features, mask))
    frames = ours["codes"].shape[-1]
    ours["semantic"] = model.semantic_adapter(ours["semantic_hidden"].transpose(1, 2))
    read = ours["latents_from_codes"]

    def decoded(valid: Tensor) -> Tensor:
        return model.acoustic_decoder(read, attention_mask=valid.bool()[:, None, None].expand(-1, 1, frames, frames))

    lengths = torch.tensor(case.config["_lengths"])
    true = torch.arange(frames) < (lengths[:, None] + model.hop) // model.hop
    theirs = case.outputs["audio_codes_mask"]
    ours |= {"audio_true_mask": decoded(true), "audio_masked": decoded(theirs), "forward_audio": decoded(theirs)}
    clip = case.inputs["audio"][1:, None, : int(lengths[1])]
    alone = model.encode(clip)
    padded = F.pad(clip[:, 0], (0, model.hop - clip.shape[-1] % model.hop))
    found = model.speech_features(padded, sample_rate=16000)
    torch.testing.assert_close(found, case.inputs["input_features_clip1_alone"], rtol=0, atol=1e-3)
    ours["codes_clip1_alone"] = model.unwrap(alone).transpose(1, 2)
    ours["audio_clip1_alone"] = model.decode_latents(model.lookup(model.unwrap(alone)))
    case.compare(ours, without_counterpart={"audio_codes_mask": "counts 1.5 times too many frames"})


@pytest.mark.parametrize("case", cases("neucodec", lambda case: "up_ratios" in case.config))
def test_every_stage_of_the_authors_class(case: ReferenceCase) -> None:
    model = load(case)
    audio, padded = case.inputs["audio"], case.outputs["padded_audio"]
    hidden = model.hidden_states(case.outputs["input_features"])
    ours = stages(model, padded, hidden)
    case.compare(
        {
            **ours,
            "padded_audio": F.pad(audio, (0, model.hop - audio.shape[-1] % model.hop)),
            "input_features": model.speech_features(padded[:, 0], sample_rate=16000),
            "semantic": model.semantic_adapter(hidden.transpose(1, 2)),
            "codes_exact_multiple": model.unwrap(model.encode(audio[..., :1600])).transpose(1, 2),
        }
    )
    assert torch.equal(model.unwrap(model.encode(audio)).transpose(1, 2), case.outputs["codes"])


@pytest.mark.parametrize("case", cases("neucodec", is_whole))
def test_save_and_load(case: ReferenceCase, tmp_path: Any) -> None:
    model = load(case)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config == type(model.config).parse(model.config.to_dict())
    audio = case.inputs["audio"].flatten(0, -2)[:1, None]
    tokens = loaded.encode(audio)
    assert torch.equal(tokens.indices, model.encode(audio).indices)
    decoded = loaded.decode(tokens)
    assert torch.equal(decoded, model.decode(tokens))
    assert decoded.shape == (1, 1, audio.shape[-1] * 3 // 2)
    assert loaded.spec.rate == 24000
