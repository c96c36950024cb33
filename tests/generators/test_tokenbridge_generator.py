import math

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError, NonFiniteError, TokenError
from visiontok.core.quantized_latents import quantized_layout
from visiontok.generators.decoding import SampleNoise
from visiontok.generators.orders import masked_positions
from visiontok.generators.tokenbridge_ar.model import TokenBridgeGenerator, TokenBridgeGeneratorConfig
from visiontok.quantizers.dimension_wise import normal_table
from visiontok.tokens import Tokens
from visiontok.tokens.grid import grid_layout

GRID = quantized_layout(grid_layout((3, 3), stride=8, channels=4), 5)
SIZES = {"dim": 16, "depth": 1, "num_heads": 2}
BACKBONE = {"encoder": SIZES, "decoder": {**SIZES, "dim": 24}, "buffer_size": 2, "dropout": 0.0, "attention_dropout": 0.0}


def generator(**changes) -> TokenBridgeGenerator:
    torch.manual_seed(0)
    fields = {
        "layout": GRID,
        "condition": {"type": "classes", "num_classes": 3},
        "backbone": BACKBONE,
        "head": {**SIZES, "order": [2, 0, 3, 1]},
        "code_values": {"levels": 5},
        "sampling": {"num_steps": 4, "guidance": 2.0},
        **changes,
    }
    model = TokenBridgeGenerator(TokenBridgeGeneratorConfig.parse(fields))
    for block in model.head.blocks:
        torch.nn.init.normal_(block.modulation.weight, std=0.1)
    return model.eval()


def random_tokens(batch: int = 4) -> Tokens:
    return Tokens(torch.randint(5, (batch, 36), generator=torch.Generator().manual_seed(1)), GRID)


def test_samples_do_not_depend_on_the_batch():
    model, classes = generator(), torch.arange(6) % 3
    whole = model.generate(classes, noise=SampleNoise(5, range(6)))
    parts = [model.generate(classes[start : start + 2], noise=SampleNoise(5, range(start, start + 2))) for start in (0, 2, 4)]
    assert torch.equal(whole.validate().indices, Tokens.cat(parts).indices)
    assert len({tuple(row) for row in whole.indices.tolist()}) == 6


def test_sampling_reads_what_training_reads():
    """The cached head gives the logits of the whole sequence, unless the first step is added in sampling only, as in the released models."""
    hidden, codes = torch.randn(7, 24), torch.randint(5, (7, 4))
    for is_added in (False, True):
        model = generator(head={**SIZES, "order": [2, 0, 3, 1], "samples_with_first_step": is_added})
        seen = []

        def choose(logits, _without, codebook, seen=seen):
            seen.append(logits)
            return codes[:, codebook]

        with torch.no_grad():
            drawn = model.head.sample(hidden, None, model._plan, model.embed, choose)
            whole = torch.stack(model.head.logits(hidden, codes[:, model.head.order]))
        assert torch.equal(drawn, codes)
        assert torch.allclose(torch.stack(seen), whole, atol=1e-5) is not is_added


def test_a_code_is_predicted_from_those_before_it_only():
    model, hidden, codes = generator(), torch.randn(2, 24), torch.randint(5, (2, 4))
    changed = codes.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 5
    with torch.no_grad():
        before, after = (model.head.logits(hidden, each) for each in (codes, changed))
    assert all(torch.equal(one, other) for one, other in zip(before[:3], after[:3], strict=True))
    assert not torch.equal(before[3], after[3])


def test_draws_of_training_do_not_depend_on_the_batch():
    model, tokens, classes = generator(), random_tokens(), torch.tensor([0, 1, 2, 0])
    counts = masked_positions(4, 9, least=0.7, noise=SampleNoise(3, range(4))).sum(dim=1)
    whole = model.loss(tokens, classes, noise=SampleNoise(3, range(4)))["loss"] * counts.sum()
    apart = [model.loss(tokens[i : i + 1], classes[i : i + 1], noise=SampleNoise(3, [i]))["loss"] * counts[i] for i in range(4)]
    assert whole.item() == pytest.approx(sum(part.item() for part in apart), rel=1e-5)


def test_it_learns_what_belongs_to_a_class():
    model = generator(condition={"type": "classes", "num_classes": 3, "dropout": 0.0}, least_masked=0.1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    tokens, classes, losses = random_tokens(3), torch.arange(3), []
    for step in range(150):
        loss = model(tokens, classes, noise=SampleNoise((0, step), range(3)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert not [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    classes = torch.tensor([2, 0, 1, 1])
    generated = model.eval().generate(classes, noise=SampleNoise(0, range(4)), sampler=model.sampler(guidance=1.0, top_k=1))
    assert (generated.indices == tokens.indices[classes]).float().mean() > 0.9


def test_saved_and_loaded_again(tmp_path):
    for values in ({"levels": 5, "range": 2.0}, normal_table(5, 2.0).tolist()):
        model = generator(code_values=values)
        loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / f"model-{type(values).__name__}"))
        assert loaded.config == model.config == TokenBridgeGeneratorConfig.parse(model.config.to_dict())
        assert torch.equal(loaded.embed(torch.arange(5)), normal_table(5, 2.0))
        samples = [each.generate(torch.tensor([0, 2]), noise=SampleNoise(0, range(2))).indices for each in (model, loaded)]
        assert torch.equal(*samples)


def test_unconditional_in_bfloat16():
    model = generator(condition={"type": "none"}, sampling={"num_steps": 3}).bfloat16().train()
    loss = model.loss(random_tokens())["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.eval().generate(num_samples=2).validate().is_full


def test_damaged_weights_are_named():
    model = generator()
    torch.nn.init.constant_(model.head.outputs[1].bias, math.nan)
    with pytest.raises(NonFiniteError, match=r"head\.outputs\.1\.bias"):
        model.generate(torch.tensor([0, 1]))


def test_what_it_cannot_model():
    with pytest.raises(ConfigError, match="code_values has 6"):
        generator(code_values={"levels": 6})
    with pytest.raises(ConfigError, match="names 3 codebooks"):
        generator(head={**SIZES, "order": [2, 0, 1]})
    with pytest.raises(ConfigError, match="every codebook once"):
        generator(head={**SIZES, "order": [2, 0, 1, 1]})
    with pytest.raises(ConfigError, match="segment of tokens"):
        generator(layout=grid_layout((3, 3), stride=8, channels=4))
    with pytest.raises(TokenError, match="3, 3"):
        generator().loss(Tokens(torch.zeros(1, 16, dtype=torch.int64), GRID.at((2, 2))), torch.tensor([0]))


def test_samples_of_fewer_codebooks_are_refused():
    layout = GRID.replace(levels="any")
    tokens = Tokens(random_tokens().indices, layout)
    with pytest.raises(TokenError, match="2 of 4 codebook levels"):
        generator(layout=layout).loss(tokens.levels(2), torch.tensor([0, 1, 2, 0]))
