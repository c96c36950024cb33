"""Continuous speculative decoding against the authors' code: acceptance, resampling, and whole runs with a drafter."""

from __future__ import annotations

import pytest
import torch
from masked_latents import grid
from reference_case import ReferenceCase, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import Noise, RecordedNoise
from visiontok.generators.decoding.continuous_speculative import (
    ContinuousSpeculativeSampler,
    ReferenceVerification,
    Verified,
    keep_probability,
    log_density,
    log_ratio,
)
from visiontok.generators.heads.diffusion import DenoisedLatents
from visiontok.generators.mar.model import Mar
from visiontok.generators.mar.reference import sampling_from_reference


def draws(case: ReferenceCase, kind: str, samples: int) -> list[Tensor]:
    """The recorded draws of a kind in their order, by sample."""
    names = sorted(name for name in case.inputs if name.startswith("draw") and name.endswith(kind))
    return [case.inputs[name].unflatten(0, (samples, -1)) for name in names]


@pytest.mark.parametrize("case", cases("cspd", lambda case: case.config["kind"] == "accept"))
def test_acceptance_and_resampling(case: ReferenceCase):
    # All rows as the latents of one sample.
    draft, target = (DenoisedLatents(*(case.inputs[f"{model}_{name}"][None] for name in ("mean", "std", "logstd_sum"))) for model in ("q", "p"))
    x, verify = case.inputs["x"][None], ReferenceVerification(case.config["inner_temperature"])
    factor = verify.log_factor(draft, target)
    noise = RecordedNoise(uniform=draws(case, "uniform", 1), normal=draws(case, "normal", 1))
    ours = {
        "fixed_term": factor.exp(),
        "accept_ratio": log_ratio(x, draft, target, factor, temperature=verify.inner_temperature).exp(),
        "q_pdf": log_density(x, draft).exp(),
        "p_pdf": log_density(x, target).exp(),
        "residual_alpha": keep_probability(x, draft, target, factor),
        "result": verify(x, draft, target, noise).values,
    }
    case.compare({name: value[0] for name, value in ours.items()})


class Watched(ReferenceVerification):
    """Keeps what it saw, under the names of the recorded outputs."""

    def __init__(self, inner_temperature: float) -> None:
        super().__init__(inner_temperature)
        object.__setattr__(self, "seen", [])

    def __call__(self, latents: Tensor, draft: DenoisedLatents, target: DenoisedLatents, noise: Noise) -> Verified:
        verified = super().__call__(latents, draft, target, noise)
        ratio = log_ratio(latents, draft, target, self.log_factor(draft, target), temperature=self.inner_temperature).exp()
        found = {"x": latents, "ratio": ratio, "out": verified.values}
        for name, steps in (("q", draft), ("p", target)):
            found |= {f"{name}_mean": steps.values, f"{name}_std": steps.std, f"{name}_logstd": steps.log_std}
        self.seen.append({name: value.flatten(0, 1) for name, value in found.items()})
        return verified


def model(case: ReferenceCase, which: str) -> Mar:
    weights = {name.removeprefix(f"{which}."): tensor for name, tensor in case.weights.items() if name.startswith(f"{which}.")}
    # Their class table has 1000 rows, whatever the configuration says.
    return visiontok.from_reference("mar", {**case.config[which], "class_num": len(weights["class_emb.weight"])}, weights)


@pytest.mark.parametrize("case", cases("cspd", lambda case: case.config["kind"] == "run"))
def test_runs(case: ReferenceCase):
    target, drafter = model(case, "target"), model(case, "draft")
    numbers, labels = dict(case.config["run"]), case.inputs["labels"]
    watched, own = Watched(numbers.pop("inner_temperature")), {"num_draft": numbers.pop("num_draft"), "prefill": numbers.pop("ratio")}
    base = sampling_from_reference(numbers, diffusion_steps=target.config.sampling.diffusion_steps).sampler()
    shared = [case.inputs["noise"], case.inputs["inter_noise"]]

    def run(generator: Mar, sampler: ContinuousSpeculativeSampler) -> Tensor:
        samples = len(labels)
        noise = RecordedNoise(
            permutation=[case.inputs["orders"]], uniform=draws(case, "uniform", samples), normal=[*shared, *draws(case, "normal", samples)]
        )
        return grid(generator.generate(labels, sampler=sampler, noise=noise).validate().view())

    ours = {"latents": run(target, ContinuousSpeculativeSampler(base, drafter, watched, **own))}
    ours |= {f"verify{number}_{name}": value for number, seen in enumerate(watched.seen) for name, value in seen.items()}
    ours["n_verify"] = torch.tensor(len(watched.seen))
    for name, generator in (("target", target), ("draft", drafter)):
        alone = ContinuousSpeculativeSampler(base, generator, prefill=1.0)
        ours[f"{name}_only_latents"] = run(generator, alone)
    case.compare(ours)
