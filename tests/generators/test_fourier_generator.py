"""`gpt` with a Fourier head on ordered codes."""

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError, EvaluationError
from visiontok.generators.decoding import NextTokenSampler, SampleNoise, SpeculativeSampler, TopK
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.heads.fourier import autocorrelation, cumulative, density, sample_series
from visiontok.metrics import roughness_of_distributions
from visiontok.tokens import Segment, TokenLayout, Tokens

LAYOUT = TokenLayout(modality="image", segments=(Segment(name="dims", shape=(2,), vocab_size=(16, 9), codebooks=2),), signal_shape=(32, 32))
SIZES = {"dim": 24, "depth": 2, "num_heads": 2, "multiple_of": 8, "residual_dropout": 0, "ffn_dropout": 0, "token_dropout": 0}
FOURIER = {"num_frequencies": 5, "bias_divisor": 1.0, "weight_divisor": 1.0}


def gpt(**changes) -> GPT:
    torch.manual_seed(0)
    config = {"layout": LAYOUT, "condition": {"type": "classes", "num_classes": 3}, "fourier_head": FOURIER, **SIZES, **changes}
    return GPT(GPTConfig.parse(config)).eval()


@pytest.mark.parametrize("pattern", ["flatten", "parallel", "delay"])
def test_it_learns_what_belongs_to_a_class(pattern, tmp_path):
    model = gpt(pattern=pattern, fourier_head={**FOURIER, "num_frequencies": 16, "regularization": 0}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens, classes = Tokens(torch.tensor([[0, 8, 15, 3], [7, 0, 2, 5], [11, 4, 1, 1]]), LAYOUT), torch.arange(3)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = model(tokens, classes, noise=SampleNoise(0, range(3)))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    visiontok.save_pretrained(model.eval(), tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    greedy = NextTokenSampler(filters=(TopK(1),))
    assert torch.equal(loaded.generate(classes, sampler=greedy).indices, tokens.indices)
    speculative = SpeculativeSampler(gpt(pattern=pattern), greedy)
    assert torch.equal(loaded.generate(classes, sampler=speculative).indices, tokens.indices)


def test_the_penalty_is_part_of_the_loss_but_not_of_the_likelihood():
    tokens, classes = Tokens(torch.randint(9, (4, 4)), LAYOUT), torch.zeros(4, dtype=torch.int64)
    free, held = (gpt(fourier_head={**FOURIER, "regularization": weight}) for weight in (0.0, 0.1))
    held.load_state_dict(free.state_dict())
    without, within = (model.loss(tokens, classes) for model in (free, held))
    assert within["loss"] > without["loss"] + 0.1
    assert within["bits_per_token"] == without["bits_per_token"]
    torch.testing.assert_close(free.nll(tokens, classes).sum() / 16, without["loss"])


def test_half_precision_stays_finite():
    tokens, classes = Tokens(torch.randint(9, (4, 4)), LAYOUT), torch.zeros(4, dtype=torch.int64)
    model = gpt().bfloat16().train()
    loss = model.loss(tokens, classes)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gpt().loss(tokens, classes)["loss"].isfinite()
        assert gpt().generate(classes, sampler=model.sampler(guidance=2.0)).validate().is_full


def test_density_and_distribution_function_belong_together():
    torch.manual_seed(0)
    correlation = autocorrelation(torch.randn(3, 9, dtype=torch.complex64))
    x = torch.linspace(-1, 1, 4001).expand(3, -1)
    values, totals = density(correlation, x), cumulative(correlation, x)
    assert values.min() > -1e-4
    torch.testing.assert_close(totals[:, 0], torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(totals[:, -1], torch.ones(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cumulative_trapezoid(values, x), totals[:, 1:], rtol=0, atol=1e-3)
    uniform = torch.rand(3, 50)
    torch.testing.assert_close(cumulative(correlation, sample_series(correlation, uniform)), uniform, rtol=0, atol=1e-4)


def test_what_it_cannot_be_combined_with():
    with pytest.raises(ConfigError, match="inner_head"):
        gpt(pattern="parallel", inner_head={"depth": 1})
    with pytest.raises(ConfigError, match="discrete"):
        gpt(layout=TokenLayout(modality="image", segments=(Segment(name="latents", shape=(2,), channels=3),), signal_shape=(32, 32)))


def test_roughness_of_known_distributions():
    uniform, point = torch.full((12,), 1 / 12).numpy(), torch.eye(12)[3].numpy()
    assert roughness_of_distributions(uniform) == pytest.approx(0, abs=1e-12)
    assert roughness_of_distributions([uniform, point])[1] > 0.3
    for wrong in ([1.0], [0.5, 0.4], [1.5, -0.5], [float("nan"), 1.0], 1.0):
        with pytest.raises(EvaluationError):
            roughness_of_distributions(wrong)
