"""FocalCodec against the authors' own code, and its quantizer in training against SpeechBrain's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, cases
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.quantizers import BinaryQuantizerConfig
from visiontok.tokenizers.audio.focalcodec.model import FocalCodec

WITHOUT_COUNTERPART = {
    "sig_knn_.*": "voice conversion by the nearest features of another voice is not built",
    "(feats|toks)_length": "sounds of different lengths are encoded by themselves, not masked",
}


def authors(case: ReferenceCase) -> dict[str, Any]:
    """Their configuration, without the note about the recording."""
    return {name: value for name, value in case.config.items() if name != "clip1_samples"}


def load(case: ReferenceCase, weights: dict[str, Tensor] | None = None) -> FocalCodec:
    model = visiontok.from_reference("focalcodec", authors(case), weights or case.weights)
    assert isinstance(model, FocalCodec)
    return model


def tokens_of(model: FocalCodec, audio: Tensor) -> Tensor:
    return model.encode(audio[:, None]).view()


@pytest.mark.parametrize("case", cases("focalcodec"))
def test_every_stage(case: ReferenceCase) -> None:
    model, audio = load(case), case.inputs["audio"]
    encoder = model.encoder
    conv = encoder.feature_extractor(audio)
    projected = encoder.feature_proj(encoder.norm(conv))
    features = encoder(audio)
    first = model.compressor.layers[0].downscale(features)
    latents = model.encode_latents(audio[:, None])
    tokens = tokens_of(model, audio)
    codes = model.quantizer.lookup(tokens)
    restored = model.decompressor(codes)
    sound = model.decode_latents(codes)
    ours = {
        "conv_features": conv,
        "projected_features": projected,
        "positional": encoder.encoder.positional_embedding(projected),
        "feats": features,
        "compressor_downscale0": first,
        "compressor_layer0": model.compressor.layers[0].focal_block(first),
        "compressor_out": latents,
        "lats": F.normalize(latents, dim=-1),
        "toks": tokens,
        "codes": codes,
        "decompressor_layer0": model.decompressor.layers[0](model.decompressor.in_proj(codes)),
        "qfeats": restored,
        "decoder_backbone": model.decoder.backbone(model.decoder.embed(restored.transpose(1, 2))),
        "sig_from_toks": sound[:, 0],
        "sig_from_feats": model.decoder(features)[:, 0],
        "forward_sig": model.fit(sound, *model.output_size(audio.shape[1:]))[:, 0],
        "toks_3_samples": tokens_of(model, audio[:1, :3]),
        **in_training(case, latents),
    }
    if model.config.encoder.causal:
        chunk = model.config.encoder.hop * (1 + model.config.encoder.lookahead)
        whole = audio[:, : audio.shape[1] // chunk * chunk]
        tokens = tokens_of(model, whole)
        decoded = model.decode_latents(model.quantizer.lookup(tokens))[:, 0]
        for way in ("offline_whole", "streamed"):
            ours |= {f"toks_{way}": tokens, f"sig_{way}": decoded}
    else:
        padded = case.inputs["audio_padded"]
        ours |= {"toks_padded_no_length": tokens_of(model, padded)}
        ours |= {"toks_clip1_alone": tokens_of(model, padded[1:, : case.config["clip1_samples"]])}
    absent = {pattern: reason for pattern, reason in WITHOUT_COUNTERPART.items() if "length" not in pattern or not model.config.encoder.causal}
    case.compare(ours, without_counterpart=absent)
    assert_decoded(case, model, model.decode(model.encode(audio[:, None])))


def assert_decoded(case: ReferenceCase, model: FocalCodec, decoded: Tensor) -> None:
    expected = model.spec.clamp(case.outputs["forward_sig"])
    torch.testing.assert_close(decoded[:, 0], expected, rtol=0, atol=case.tolerance)


def in_training(case: ReferenceCase, latents: Tensor) -> dict[str, Tensor]:
    """The recorded entropy terms weigh the diversity by 0.7."""
    floor = {"kind": "max", "eps": 1e-5}
    entropy = {"weight": 0.1, "batch_weight": 0.7, "sample_log": floor, "batch_log": floor}
    fields = {"dim": latents.shape[-1], "normalize": True, "codes": "sphere", "bit_order": "msb", "commitment_weight": 0.0, "entropy": entropy}
    leaf = latents.detach().clone().requires_grad_(True)
    quantized = BinaryQuantizerConfig.parse(fields).build().train()(leaf)
    weights = torch.linspace(-1, 1, leaf.numel()).view_as(leaf)
    (through,) = torch.autograd.grad((quantized.latents * weights).sum(), leaf, retain_graph=True)
    loss = quantized.losses["entropy"]
    (gradient,) = torch.autograd.grad(loss, leaf)
    return {"train_quantized": quantized.latents, "train_st_grad": through, "train_aux_loss": loss[None], "train_aux_grad": gradient}


@pytest.mark.parametrize("case", cases("focalcodec"))
def test_save_and_load(case: ReferenceCase, tmp_path: Any) -> None:
    model = load(case)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config == type(model.config).parse(model.config.to_dict())
    audio = case.inputs["audio"][:, None]
    tokens = loaded.encode(audio)
    assert torch.equal(tokens.view(), case.outputs["toks"])
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("case", cases("focalcodec"))
def test_names_of_the_first_release(case: ReferenceCase) -> None:
    parts = {
        "compressor": (".downscale.", ".focal_block."),
        "decompressor": (".focal_block.", ".upscale."),
    }
    old: dict[str, Tensor] = {}
    for name, tensor in case.weights.items():
        where, _, rest = name.partition(".layers.")
        for number, part in enumerate(parts.get(where, ())):
            if rest.partition(".")[2].startswith(part[1:]):
                name = name.replace(part, f".{number}.", 1)
                break
        if ".qkv_proj." in name:
            old |= {name.replace("qkv", own): chunk.contiguous() for own, chunk in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            old[name] = tensor
    assert set(old) != set(case.weights)
    expected = load(case).state_dict()
    for name, tensor in load(case, old).state_dict().items():
        assert torch.equal(tensor, expected[name]), name
