"""The Fourier head against the authors' code: densities, logits, losses, gradients, samples."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

from visiontok.generators.heads import FourierHeadConfig, FourierTable
from visiontok.generators.heads.fourier import autocorrelation, bin_centers, cumulative, density, sample_series, series_nll
from visiontok.metrics import roughness_of_distributions


def table_of(case: ReferenceCase) -> FourierTable:
    config = FourierHeadConfig(num_frequencies=case.config["num_frequencies"], regularization=case.config["regularizion_gamma"])
    table = FourierTable(config, case.config["dim_input"], [(0, case.config["dim_output"])])
    table.load_state_dict({f"maps.0.{name}": case.weights[f"fc_extract_autocorrelation_params.{name}"] for name in ("weight", "bias")})
    return table


@pytest.mark.parametrize("case", cases("fourier-head"))
def test_distributions_losses_and_samples(case: ReferenceCase):
    table, size, inputs = table_of(case), case.config["dim_output"], case.inputs
    x, labels = inputs["x"].requires_grad_(), inputs["labels"].flatten()
    rows = x.flatten(0, -2)
    logits = table.logits(x, 0, size)
    nll, _ = table.scores(rows, labels, torch.zeros_like(labels), torch.full_like(labels, size))
    penalty = table.penalty(rows, torch.zeros_like(labels)).mean()
    total = nll.mean() + penalty
    grad_x, grad_weight, grad_bias = torch.autograd.grad(total, [x, table.maps[0].weight, table.maps[0].bias])
    correlation = autocorrelation(table.coefficients(rows, 0))
    values, centers = inputs["mle_values"][:, None], bin_centers(size)
    pmf = logits.softmax(dim=-1)
    case.compare(
        {
            "bin_centerpoints": centers,
            "cross_entropy": nll.mean(),
            "fourier_coeffs": torch.view_as_real(correlation),
            "fourier_coeffs_normalized": torch.view_as_real(correlation[:, 1:] / correlation[:, :1].real),
            "grad_bias": grad_bias,
            "grad_weight": grad_weight,
            "grad_x": grad_x,
            "logits": logits,
            "loss_regularization": penalty,
            "mle_cdf": cumulative(correlation, values)[:, 0],
            "mle_loss": series_nll(correlation, values).mean() + penalty,
            "mle_pdf": density(correlation, values)[:, 0],
            "mle_samples": sample_series(correlation, inputs["uniforms"][:, None]),
            "pdf_at_bins": density(correlation, centers.expand(len(rows), -1)),
            "pdf_at_probe": density(correlation, inputs["probe"].expand(len(rows), -1)),
            "pmf": pmf,
            "smoothness_L2": torch.from_numpy(roughness_of_distributions(pmf.detach().flatten(0, -2).numpy())),
            "total_loss": total,
        }
    )
