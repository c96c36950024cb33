import math

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError, NonFiniteError, TokenError
from visiontok.generators.decoding import ConstantGuidance, RecordedNoise, SampleNoise
from visiontok.generators.decoding.masked_autoregressive import MaskedSchedule
from visiontok.generators.heads.diffusion_schedule import cosine_schedule, kept_steps
from visiontok.generators.mar.model import Mar, MarConfig
from visiontok.generators.orders import masked_positions
from visiontok.tokens import Latents, Segment, TokenLayout
from visiontok.tokens.grid import grid_layout

GRID = grid_layout((4, 4), stride=8, channels=3)
SIZES = {"dim": 16, "depth": 1, "num_heads": 2}
BACKBONE = {"encoder": SIZES, "decoder": {**SIZES, "dim": 24}, "buffer_size": 2, "dropout": 0.0, "attention_dropout": 0.0}


def mar(**changes) -> Mar:
    torch.manual_seed(0)
    fields = {
        "layout": GRID,
        "condition": {"type": "classes", "num_classes": 3},
        "backbone": BACKBONE,
        "head": {"dim": 32, "depth": 2},
        "sampling": {"num_steps": 4, "guidance": 2.0, "diffusion_steps": "ddim10"},
        **changes,
    }
    model = Mar(MarConfig.parse(fields))
    for layer in (model.head.output, *(block.modulation for block in model.head.blocks)):
        torch.nn.init.normal_(layer.weight, std=0.02)
    return model.eval()


def random_latents(batch: int = 4) -> Latents:
    return Latents(torch.randn(batch, 16, 3, generator=torch.Generator().manual_seed(1)), GRID)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_samples_do_not_depend_on_the_batch(patch_size):
    model = mar(patch_size=patch_size)
    classes = torch.arange(6) % 3
    whole = model.generate(classes, noise=SampleNoise(5, range(6)))
    parts = [model.generate(classes[start : start + 2], noise=SampleNoise(5, range(start, start + 2))) for start in (0, 2, 4)]
    assert torch.allclose(whole.validate().values, Latents.cat(parts).values, atol=1e-4)
    assert len({row.sum().item() for row in whole.values}) == 6


def test_draws_of_training_do_not_depend_on_the_batch():
    model, latents, classes = mar(), random_latents(), torch.tensor([0, 1, 2, 0])
    mask = masked_positions(4, 16, least=0.7, noise=SampleNoise(3, range(4)))
    assert len(set(mask.sum(dim=1).tolist())) > 1  # so that some rows of the encoder are padding
    whole = model.loss(latents, classes, noise=SampleNoise(3, range(4)))["loss"] * mask.sum()
    apart = [model.loss(latents[i : i + 1], classes[i : i + 1], noise=SampleNoise(3, [i]))["loss"] * mask[i].sum() for i in range(4)]
    assert whole.item() == pytest.approx(sum(part.item() for part in apart), rel=1e-5)


def test_unknown_positions_are_not_read():
    model, mask = mar(), masked_positions(4, 16, least=0.7, noise=SampleNoise(3, range(4)))
    values, condition = random_latents().values, torch.randn(4, 16)
    changed = torch.where(mask[..., None], values + 100, values)
    assert torch.equal(model.backbone(values, mask, condition), model.backbone(changed, mask, condition))


def test_the_share_of_masked_positions():
    draws = torch.tensor([0.0, 0.5, 1.0])
    mask = masked_positions(3, 100, least=0.7, noise=RecordedNoise(uniform=[draws], permutation=[torch.arange(100).expand(3, -1)]))
    # The median of a normal distribution at 1 with the deviation 0.25, cut off at 0.7 and 1, is about 0.873.
    assert mask.sum(dim=1).tolist() == [70, 88, 100]
    assert mask[0].tolist() == [True] * 70 + [False] * 30


def test_training_lowers_the_loss():
    model = mar(condition={"type": "classes", "num_classes": 3, "dropout": 0.1}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    latents, classes, losses = random_latents(), torch.tensor([0, 1, 2, 0]), []
    for step in range(60):
        loss = model(latents, classes, noise=SampleNoise((0, step), range(4)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])
    assert not [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]


def test_saved_and_loaded_again(tmp_path):
    model = mar(patch_size=2)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config == MarConfig.parse(model.config.to_dict())
    samples = [each.generate(torch.tensor([0, 2]), noise=SampleNoise(0, range(2))).values for each in (model, loaded)]
    assert torch.equal(*samples)


def test_unconditional_and_one_dimensional_layouts():
    line = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(6,), channels=3),), signal_shape=(32, 32))
    model = mar(layout=line, condition={"type": "none"}, sampling={"num_steps": 9, "diffusion_steps": 4})
    assert model.generate(num_samples=2).validate().is_full


