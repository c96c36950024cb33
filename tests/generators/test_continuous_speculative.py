import math

import pytest
import torch
from test_mar_generator import GRID, SIZES, mar

from visiontok.base.errors import ConditionError, ConfigError, NonFiniteError
from visiontok.generators.decoding import GeneratorNoise, SampleNoise
from visiontok.generators.decoding.continuous_speculative import ContinuousSpeculativeSampler, PaperVerification, ReferenceVerification
from visiontok.generators.heads.diffusion import DenoisedLatents


def drafter(**changes):
    encoder = {**SIZES, "dim": 8}
    model = mar(backbone={"encoder": encoder, "decoder": encoder, "buffer_size": 2}, head={"dim": 16, "depth": 1}, **changes)
    return model.eval()


def speculative(model, draft_model=None, **changes):
    return ContinuousSpeculativeSampler(model.sampler(), drafter() if draft_model is None else draft_model, **{"num_draft": 2, **changes})


def test_samples_do_not_depend_on_the_batch():
    model, classes = mar(), torch.arange(6) % 3
    sampler = speculative(model)
    whole = model.generate(classes, noise=SampleNoise(5, range(6)), sampler=sampler)
    parts = [model.generate(classes[i : i + 2], noise=SampleNoise(5, range(i, i + 2)), sampler=sampler).values for i in (0, 2, 4)]
    assert torch.allclose(whole.validate().values, torch.cat(parts), atol=1e-4)


def test_a_model_accepts_its_own_drafts():
    model = mar(sampling={"num_steps": 5, "diffusion_steps": "ddim10"})
    condition, noise = model.checked_condition(torch.tensor([0, 1]), samples=None)[0], GeneratorNoise(torch.Generator().manual_seed(0), model.device)
    # With a window of one step and all steps before it verified, the target sees what the drafter saw.
    with torch.no_grad():
        _, accepted = speculative(model, model, num_draft=1).run(model, condition, 2, noise)
    counts = model.sampler().schedule.counts(16)
    assert accepted.sum(dim=1).tolist() == [counts[0]] * 2  # everything but what the first step, which is the target's, has filled in


def test_the_paper_s_verification_keeps_the_distribution_where_only_the_last_step_differs():
    shape, noise = (1, 200_000, 1), GeneratorNoise(torch.Generator().manual_seed(0), torch.device("cpu"))
    draft, target = (DenoisedLatents(torch.full(shape, mean), torch.full(shape, std), torch.zeros(shape)) for mean, std in ((0.3, 1.0), (0.0, 0.8)))
    drafted = draft.values + draft.std * noise.normal(*shape)
    verified = PaperVerification(attempts=20)(drafted, draft, target, noise)
    assert verified.values.mean().item() == pytest.approx(0.0, abs=0.01)
    assert verified.values.std().item() == pytest.approx(0.8, abs=0.01)
    quantiles = torch.quantile(verified.values.flatten()[:100_000], torch.tensor([0.1, 0.9]))
    assert quantiles.tolist() == pytest.approx([-0.8 * 1.2816, 0.8 * 1.2816], abs=0.02)
    assert 0.5 < verified.accepted.float().mean() < 0.95


def test_large_dimensions_do_not_underflow():
    shape = (1, 4, 256)
    draft, target = (DenoisedLatents(torch.full(shape, mean), torch.full(shape, 1e-3), torch.zeros(shape)) for mean in (0.0, 1.0))
    for verify in (PaperVerification(), ReferenceVerification(1.0)):
        verified = verify(draft.values, draft, target, GeneratorNoise(torch.Generator().manual_seed(0), torch.device("cpu")))
        assert not verified.accepted.any()
        assert torch.allclose(verified.values, target.values, atol=0.01)


def test_what_does_not_fit():
    model, classes = mar(), torch.tensor([0, 2])
    with pytest.raises(ConfigError, match="drafter"):
        model.generate(classes, sampler=speculative(model, drafter(patch_size=2)))
    with pytest.raises(ConfigError, match="drafter"):
        model.generate(classes, sampler=speculative(model, drafter(layout=GRID.at((2, 2)))))
    with pytest.raises(ConditionError, match="class 2"):
        model.generate(classes, sampler=speculative(model, drafter(condition={"type": "classes", "num_classes": 2})))
    with pytest.raises(ConfigError, match="dropout"):
        model.generate(classes, sampler=speculative(model, drafter(condition={"type": "classes", "num_classes": 3, "dropout": 0.0})))
    with pytest.raises(ConfigError, match="temperature"):
        ContinuousSpeculativeSampler(model.sampler(temperature=0.0), model)
    with pytest.raises(ConfigError, match="num_draft"):
        speculative(model, num_draft=0)
    damaged = drafter()
    torch.nn.init.constant_(damaged.head.output.bias, math.nan)
    with pytest.raises(NonFiniteError, match="step 1"):
        model.generate(classes, sampler=speculative(model, damaged))
