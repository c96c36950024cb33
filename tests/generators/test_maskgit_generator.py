import copy
import math

import pytest
import torch

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError, TokenError
from visiontok.generators.decoding import RecordedNoise, SampleNoise
from visiontok.generators.heads.masked import TiedMaskedHead
from visiontok.generators.maskgit.model import MaskGIT, MaskGITConfig
from visiontok.generators.masking import CosineStepMasking
from visiontok.tokens import Segment, TokenLayout, Tokens
from visiontok.tokens.grid import grid_layout

LINE = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(8,), vocab_size=11),), signal_shape=(32, 32))
SIZES = {"dim": 24, "depth": 2, "num_heads": 2, "mlp_dim": 32}
LLAMA = {"type": "llama", "dim": 24, "depth": 2, "num_heads": 2, "multiple_of": 8, "residual_dropout": 0.0, "ffn_dropout": 0.0, "token_dropout": 0.0}
BACKBONES = {"bert": {"type": "bert", "dropout": 0.0, "attention_dropout": 0.0, **SIZES}, "uvit": {"type": "uvit", **SIZES}, "llama": LLAMA}
ELM = {
    "backbone": LLAMA,
    "head": {"type": "tied"},
    "masking": {"type": "cosine-step", "steps": 4},
    "unmasked_weight": 0.0,
    "sampling": {"type": "maskgit", "num_steps": 4},
}
every_backbone = pytest.mark.parametrize("backbone", BACKBONES)


def maskgit(backbone: str = "bert", **changes) -> MaskGIT:
    torch.manual_seed(0)
    model = MaskGIT(
        MaskGITConfig.parse({"layout": LINE, "condition": {"type": "classes", "num_classes": 3}, "backbone": BACKBONES[backbone], **changes})
    )
    torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    return model.eval()


def random_tokens(batch: int = 4) -> Tokens:
    return Tokens(torch.randint(11, (batch, 8), generator=torch.Generator().manual_seed(1)), LINE)


@every_backbone
def test_samples_hold_no_mask_and_do_not_depend_on_the_batch(backbone):
    model = maskgit(backbone)
    classes = torch.arange(6) % 3
    whole = model.generate(classes, noise=SampleNoise(5, range(6)))
    parts = [model.generate(classes[start : start + 2], noise=SampleNoise(5, range(start, start + 2))) for start in (0, 2, 4)]
    assert torch.equal(whole.validate().indices, Tokens.cat(parts).indices)
    assert len({tuple(row) for row in whole.indices.tolist()}) == 6


def test_guided_logits_are_one_formula():
    model, indices, classes = maskgit(), random_tokens().indices, torch.tensor([0, 1, 2, 0])
    conditional, unconditional = model.logits(indices, classes), model.logits(indices, torch.full((4,), 3))
    assert torch.equal(model.guided_logits(classes, indices, 1.0), conditional)
    assert torch.allclose(model.guided_logits(classes, indices, 2.5), unconditional + 2.5 * (conditional - unconditional), atol=1e-5)


def test_masking_follows_the_arccos_schedule():
    model, indices = maskgit(), random_tokens(3).indices
    times = torch.tensor([0.0, 0.5, 1.0])
    ranks = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    masked, mask = model.mask_tokens(indices, RecordedNoise(uniform=[times, ranks]))
    assert mask.sum(dim=1).tolist() == [8, round(8 * 2 / 3), 1]  # arccos(0.5) is two thirds of a right angle; one position at least
    assert torch.equal(masked == model.mask_id, mask)
    assert torch.equal(masked[~mask], indices[~mask])


def test_cosine_masking_hides_what_a_drawn_sampling_step_hides_in_the_whole_batch():
    masking, ranks = CosineStepMasking(steps=4), torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    for step, count in enumerate((8, 7, 5, 3)):
        mask = masking.mask(3, 8, RecordedNoise(uniform=[torch.tensor([step / 4 + 0.01, 0.0, 0.99]), ranks]))
        assert mask.sum(dim=1).tolist() == [count] * 3
        assert ranks[mask].view(3, -1).amax(dim=1).lt(ranks.masked_fill(mask, 2).amin(dim=1)).all()