def test_without_condition_dropout_there_is_no_guidance():
    model = mar(condition={"type": "classes", "num_classes": 3, "dropout": 0.0})
    with pytest.raises(ConfigError, match="dropout"):
        model.generate(torch.tensor([0]))
    with pytest.raises(ConfigError, match="dropout"):
        model.generate(num_samples=1, sampler=model.sampler(guidance=1.0))
    assert model.generate(torch.tensor([0]), sampler=model.sampler(guidance=1.0)).is_full


def test_damaged_weights_are_named():
    model = mar()
    torch.nn.init.constant_(model.head.output.bias, math.nan)
    with pytest.raises(NonFiniteError, match=r"head\.output\.bias"):
        model.generate(torch.tensor([0, 1]))


def test_other_default_types():
    model, classes = mar(), torch.tensor([0, 1])
    expected = model.generate(classes, noise=SampleNoise(0, range(2))).values
    torch.set_default_dtype(torch.float16)
    try:
        assert torch.equal(model.generate(classes, noise=SampleNoise(0, range(2))).values, expected)
    finally:
        torch.set_default_dtype(torch.float32)
    half = mar().bfloat16().train()
    loss = half.loss(random_latents(), torch.tensor([0, 1, 2, 0]))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert half.eval().generate(classes).validate().values.dtype == torch.float32


def test_layouts_that_it_cannot_model():
    with pytest.raises(ConfigError, match="continuous"):
        mar(layout=grid_layout((4, 4), stride=8, vocab_size=7))
    with pytest.raises(ConfigError, match="patch_size 3"):
        mar(patch_size=3)
    with pytest.raises(TokenError, match="4, 4"):
        mar().loss(Latents(torch.zeros(1, 4, 3), GRID.at((2, 2))), torch.tensor([0]))


def test_the_schedule_of_positions():
    schedule = MaskedSchedule(5, ConstantGuidance(1.0))
    assert schedule.counts(16) == [math.floor(16 * math.cos(math.pi / 2 * (step + 1) / 5)) for step in range(4)] + [0]
    order = torch.stack([torch.randperm(16) for _ in range(2)])
    steps = list(schedule.steps(order))
    assert torch.equal(torch.cat([step.positions for step in steps], dim=1).sort(dim=1).values, torch.arange(16).expand(2, -1))
    assert set(steps[0].positions[0].tolist()) == set(order[0, 15:].tolist())  # from the end of the order
    more_steps_than_positions = MaskedSchedule(9, ConstantGuidance(1.0))
    assert more_steps_than_positions.counts(3)[-1] == 0
    assert sum(step.positions.shape[1] for step in more_steps_than_positions.steps(order[:, :3].argsort())) == 3


def test_respacing():
    assert kept_steps(1000, "100")[:3] == (0, 10, 20)
    assert kept_steps(1000, "100")[-2:] == (989, 999)
    assert kept_steps(1000, "1") == (0,)
    assert kept_steps(1000, "ddim10") == tuple(range(0, 1000, 100))
    assert len(kept_steps(1000, "6,6,0")) == 12
    assert max(kept_steps(1000, "6,6,0")) == 666
    assert kept_steps(10, "2,2,2") == (0, 3, 4, 6, 7, 9)  # sections of 4, 3 and 3 steps
    by_product = {count for count in range(2, 1001) if kept_steps(1000, str(count)) != tuple(round(i * (999 / (count - 1))) for i in range(count))}
    assert len(by_product) == 278
    assert {21, 23, 31} <= by_product
    assert 100 not in by_product
    for wrong in ("1001", "ddim7777", "ddim999", "600,600", "", "ten", "0"):
        with pytest.raises(ConfigError, match="respacing"):
            kept_steps(1000, wrong)
        with pytest.raises(ConfigError, match="respacing"):
            mar(sampling={"diffusion_steps": wrong})


def test_a_respaced_schedule_has_the_same_noise_at_its_steps():
    whole = cosine_schedule(1000)
    kept = whole.respaced("25")
    assert torch.allclose(kept.alphas_bar, whole.alphas_bar[kept.timesteps], rtol=1e-12)
