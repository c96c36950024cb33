"""A gpt written for transformers gives the same logits there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from visiontok.base.errors import ConfigError
from visiontok.generators.condition import Condition
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.hub.transformers_export import export_to_transformers
from visiontok.tokens import Segment, TokenLayout, Tokens

LINE = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(6,), vocab_size=11),), signal_shape=(32, 32))
CLASSES = {"type": "classes", "num_classes": 3, "names": ["a", "b", "c"]}


def gpt(layout: TokenLayout = LINE, **changes) -> GPT:
    torch.manual_seed(0)
    sizes = {"dim": 32, "depth": 2, "num_heads": 4, "num_kv_heads": 2, "multiple_of": 8, "positions": "rope-1d", "condition": CLASSES}
    model = GPT(GPTConfig.parse({"layout": layout, **sizes, **changes})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("condition", [CLASSES, {"type": "none"}], ids=["classes", "none"])
def test_logits_equal_ours(condition, tmp_path: Path):
    model = gpt(condition=condition)
    llama = transformers.LlamaForCausalLM.from_pretrained(export_to_transformers(model, tmp_path / "llama"))
    tokens = torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 2, 1, 2])
    token_map = json.loads((tmp_path / "llama" / "config.json").read_text())["visiontok"]
    first = classes + token_map["classes"][0] if model.num_classes else torch.full((4,), token_map["no_condition"])
    with torch.no_grad():
        theirs = llama(torch.cat([first[:, None], tokens[:, :-1]], dim=1)).logits
        found = Condition(classes=classes) if model.num_classes else Condition()
        hidden, _, _ = model._predictions(Tokens(tokens, LINE), found, torch.zeros(4, dtype=torch.bool))
        ours = model.head.table(hidden)
    torch.testing.assert_close(theirs[..., : LINE.num_codes], ours, rtol=1e-5, atol=1e-5)
    generated = llama.generate(first[:, None], do_sample=False)
    assert generated.shape == (4, 7)
    assert (generated[:, 1:] < 11).all(), "rows of the condition are never written"
    assert torch.equal(generated[:, 1:], model.generate(found if model.num_classes else None, num_samples=4, sampler=model.sampler(top_k=1)).indices)


TWO = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2,), vocab_size=5, codebooks=2),), signal_shape=(32, 32))


@pytest.mark.parametrize(
    ("layout", "changes", "named"),
    [
        (LINE, {"positions": "rope"}, "positions 'rope-1d'"),
        (TWO, {}, "codebooks"),
        (TWO, {"pattern": "parallel"}, "parallel"),
        (LINE, {"is_modulated": True}, "modulates"),
        (LINE, {"block": "gpt2"}, "gpt2"),
        (LINE, {"condition": {**CLASSES, "start": "after"}}, "start"),
        (LINE, {"condition": {"type": "text", "text": {"length": 2, "dim": 3}}}, "text"),
    ],
)
def test_what_llama_cannot_express_is_refused(layout, changes, named, tmp_path: Path):
    with pytest.raises(ConfigError, match=named):
        export_to_transformers(gpt(layout, **changes), tmp_path / "llama")
    assert not (tmp_path / "llama").exists()