def test_the_tied_head_gives_the_embeddings_no_gradient():
    torch.manual_seed(0)
    head, table = TiedMaskedHead(6, 5), torch.randn(5, 6, requires_grad=True)
    hidden = torch.randn(2, 3, 6)
    logits = head(hidden, table)
    expected = torch.nn.functional.layer_norm(torch.nn.functional.gelu(hidden @ head.dense.weight.T + head.dense.bias), (6,)) @ table.T
    torch.testing.assert_close(logits, expected)
    logits.sum().backward()
    assert table.grad is None
    assert head.dense.weight.grad is not None


def test_an_elm_generator_learns_what_belongs_to_a_class(tmp_path):
    torch.manual_seed(0)
    model = visiontok.create("elm-mlm", layout=LINE, condition={"type": "classes", "num_classes": 3, "dropout": 0.0}, **ELM).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    # Without learned positions, masked tokens know where they are only by what they attend to: samples of one code each need no more.
    tokens, classes = Tokens(torch.tensor([[3], [0], [9]]).expand(3, 8), LINE), torch.arange(3)
    for step in range(60):
        optimizer.zero_grad()
        model(tokens, classes, noise=SampleNoise((0, step), range(3)))["loss"].backward()
        optimizer.step()
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model.eval(), tmp_path / "model"))
    assert loaded.config == model.config
    classes = torch.tensor([2, 0, 1, 1])
    generated = loaded.generate(classes, noise=SampleNoise(0, range(4)))
    assert (generated.validate().indices == tokens.indices[classes]).float().mean() > 0.9
    parts = [loaded.generate(classes[row : row + 1], noise=SampleNoise(0, [row])).indices for row in range(4)]
    assert torch.equal(torch.cat(parts), generated.indices)


def test_grids_are_filled_in_at_the_extents_of_the_layout_only():
    model = maskgit("llama", layout=grid_layout((2, 4), stride=4, vocab_size=11))
    assert model.generate(torch.tensor([0, 1])).validate().layout == model.layout
    with pytest.raises(TokenError, match=r"\(2, 4\)"):
        model.loss(torch.zeros(1, 4, 2, dtype=torch.int64), torch.tensor([0]))
    with pytest.raises(ConfigError, match="multiple of 4"):
        MaskGITConfig.parse({"layout": model.layout, "backbone": {**LLAMA, "num_heads": 4}})


