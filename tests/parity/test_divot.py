"""Divot against the authors' code: encoder behind CLIP, resamplers, and the mixture head with its loss and its samples."""

from __future__ import annotations

import re

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases

from visiontok.generators.heads import GaussianMixture, MixtureHead, MixtureHeadConfig
from visiontok.generators.heads.mixture import SAMPLINGS
from visiontok.tokenizers.video.divot.encoder import EncoderConfig, FeatureEncoder
from visiontok.tokenizers.video.divot.reference import ENCODER_KEYS, RESAMPLER_KEYS, read_encoder, read_resampler, without_batch
from visiontok.tokenizers.video.divot.resampler import ResamplerConfig

LANGUAGE_MODEL = {"llm_input": "the projection into the language model, which is not here"}
OTHER_STREAM = (
    {".*_seed[0-9]+.*": "torch 2.6 draws other numbers from the same seed than the recording did"} if torch.__version__.startswith("2.6.") else {}
)


class SeededDraws:
    """What `torch.multinomial` and `torch.normal` draw after `torch.manual_seed`."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype).exponential_(generator=self.generator)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, generator=self.generator)


def part_of(case: ReferenceCase, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in case.weights.items() if name.startswith(prefix)}


@pytest.mark.parametrize("case", cases("divot"))
@torch.no_grad()
def test_divot(case: ReferenceCase) -> None:
    features = case.inputs["clip_features"][:, :, 1:]
    side = int(features.shape[2] ** 0.5)
    sizes = case.config["visual_encoder"]
    config = EncoderConfig.parse(read_encoder(sizes))
    encoder = FeatureEncoder(config, feature_dim=features.shape[-1]).eval()
    encoder.load_state_dict(without_batch(ENCODER_KEYS(part_of(case, "video_tokenizer."))))
    blocks = {f"st_block{number}": f"spacetime.blocks.{number}" for number in range(config.depth)}
    names = {"temporal_encoder": "temporal", "spatial_pool": "pool", "norm": "norm", "st_transformer_norm": "spacetime.norm", **blocks}
    taps, mlps = Taps(encoder, names), []
    for layer in encoder.resampler.layers:
        layer.fc2.register_forward_hook(lambda module, args, output: mlps.append(output))
    tokens = encoder(features.unflatten(2, (side, side)))
    ours = {**taps.seen, "divot_tokens": tokens}
    ours |= {f"resampler_ff{number}": output for number, output in enumerate(mlps)}

    resampler = ResamplerConfig.parse(read_resampler(case.config["image_proj_model"])).build(config.resampler.output_dim).eval()
    resampler.load_state_dict(without_batch(RESAMPLER_KEYS(part_of(case, "image_proj_model."))))
    ours["detokenizer_context"] = resampler(tokens)

    hidden, channels = case.inputs["llm_hidden"], tokens.shape[-1]
    head = MixtureHead(MixtureHeadConfig(num_components=case.config["num_gmm_kernel"]), dim=hidden.shape[-1], channels=channels)
    places = {"proj.0.": "fc1.", "proj.2.": "fc2."}
    head.load_state_dict({places[name[:7]] + name[7:]: tensor for name, tensor in part_of(case, "output_resampler.").items()})
    ours["gmm_params"] = parameters = head(hidden)
    mixture = head.mixture(parameters)
    ours |= {"gmm_means": mixture.means, "gmm_variances": mixture.variances, "gmm_logits": mixture.logits, "gmm_mean_prediction": mixture.mean()}
    everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool)
    ours["gmm_loss_vs_tokens"] = head.loss(hidden, tokens, everywhere, SeededDraws(0)).mean()
    for name in case.outputs:
        found = re.fullmatch(r"gmm_(weighted_)?sample_(seed(\d+)|replay)_var([\d.]+)", name)
        if not found or (OTHER_STREAM and found[3]):
            continue
        temperature = float(found[4]) ** 0.5
        if found[3]:
            ours[name] = SAMPLINGS["weighted" if found[1] else "component"](mixture, SeededDraws(int(found[3])), temperature)
        else:
            ours[name] = replayed(mixture, case).component(Recorded(case.inputs["eps"]), temperature)
    case.compare(ours, without_counterpart={**LANGUAGE_MODEL, **OTHER_STREAM})


class Recorded:
    """Recorded normal draws; whichever exponential ones, since one component has all the probability."""

    def __init__(self, eps: torch.Tensor) -> None:
        self.eps = eps

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.ones(shape, dtype=dtype)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return self.eps


def replayed(mixture: GaussianMixture, case: ReferenceCase) -> GaussianMixture:
    """The mixture whose recorded components are certain."""
    chosen = torch.nn.functional.one_hot(case.inputs["component_indices"], mixture.logits.shape[-1])
    return GaussianMixture(mixture.means, mixture.variances, chosen.float().log())
