"""EnCodec against transformers' own model."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.core.tokenizer import DecodeOptions
from visiontok.tokenizers.audio.encodec.model import SCALE, Encodec


def bandwidths(case: ReferenceCase) -> list[tuple[str, float]]:
    names = sorted(name.removeprefix("codes_") for name in case.outputs if name.startswith("codes_"))
    return [(name, float(name.removeprefix("bw").replace("p", "."))) for name in names]


def chunked(codes: torch.Tensor, frames: int) -> torch.Tensor:
    """(B, T, K) -> (chunks, B, K, frames), the last one padded with zeros, as the library returns them."""
    chunks = torch.nn.functional.pad(codes, (0, 0, 0, -codes.shape[1] % frames)).unflatten(1, (-1, frames))
    return chunks.permute(1, 0, 3, 2)


@pytest.mark.parametrize("case", cases("encodec"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("encodec", case.config, case.weights)
    assert isinstance(model, Encodec)
    audio = case.inputs["audio"] * case.inputs.get("padding_mask", torch.ones(()))
    ours = {}
    for name, bandwidth in bandwidths(case):
        tokens = model.encode(audio, num_levels=model.levels_within(bandwidth))
        codes = model.unwrap(tokens)
        frames = codes.shape[1] if model.chunks is None else model.chunks.frames
        ours[f"codes_{name}"] = chunked(codes, frames)
        ours[f"last_frame_pad_length_{name}"] = torch.tensor(-codes.shape[1] % frames)
        decoded = model.decode_tokens(tokens, DecodeOptions())
        ours[f"audio_{name}"] = decoded[..., : case.outputs[f"audio_{name}"].shape[-1]]
        if SCALE in tokens.extras:
            ours[f"scales_{name}"] = tokens.extras[SCALE].T[..., None]
    if "latents" in case.outputs:
        ours["latents"] = model.encode_latents(audio).transpose(1, 2)
        ours["quantized"] = model.lookup(model.unwrap(model.encode(audio))).transpose(1, 2)
    else:
        first = model.chunks.cut(audio)[0] if model.chunks else audio
        scale = model.encode(audio).extras[SCALE][:, 0, None, None]
        ours["latents_frame0"] = model.encode_latents(first / scale).transpose(1, 2)
    case.compare(ours)


@pytest.mark.parametrize("case", cases("encodec"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("encodec", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["audio"])
    assert torch.equal(tokens.indices, model.encode(case.inputs["audio"]).indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
