import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visiontok.base.errors import ConfigError
from visiontok.tokenizers.image.titok.model import TiTok, TiTokConfig
from visiontok.training.ema import averaged_copy, effective_decay, update_average
from visiontok.training.optimizer import OptimizerConfig, build_optimizer
from visiontok.training.schedule import ScheduleConfig, learning_rate


def test_cosine_rises_linearly_then_falls_to_its_floor():
    config = ScheduleConfig(warmup=4, min_lr_ratio=0.1)
    rates = [learning_rate(config, peak=1.0, step=step, steps=104) for step in range(105)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[54] == pytest.approx(0.55)  # half way between peak and minimum
    assert rates[104] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_constant_schedule_stays_at_the_peak():
    config = ScheduleConfig(kind="constant", warmup=2)
    assert [learning_rate(config, peak=0.5, step=step, steps=10) for step in range(4)] == [0.25, 0.5, 0.5, 0.5]


def test_milestones_drop_the_rate_once_each():
    config = ScheduleConfig(kind="milestones", milestones=(5, 8), drop=0.5, warmup=2)
    rates = [learning_rate(config, peak=4.0, step=step, steps=10) for step in range(10)]
    assert rates == [2, 4, 4, 4, 4, 2, 2, 2, 1, 1]
    for values in ({"kind": "milestones"}, {"milestones": [3]}):
        with pytest.raises(ConfigError, match="give both or neither"):
            ScheduleConfig.parse(values)


def test_a_schedule_with_its_own_length_does_not_bend_when_the_run_is_lengthened():
    config = ScheduleConfig(steps=100)
    assert learning_rate(config, peak=1.0, step=50, steps=100) == learning_rate(config, peak=1.0, step=50, steps=200)
    assert learning_rate(config, peak=1.0, step=150, steps=200) == pytest.approx(0.1)


@given(step=st.integers(0, 2000), warmup=st.integers(0, 100), ratio=st.floats(0, 1), steps=st.integers(1, 1000))
def test_rates_stay_between_zero_and_the_peak(step, warmup, ratio, steps):
    rate = learning_rate(ScheduleConfig(warmup=warmup, min_lr_ratio=ratio), peak=2.0, step=step, steps=steps)
    assert 0 <= rate <= 2.0 + 1e-12
    assert not math.isnan(rate)


def test_effective_decay_starts_at_zero_and_ends_at_the_decay():
    assert effective_decay(0.999, 0) == 0.0
    assert effective_decay(0.999, 1) == pytest.approx(2 / 11)
    assert effective_decay(0.999, 90) == pytest.approx(0.91)
    assert effective_decay(0.999, 10**6) == 0.999


class Codebook(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.codes = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


def test_the_average_follows_trained_parameters_and_copies_everything_else():
    model = Codebook()
    average = averaged_copy(model)
    expected = torch.zeros(3)
    for step in range(5):
        with torch.no_grad():
            model.weight.fill_(step + 1.0)
            model.codes.fill_(step + 1.0)
            model.steps += 1
        update_average(average, model, decay=0.5, step=step)
        decay = 0.0 if step == 0 else min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1.0)
    assert torch.allclose(average.weight, expected)
    assert torch.equal(average.codes, torch.full((2,), 5.0))  # a codebook that is itself a moving average must not lag behind
    assert int(average.steps) == 5
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_vectors_and_named_parameters_are_not_decayed():
    module = nn.ModuleDict({"proj": nn.Linear(2, 3), "embed": nn.Embedding(4, 2)})
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1, no_decay=("embed",)), module)
    decayed, kept = optimizer.param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 2)]
    assert decayed["weight_decay"] == 0.1
    assert sorted(tuple(p.shape) for p in kept["params"]) == [(3,), (4, 2)]
    assert kept["weight_decay"] == 0.0


def test_parts_may_have_a_learning_rate_of_their_own():
    module = nn.ModuleDict({"encoder": nn.Linear(2, 3), "prior": nn.Linear(3, 2)})
    groups = build_optimizer(OptimizerConfig(lr_factors={"prior.": 50.0}), module).param_groups
    found = {tuple(p.shape): group["lr_factor"] for group in groups for p in group["params"]}
    assert found == {(3, 2): 1.0, (3,): 1.0, (2, 3): 50.0, (2,): 50.0}
    with pytest.raises(ConfigError, match="piror"):
        build_optimizer(OptimizerConfig(lr_factors={"piror.": 50.0}), module)


def test_of_a_titok_only_matrices_and_kernels_are_decayed():
    vit = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
    quantizer = {"type": "vq", "codebook_size": 4, "dim": 4}
    config = {"image_size": 16, "num_latent_tokens": 2, "encoder": vit, "decoder": vit, "quantizer": quantizer}
    model = TiTok(TiTokConfig.parse(config))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(parameter)] for parameter in build_optimizer(OptimizerConfig(), model).param_groups[0]["params"]}
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    blocks = {f"{net}.blocks.0.{layer}.weight" for net in ("encoder", "decoder") for layer in layers}
    assert decayed == blocks | {"encoder.to_latents.weight", "head.layers.0.weight", "head.conv.weight"}


def test_frozen_parameters_are_left_out_and_a_wholly_frozen_module_is_refused():
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    assert [len(group["params"]) for group in build_optimizer(OptimizerConfig(), module).param_groups] == [1]
    module.requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        build_optimizer(OptimizerConfig(), module)
