"""xAR's generators against the authors' code: cells, noisy-context training, velocities and whole samples of both solvers."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, Taps, cases
from torch import Tensor

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.generators.condition import Condition
from visiontok.generators.decoding import CellSampler, ConstantGuidance, EulerSolver
from visiontok.generators.xar.model import Xar
from visiontok.tokens import Latents


def in_order(by_cell: Tensor) -> Tensor:
    """(cells, B, S, C) -> (B, cells * S, C)."""
    return by_cell.transpose(0, 1).flatten(1, 2)


def storage(channels_first: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return channels_first.flatten(2).transpose(1, 2)


def training(model: Xar, case: ReferenceCase) -> dict[str, Tensor]:
    latents, labels = Latents(storage(case.inputs["latents"]), model.layout), case.inputs["labels"]
    draws = [case.inputs["train_t"].T.logit(), in_order(case.inputs["train_noise"])]
    seen: dict[str, Tensor] = {}
    model.input.register_forward_pre_hook(lambda _, args: seen.update(train_model_input=args[0]))
    taps = Taps(
        model,
        {
            "train_z_proj_ln": "input_norm",
            "train_enc_block0": "encoder.blocks.0",
            "train_enc_norm": "encoder_norm",
            "train_velocity": "output",
        },
    )
    loss = model.loss(latents, labels, noise=RecordedNoise(normal=draws))["loss"]
    return seen | taps.seen | {"train_loss": loss}


class WatchedSession:
    """A session that keeps what it was asked and what it answered.

    Args:
        session: the session, a guided one.
    """

    def __init__(self, session) -> None:
        self.session = session
        self.samples, self.cell_shape, self.num_cells = session.samples, session.cell_shape, session.num_cells
        self.calls: list[tuple[Tensor, Tensor]] = []

    def prefill(self) -> None:
        self.session.prefill()

    def step(self, cell: Tensor) -> None:
        self.session.step(cell)

    def velocity(self, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        found = self.session.velocity(noisy, time)
        self.calls.append((noisy, torch.cat(found)))
        return found


def draws_of(case: ReferenceCase) -> list[Tensor]:
    steps = case.config["_sampling"]["num_steps"] - 1
    return [
        draw
        for cell, start in enumerate(case.inputs["sample_init"])
        for draw in (start, *case.inputs["sample_steps"][cell * steps : (cell + 1) * steps])
    ]


def sampling(model: Xar, case: ReferenceCase) -> dict[str, Tensor]:
    labels, steps = case.inputs["labels"], case.config["_sampling"]["num_steps"]
    watched = WatchedSession(model.session(labels, guided=True))
    cells = model.sampler()(watched, RecordedNoise(normal=draws_of(case))).unflatten(1, (4, 64))
    latents = model.generate(labels, noise=RecordedNoise(normal=draws_of(case)))
    torch.testing.assert_close(model.in_cells(latents.values), cells.flatten(0, 1), rtol=0, atol=1e-5)
    found = {"sample_latents": latents.view().permute(0, 3, 1, 2)}

    def call(cell: int, step: int) -> tuple[Tensor, Tensor]:
        return watched.calls[cell * steps + step]

    for cell, step in ((0, 0), (1, 1)):
        found[f"sample_v_cell{cell}_step{step}"] = call(cell, step)[1]
    for cell in (0, 3):
        found[f"sample_v_cell{cell}_last"] = call(cell, steps - 1)[1]
    doubled, none = Condition(classes=torch.cat([labels, labels])), torch.tensor([False, True]).repeat_interleave(len(labels))
    for cell in (1, 3):
        # Theirs reads the cell before in the same pass and also gives its velocity, which nothing uses.
        noisy, velocity = call(cell, 0)
        sequence = torch.cat([cells[:, :cell].flatten(1, 2), noisy.float()], dim=1)
        times = torch.cat([torch.zeros(1, cell), torch.ones(1, 1)], dim=1)
        both = model.velocity(torch.cat([sequence, sequence]), model.class_vectors(doubled, none), times)
        torch.testing.assert_close(both[:, -64:], velocity.float(), rtol=0, atol=1e-5)
        found[f"sample_v_cell{cell}_step0"] = both[:, -128:]
    return found


def euler(model: Xar, case: ReferenceCase) -> Tensor:
    """Their unused deterministic sampler on the first cell."""
    session = model.session(case.inputs["labels"], guided=True)
    session.num_cells = 1
    sampler = CellSampler(ConstantGuidance(2.0), EulerSolver(case.config["_sampling"]["num_steps"]))
    return sampler(session, RecordedNoise(normal=[case.inputs["sample_init"][0]])).double()


@pytest.mark.parametrize("case", cases("xar"))
@torch.no_grad()
def test_training_and_samples(case: ReferenceCase):
    model = visiontok.from_reference("xar", {**case.config, "label_drop_prob": 0.1}, case.weights)
    clusters = model.in_cells(storage(case.inputs["latents"])).unflatten(0, (-1, 4))
    together = torch.empty_like(clusters.flatten(1, 2)).index_copy_(1, model.order, clusters.flatten(1, 2))
    ours = sampling(model, case)
    ours |= {
        "clusters": clusters,
        "unclusterified": Latents(together, model.layout).view().permute(0, 3, 1, 2),
        "euler_cell0": euler(model, case),
    }
    case.compare(ours | training(model, case))


@pytest.mark.parametrize("case", cases("xar"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("xar", {**case.config, "label_drop_prob": 0.1}, case.weights)
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    latents = loaded.generate(case.inputs["labels"], noise=RecordedNoise(normal=draws_of(case)))
    case.check("sample_latents", latents.view().permute(0, 3, 1, 2))
