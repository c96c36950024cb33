"""OmniTokenizer's generators: their pairing with tokenizers, their files, and what is refused."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from family_checks import fit
from small_models import SMALL

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.noise import SampleNoise
from visiontok.generators.omnitokenizer.model import OmniTokenizerGenerator
from visiontok.hub.reading import read_weights
from visiontok.registry import checkpoints

REFERENCE = Path(__file__).parents[1] / "reference" / "omnitokenizer"


def reference(case: str, **changes: object) -> dict[str, object]:
    return {**json.loads((REFERENCE / case / "config.json").read_text()), **changes}


def weights(case: str) -> dict[str, torch.Tensor]:
    return dict(read_weights(REFERENCE / case / "weights.safetensors").tensors)


@pytest.mark.parametrize(("name", "frames"), [("omnitokenizer-imagenet-ar", 1), ("omnitokenizer-ucf-ar", 17), ("omnitokenizer-k600-ar", 17)])
def test_released_generators_write_tokens_of_their_tokenizers(name: str, frames: int):
    _, entry = checkpoints()[name]
    with torch.device("meta"):
        generator, tokenizer = visiontok.create(name), visiontok.create(entry.tokenizer)
    assert tokenizer.layout.accepts(generator.layout)
    assert generator.layout.signal_shape == (frames, 256, 256)
    assert generator.layout.length == entry.tokens
    assert generator.num_parameters == entry.parameters


def test_lightning_files_hold_the_tokenizer_too(tmp_path: Path):
    tokenizer = {f"first_stage_model.{name}": tensor for name, tensor in weights("vq_rope").items()}
    state, config = {**tokenizer, **weights("ar_clip_start_first")}, reference("ar_clip_start_first")
    torch.save({"epoch": 1, "state_dict": state, "hyper_parameters": {"args": Namespace(**config), "sos_token": 0}}, tmp_path / "lm.ckpt")
    loaded = visiontok.from_reference("omnitokenizer", config, read_weights(tmp_path / "lm.ckpt").tensors)
    assert isinstance(loaded, OmniTokenizerGenerator)
    direct = visiontok.from_reference("omnitokenizer", config, weights("ar_clip_start_first"))
    assert all(torch.equal(tensor, direct.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_classes_without_a_start():
    """No release has this form; the authors' code does."""
    table = torch.randn(5 + 64, 32)
    state = {**weights("ar_clip_frames"), "transformer.tok_emb.weight": table, "transformer.head.weight": 2 * table}
    config = reference("ar_clip_frames", unconditional=False, class_cond_dim=5, p_drop_cond=0.1)
    model = visiontok.from_reference("omnitokenizer", config, state)
    assert torch.equal(model.condition.embedding.weight[:5], table[:5])
    assert torch.equal(model.embedding.table.weight, table[5:])
    assert torch.equal(model.head.table.weight, 2 * table[5:])
    with pytest.raises(ConfigError, match="dropout"):
        model.generate(num_samples=1)


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"n_unmasked": 4}, "n_unmasked"),
        ({"vtokens_pos": True}, "vtokens_pos"),
        ({"sample_every_n_latent_frames": 2}, "sample_every_n_latent_frames"),
        ({"cond_stage_key": "stft"}, "stft"),
        ({"block_size": 82}, "81"),
        ({"resolution": 36}, "36"),
        ({"_sampling": {"cfg_ratio": 1.0, "scale_cfg": True}}, "scale_cfg"),
        ({"rotary": True}, "rotary"),
    ],
)
def test_what_no_release_has_is_refused(changes: dict[str, object], value: str):
    with pytest.raises(ConfigError, match=value):
        visiontok.from_reference("omnitokenizer", reference("ar_clip_start_first", **changes), weights("ar_clip_start_first"))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"transformer.tok_emb.weight": torch.zeros(69, 32)}, "69 rows"),
        ({"transformer.blocks.1.attn.value.bias": None}, r"blocks\.1\.attention\.value\.bias"),
        ({"transformer.pos_emb": None}, "pos_emb"),
        ({"transformer.vtokens_pos_emb": torch.zeros(1)}, "vtokens_pos_emb"),
    ],
)
def test_files_that_do_not_fit_are_refused(tensors: dict[str, torch.Tensor | None], message: str):
    changed = {name: tensor for name, tensor in {**weights("ar_clip_start_first"), **tensors}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        visiontok.from_reference("omnitokenizer", reference("ar_clip_start_first"), changed)


def test_it_learns_the_tokens_of_a_class():
    torch.manual_seed(0)
    model = visiontok.create("omnitokenizer-ar", **SMALL["omnitokenizer-ar"])
    classes = torch.arange(12) % 3
    tokens = torch.randint(int(model.layout.vocab_sizes.min()), (3, model.layout.length))[classes]
    losses = fit(model.parameters(), lambda step: model(tokens, classes, noise=SampleNoise((0, step), range(12)))["loss"], steps=60, lr=1e-2)
    assert losses[-1] < losses[0] / 3
    model.eval()
    assert bool((model.nll(tokens, classes) < model.nll(tokens, (classes + 1) % 3) - 1).all())


def test_without_top_k_nothing_is_filtered_as_theirs():
    config = reference("ar_clip_start_first", _sampling={"cfg_ratio": 1.0, "top_k": None, "top_p": 0.5})
    sampling = visiontok.from_reference("omnitokenizer", config, weights("ar_clip_start_first")).config.sampling
    assert (sampling.guidance, sampling.top_k, sampling.top_p) == (2.0, 0, 1.0)
