"""Single steps of a session against the modules that they replace."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.noise import SampleNoise
from visiontok.generators.backbones.llama import LlamaStack
from visiontok.generators.backbones.llama_step import can_stream
from visiontok.generators.compilation import compile_for_sampling
from visiontok.generators.condition import Condition
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.heads.categorical import CodeTable
from visiontok.layers import few_rows
from visiontok.tokens import Segment, TokenLayout, Tokens

LAYOUT = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(3, 4), vocab_size=20),), signal_shape=(12, 16))
TEXT = {"type": "text", "text": {"length": 4, "dim": 5}}


def gpt(**fields: object) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(**{"layout": LAYOUT, "condition": {"type": "classes", "num_classes": 3}, "dim": 32, "depth": 3, "num_heads": 4, **fields}))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def condition_of(model: GPT, samples: int) -> Condition | Tensor:
    """Classes, or texts of which half is padding."""
    if model.config.condition.type == "classes":
        return torch.arange(samples) % 3
    mask = torch.tensor([[True, True, False, False]]).expand(samples, -1)
    return Condition(text=torch.randn(samples, 4, 5, generator=torch.Generator().manual_seed(2)), text_mask=mask)


def hidden_states(model: GPT, condition: Condition | Tensor, samples: int) -> Tensor:
    codes = torch.randint(0, 20, (samples, 12, 1), generator=torch.Generator().manual_seed(1))
    session = model.session(condition, guided=True)
    seen = [torch.cat(session.prefill(codes[:, :2]))]
    seen += [torch.cat(session.step(codes[:, step])) for step in range(2, 6)]
    session.rewind(3)
    return torch.stack([*seen, torch.cat(session.step(codes[:, 7]))])


def processor(*, is_intel: bool, is_packed: bool = True) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(few_rows, "_is_intel", lambda: is_intel)
        for kind in (few_rows.MKLProduct, few_rows.OneDNNProduct):
            monkeypatch.setattr(kind, "LEAST_USES", 1 if is_packed else 1000000)
        monkeypatch.setattr(few_rows.OneDNNProduct, "LEAST_WEIGHTS", 1)

    return patch


PROCESSORS = {
    "intel": processor(is_intel=True),
    "other": processor(is_intel=False),
    "intel, few steps": processor(is_intel=True, is_packed=False),
    "other, few steps": processor(is_intel=False, is_packed=False),
}
CASES: dict[str, dict[str, object]] = {
    "rope": {},
    "rope-1d": {"positions": "rope-1d"},
    "learned": {"positions": "learned"},
    "grouped": {"num_kv_heads": 2},
    "text": {"condition": TEXT},
}


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_a_step_gives_what_the_modules_give(fields: dict[str, object], kind: str, samples: int, monkeypatch: pytest.MonkeyPatch):
    PROCESSORS[kind](monkeypatch)
    model = gpt(**fields)
    condition = condition_of(model, samples)
    assert can_stream(model.backbone)
    streamed = hidden_states(model, condition, samples)
    monkeypatch.setattr("visiontok.generators.gpt.session.can_stream", lambda stack: False)
    torch.testing.assert_close(streamed, hidden_states(model, condition, samples), rtol=1e-4, atol=1e-5)


def replaced(stack: LlamaStack) -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    block = stack.blocks[1]
    block.feed_forward.w1 = Doubled(32, block.feed_forward.w1.out_features, bias=False)


@pytest.mark.parametrize(
    "change",
    [
        LlamaStack.train,
        LlamaStack.bfloat16,
        replaced,
        lambda stack: stack.blocks[0].attention.wo.register_forward_hook(lambda module, args, output: 2 * output),
        lambda stack: nn.utils.parametrizations.weight_norm(stack.blocks[0].attention.wo),
    ],
    ids=["training", "bfloat16", "replaced", "hook", "parametrized"],
)
def test_what_changes_the_modules_is_respected(change: Callable[[LlamaStack], object]):
    stack = gpt().backbone
    change(stack)
    assert not can_stream(stack)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("kind", PROCESSORS)
def test_the_head_gives_the_same_logits_for_few_rows_and_many_steps(kind: str, has_bias: bool, monkeypatch: pytest.MonkeyPatch):
    PROCESSORS[kind](monkeypatch)
    torch.manual_seed(0)
    table = CodeTable(16, 130, bias=has_bias)
    for parameter in table.parameters():
        nn.init.normal_(parameter)
    many = table.for_steps(1000, 6)
    with torch.no_grad():
        for first, size in ((0, 130), (1, 128), (4, 7), (4, 9)):
            for rows in (6, 1, 2, few_rows.LEAST_ROWS, few_rows.MOST_ROWS, few_rows.MOST_ROWS + 1):
                hidden = torch.randn(rows, 16)
                expected = F.linear(hidden, *table.codebook(first, size))
                for logits in (many.logits(hidden, first, size), table.logits(hidden, first, size)):
                    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
                with torch.enable_grad():
                    trained = table.logits(hidden, first, size)
                assert trained.requires_grad
                assert torch.equal(trained, expected)


def test_autocast_is_respected():
    model, classes = gpt(), torch.arange(3)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_stream(model.backbone)
        model.generate(classes)
    assert can_stream(model.backbone)


def test_what_a_step_returned_outlasts_the_next():
    model = gpt()
    codes = torch.zeros(1, 12, 1, dtype=torch.int64)
    session = model.session(torch.tensor([0]), guided=True)
    session.prefill(codes[:, :2])
    first = session.step(codes[:, 2])
    kept = [part.clone() for part in first]
    session.step(codes[:, 3])
    assert all(torch.equal(part, copy) for part, copy in zip(first, kept, strict=True))


def test_a_compiled_backbone_is_used():
    """Two graphs: one for the condition, one for every later step."""
    model, classes = gpt(), torch.arange(3)
    sampler = model.sampler(guidance=2.0, top_k=1)
    expected, graphs = model.generate(classes, sampler=sampler).indices, []

    def count(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    model.backbone.compile(backend=count)
    assert torch.equal(model.generate(classes, sampler=sampler).indices, expected)
    assert 1 <= len(graphs) <= 3


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """What `compile_for_sampling` hands to torch's compiler; it runs as it is."""
    found: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: object, *, config_patches: dict[str, object]) -> Callable[..., object]:
        found.append(graph)
        return graph.forward

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", keep)
    return found