def test_the_loss_weighs_masked_and_unmasked_positions():
    model, tokens, classes = maskgit(label_smoothing=0.0, unmasked_weight=0.25), random_tokens(1), torch.tensor([2])
    draws = torch.tensor([0.5]), torch.rand(1, 8)
    masked, mask = model.mask_tokens(tokens.indices, RecordedNoise(uniform=draws))
    nats = -model.logits(masked, classes).log_softmax(-1).gather(-1, tokens.indices[..., None])[..., 0]
    expected = (nats[mask].sum() + 0.25 * nats[~mask].sum()) / (mask.sum() + 0.25 * (~mask).sum())
    assert model.loss(tokens, classes, noise=RecordedNoise(uniform=draws))["loss"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_classes_are_dropped_by_the_last_draw_in_training_only():
    model, tokens, classes = maskgit(condition={"type": "classes", "num_classes": 3, "dropout": 0.5}), random_tokens(), torch.tensor([0, 1, 2, 0])
    draws = torch.rand(4), torch.rand(4, 8)
    kept = model.loss(tokens, classes, noise=RecordedNoise(uniform=draws))["loss"]
    model.train()
    none, every = (model.loss(tokens, classes, noise=RecordedNoise(uniform=(*draws, torch.full((4,), u))))["loss"] for u in (0.9, 0.1))
    assert torch.equal(kept, none)
    assert not torch.equal(kept, every)


@every_backbone
def test_training_lowers_the_loss(backbone):
    model = maskgit(backbone).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tokens, classes = random_tokens(), torch.tensor([0, 1, 2, 0])
    losses = []
    for step in range(40):
        loss = model(tokens, classes, noise=SampleNoise((0, step), range(4)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("backbone", ["bert", "uvit"])
def test_it_learns_what_belongs_to_a_class(backbone):
    model = maskgit(backbone, condition={"type": "classes", "num_classes": 3, "dropout": 0.0}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    tokens, classes = random_tokens(3), torch.arange(3)
    for step in range(120):
        optimizer.zero_grad()
        model(tokens, classes, noise=SampleNoise((0, step), range(3)))["loss"].backward()
        optimizer.step()
    classes = torch.tensor([2, 0, 1, 1])
    generated = model.eval().generate(
        classes, noise=SampleNoise(0, range(4)), sampler=model.sampler(guidance=0.0, guidance_schedule="constant", temperature=0.1)
    )
    assert torch.equal(generated.indices, tokens.indices[classes])


def test_an_untrained_model_is_undecided():
    torch.manual_seed(0)
    model = MaskGIT(MaskGITConfig.parse({"layout": LINE, "condition": {"type": "classes", "num_classes": 3}, "backbone": BACKBONES["uvit"]}))
    assert model.loss(random_tokens(), torch.tensor([0, 1, 2, 0]))["loss"].item() == pytest.approx(math.log(11), abs=0.1)


@every_backbone
def test_bfloat16_stays_finite(backbone):
    model = maskgit(backbone).bfloat16().train()
    loss = model.loss(random_tokens(), torch.tensor([0, 1, 2, 0]))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert model.eval().generate(torch.tensor([0, 1])).validate().is_full


def test_unconditional():
    model = maskgit(condition={"type": "none"})
    assert model.generate(num_samples=3).validate().is_full
    assert model.train().loss(random_tokens())["loss"].isfinite()


@every_backbone
def test_saved_and_loaded_again(backbone, tmp_path):
    model = maskgit(backbone, sampling={"num_steps": 3, "guidance": 6.9, "guidance_schedule": "power-cosine"})
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    classes = torch.tensor([0, 2])
    samples = [each.generate(classes, noise=SampleNoise(0, range(2))).indices for each in (model, loaded)]
    assert torch.equal(*samples)


def test_published_checkpoints_are_described_completely():
    sizes = {"maskgit-titok-l32": 177_202_432, "maskgit-titok-b64": 177_227_008, "maskgit-titok-s128": 294_990_848}
    for name, parameters in sizes.items():
        with torch.device("meta"):
            model = visiontok.create(name)
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters
        assert model.layout.length == int("".join(filter(str.isdigit, name)))


def test_reference_configurations_that_do_not_fit():
    generator = {
        **{"model_type": "ViT", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
        **{"dropout": 0.1, "attn_drop": 0.1, "class_label_dropout": 0.1, "image_seq_len": 4, "condition_num_classes": 2},
    }

    def load(weights=None, **changes):
        values = {key: value for key, value in {**generator, **changes}.items() if value is not None}
        return visiontok.from_reference("maskgit", {"model": {"vq_model": {"codebook_size": 8}, "generator": values}}, weights or {})

    with pytest.raises(CheckpointError, match="missing"):
        load()
    with pytest.raises(CheckpointError, match="are not in this model"):
        load({"model.pooler.weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match="hidden_size"):
        load(hidden_size=None)
    with pytest.raises(ConfigError, match="'DiT' is unknown"):
        load(model_type="DiT")
    with pytest.raises(ConfigError, match="num_heads 5"):
        load(num_attention_heads=5)


def test_layouts_that_it_cannot_rank():
    two = Segment(name="grid", shape=(4,), vocab_size=11, codebooks=2)
    with pytest.raises(ConfigError, match="one codebook"):
        maskgit(layout=TokenLayout(modality="image", segments=(two,), signal_shape=(32, 32)))
    ragged = LINE.replace(ragged=True)
    with pytest.raises(ConfigError, match="ragged"):
        maskgit(layout=ragged)
    prefix = LINE.replace(prefixes="any")
    model = maskgit(layout=prefix)
    with pytest.raises(TokenError, match="every token"):
        model.loss(Tokens(random_tokens().indices[:, :3], prefix), torch.tensor([0, 1, 2, 0]))


def test_unknown_keys_of_a_reference_configuration_are_named():
    generator = {
        "model_type": "ViT", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "dropout": 0.1,
        "attn_drop": 0.1, "num_steps": 8, "class_label_dropout": 0.1, "image_seq_len": 4, "condition_num_classes": 10,
    }  # fmt: skip
    config = {
        "model": {"vq_model": {"codebook_size": 16, "num_latent_tokens": 4}, "generator": generator},
        "losses": {"label_smoothing": 0.2},
        "optimizer": {"params": {"beta2": 0.96}},
    }
    assert MaskGIT.config_from_reference(config, {}).label_smoothing == 0.2
    for path in (("losses",), ("optimizer", "params"), ("model", "generator")):
        changed = copy.deepcopy(config)
        inner = changed
        for part in path:
            inner = inner[part]
        inner["unheard_of"] = 1
        with pytest.raises(ConfigError, match="unheard_of"):
            MaskGIT.config_from_reference(changed, {})
