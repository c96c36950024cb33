from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from visiontok.quantizers import nearest
from visiontok.quantizers.index_backprop import IndexBackpropQuantizerConfig
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes
from visiontok.quantizers.soft_assignment import assignment_entropies, expected_codes
from visiontok.quantizers.vector import VectorQuantizerConfig


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles even for a handful of latents."""
    monkeypatch.setattr(nearest, "TILE_SCORES", {"cpu": 1, "cuda": 1})
    monkeypatch.setattr(nearest, "MIN_ROWS", 7)


def with_matrix(z: torch.Tensor, codebook: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The straight-through assignment of the paper, written with the whole N x K matrix."""
    p = (z @ codebook.T).softmax(dim=1)
    hard = F.one_hot(p.argmax(dim=1), len(codebook)).float()
    return (hard - p.detach() + p) @ codebook, hard @ codebook


def test_gradients_are_those_of_the_whole_matrix(small_tiles: None) -> None:
    quantizer = IndexBackpropQuantizerConfig(codebook_size=30, dim=5).build()
    z = torch.randn(2, 4, 5, 5, requires_grad=True)
    upstream = torch.randn_like(z)
    quantized = quantizer(z)
    ((quantized.latents * upstream).sum() + sum(quantized.losses.values())).backward()

    codebook, flat = quantizer.codebook.detach().clone().requires_grad_(True), z.detach().flatten(0, -2).requires_grad_(True)
    soft, hard = with_matrix(flat, codebook)
    loss = F.mse_loss(soft, flat) + F.mse_loss(hard.detach(), flat) + 0.25 * F.mse_loss(hard, flat.detach())
    ((soft * upstream.flatten(0, -2)).sum() + loss).backward()
    torch.testing.assert_close(sum(quantized.losses.values()), loss)
    torch.testing.assert_close(z.grad.flatten(0, -2), flat.grad)
    torch.testing.assert_close(quantizer.codebook.grad, codebook.grad)
    assert (quantizer.codebook.grad.abs().sum(dim=1) > 0).all()  # every code learns, chosen or not


def test_values_are_exactly_the_codes_of_the_largest_products(small_tiles: None) -> None:
    quantizer = IndexBackpropQuantizerConfig(codebook_size=30, dim=5).build()
    with torch.no_grad():
        quantizer.codebook[:10] *= 4
    z = torch.randn(3, 6, 5)
    quantized = quantizer(z)
    assert torch.equal(quantized.indices, (z @ quantizer.codebook.T).argmax(dim=-1))
    assert not torch.equal(quantized.indices.flatten(), nearest_codes(z.flatten(0, 1), quantizer.codebook))  # long codes win
    assert torch.equal(quantized.latents, quantizer.lookup(quantized.indices))
    neighbors = quantizer.neighbors(z, 3)
    assert torch.equal(neighbors[..., 0], quantized.indices)
    assert torch.equal(neighbors, (z @ quantizer.codebook.T).topk(3).indices)


def test_without_gradients_only_the_search_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontok.quantizers import index_backprop

    monkeypatch.setattr(index_backprop, "expected_codes", None)
    quantizer = IndexBackpropQuantizerConfig(codebook_size=30, dim=5, entropy={"weight": 0.1}).build().eval()
    with torch.no_grad():
        quantized = quantizer(torch.randn(4, 5))
    assert set(quantized.losses) == {"index", "commitment", "codebook"}


@pytest.mark.parametrize("score", ["distance", "product"])
def test_entropies_are_those_of_the_whole_matrix(small_tiles: None, score: str) -> None:
    latents, codebook = torch.randn(40, 4, dtype=torch.float64, requires_grad=True), torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    sample, batch = assignment_entropies(latents, codebook, scale=3.0, score=score)
    scores = latents @ codebook.T if score == "product" else -(latents[:, None] - codebook).square().sum(dim=2) / 2
    p = (3 * scores).softmax(dim=1)
    expected = torch.distributions.Categorical(probs=p).entropy().mean(), -(p.mean(dim=0) * (p.mean(dim=0) + 1e-5).log()).sum()
    torch.testing.assert_close((sample, batch), expected)
    tiled, whole = (torch.autograd.grad(a - b, (latents, codebook)) for a, b in ((sample, batch), expected))
    torch.testing.assert_close(tiled, whole)


def test_no_matrix_of_all_scores_is_held(small_tiles: None) -> None:
    largest = 0

    def watch(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    latents, codebook = torch.randn(70, 3, requires_grad=True), torch.randn(50, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(watch, lambda tensor: tensor):
        expected_codes(latents, codebook).sum().backward()
        sample, batch = assignment_entropies(latents, codebook, scale=1.0, score="product")
        (sample - batch).backward()
    assert largest < 70 * 50


def test_the_entropy_terms_of_a_vector_quantizer_spread_its_codes() -> None:
    torch.manual_seed(0)
    config = VectorQuantizerConfig(codebook_size=16, dim=4, normalize_latents=True, normalize_codes=True, entropy={"weight": 0.1, "temperature": 0.5})
    quantizer = config.build()
    latents = torch.randn(200, 4)
    quantized = quantizer(latents)
    quantized.losses["entropy"].backward()
    assert quantizer.codebook.grad.abs().sum() > 0
    assert "entropy" not in quantizer.eval()(latents).losses


def test_the_k_nearest_by_product_and_by_distance_differ() -> None:
    latents, codebook = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.9, 0.0]])
    assert nearest_k_codes(latents, codebook, 2).tolist() == [[0, 2]]
    assert nearest_k_codes(latents, codebook, 2, score="product").tolist() == [[1, 0]]