def calls_attention(graph: torch.fx.GraphModule) -> bool:
    return any(node.target is F.scaled_dot_product_attention for node in graph.graph.nodes)


@pytest.mark.parametrize("case", ["rope", "grouped", "text"])
def test_attention_of_single_queries_is_compiled_as_sums(case: str, graphs: list[torch.fx.GraphModule]):
    model = gpt(**CASES[case])
    condition = condition_of(model, 2)
    expected = hidden_states(model, condition, 2)
    compile_for_sampling(model.backbone)
    torch.testing.assert_close(hidden_states(model, condition, 2), expected)
    assert len(graphs) > 1
    assert list(map(calls_attention, graphs)) == [True] + [False] * (len(graphs) - 1)  # the condition is read at once


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_attention_of_other_types_stays_the_librarys(dtype: torch.dtype, graphs: list[torch.fx.GraphModule]):
    model = gpt().to(dtype)
    compile_for_sampling(model.backbone)
    hidden_states(model, torch.arange(2), 2)
    assert len(graphs) > 1
    assert all(map(calls_attention, graphs))


@pytest.mark.usefixtures("graphs")
def test_a_compiled_table_is_read_in_every_step(monkeypatch: pytest.MonkeyPatch):
    model, shapes = gpt(), []
    compile_for_sampling(model.head.table)
    expected = gpt().generate(torch.arange(3), sampler=model.sampler(guidance=2.0, top_k=1)).indices
    compiled = model.head.table._compiled_call_impl
    monkeypatch.setattr(model.head.table, "_compiled_call_impl", lambda hidden: shapes.append(tuple(hidden.shape)) or compiled(hidden))
    assert torch.equal(model.generate(torch.arange(3), sampler=model.sampler(guidance=2.0, top_k=1)).indices, expected)
    assert shapes == [(6, 32)] * 12


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_generator_gives_the_same_samples(capfd: pytest.CaptureFixture[str]):
    model = gpt(depth=2)
    names, sampler = list(model.state_dict()), model.sampler(guidance=2.0)

    def sampled(samples: int) -> Tensor:
        return model.generate(torch.arange(samples), noise=SampleNoise(0, range(samples)), sampler=sampler).indices

    expected = [sampled(samples) for samples in (1, 3)]
    compile_for_sampling(model.backbone)
    compile_for_sampling(model.head.table)
    assert not can_stream(model.backbone)
    actual = [sampled(samples) for samples in (1, 3)]
    assert all(map(torch.equal, actual, expected))
    other = gpt(depth=2)  # of the same sizes: what is compiled for it must not be that of the first
    with torch.no_grad():
        for weight in other.backbone.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    own = other.generate(torch.arange(3), noise=SampleNoise(0, range(3)), sampler=sampler).indices
    compile_for_sampling(other.backbone)
    assert not torch.equal(own, expected[1])
    assert torch.equal(other.generate(torch.arange(3), noise=SampleNoise(0, range(3)), sampler=sampler).indices, own)
    assert torch.equal(sampled(3), expected[1])
    assert list(model.state_dict()) == names
    tokens, classes = Tokens(actual[1], model.layout), torch.arange(3)
    loss = model(tokens, classes)["loss"]  # with gradients the backbone runs as it is
    loss.backward()
    assert all(bool(weight.grad.any()) for weight in model.backbone.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, classes)["loss"], loss)
    assert "autotune" not in "".join(capfd.readouterr()).lower()
