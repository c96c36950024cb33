"""X-Codec against transformers' own model."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions
from visiontok.tokenizers.audio.xcodec.model import Xcodec


@pytest.mark.parametrize("case", cases("xcodec"))
def test_every_stage(case: ReferenceCase) -> None:
    model = visiontok.from_reference("xcodec", case.config, case.weights)
    assert isinstance(model, Xcodec)
    audio = case.inputs["audio"]
    latents = model.encode_latents(audio)
    tokens = model.encode_prepared(audio, EncodeOptions())
    ours = {
        "semantic_features": model.semantic_features(audio),
        "latents": latents.transpose(1, 2),
        "quantized": model.lookup(model.unwrap(tokens)).transpose(1, 2),
    }
    for name in [name for name in case.outputs if name.startswith("codes_bw")]:
        fewer = tokens.levels(model.levels_within(float(name.removeprefix("codes_bw").replace("p", "."))))
        ours[name] = model.unwrap(fewer).transpose(1, 2)
        ours[name.replace("codes", "audio")] = model.decode_tokens(fewer, DecodeOptions())
    ours["forward_audio"] = model.decode_tokens(tokens, DecodeOptions())[..., : audio.shape[-1]]
    case.compare(ours)


@pytest.mark.parametrize("case", cases("xcodec"))
def test_the_semantic_loss_is_over_what_the_codes_give_of_the_features(case: ReferenceCase) -> None:
    """By transformers' own layers, which it does not call itself."""
    import transformers

    config = {key: value for key, value in case.config.items() if key != "architectures"}
    library = transformers.XcodecModel(transformers.XcodecConfig(**config)).eval()
    library.load_state_dict(case.weights)
    model = visiontok.from_reference("xcodec", case.config, case.weights).train()
    audio = model.preprocessing.pad(case.inputs["audio"])
    output = model(audio)
    with torch.no_grad():
        quantized = library.quantizer.decode(library.encode(audio).audio_codes.transpose(0, 1))
        restored = library.decoder_semantic(library.fc1(quantized.transpose(1, 2)).transpose(1, 2))
        expected = (restored.transpose(1, 2) - library._extract_semantic_features(audio)).square().mean()
    torch.testing.assert_close(output.losses["semantic"].detach(), 100 * expected, rtol=1e-3, atol=1e-5)
    output.losses["semantic"].backward()
    reached = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None and bool(parameter.grad.any())}
    assert reached == {"acoustic_encoder", "encoder_semantic", "decoder_semantic", "fc", "fc1"}


@pytest.mark.parametrize("case", cases("xcodec"))
def test_save_and_load(case: ReferenceCase, tmp_path) -> None:
    model = visiontok.from_reference("xcodec", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = loaded.encode(case.inputs["audio"])
    assert torch.equal(tokens.indices, model.encode(case.inputs["audio"]).indices)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))
