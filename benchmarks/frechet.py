"""Fréchet distance with the dimension of Inception's features: visiontok against two common algorithms, in one run.

    OMP_NUM_THREADS=2 python benchmarks/frechet.py

Where torch-fidelity is installed, its own function is timed too; its algorithm is also written out here, so that the script does not require it.

Both sides are covariances of correlated features with a decaying spectrum. The algorithms are timed one after the other, each `--repeats`
times; the fastest run of each counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from scipy.linalg import sqrtm

from visiontok.evaluation import frechet_distance
from visiontok.evaluation.metrics.moments import Moments

Route = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]


def square_root_of_the_product(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """scipy's matrix square root, as pytorch-fid and clean-fid do."""
    gap = mu1 - mu2
    return float(gap @ gap + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(sqrtm(sigma1 @ sigma2)).real)


def eigenvalues_of_the_product(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """Roots of the eigenvalues of the product, as torch-fidelity does."""
    gap = mu1 - mu2
    eigenvalues = np.linalg.eigvals(sigma1 @ sigma2).astype(np.complex128)
    return float(gap @ gap + np.trace(sigma1) + np.trace(sigma2) - 2 * np.sqrt(eigenvalues).real.sum())


def torch_fidelity_itself(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    return fid_statistics_to_metric({"mu": mu1, "sigma": sigma1}, {"mu": mu2, "sigma": sigma2}, verbose=False)[KEY_METRIC_FID]


def statistics(dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    mixing = draw.normal(size=(dimensions, dimensions)) / np.sqrt(dimensions) * np.geomspace(1, 1e-2, dimensions)[:, None]
    moments = Moments()
    for _ in range(8):
        moments.update(np.maximum(draw.normal(size=(dimensions // 2, dimensions)) @ mixing + 0.1, 0))
    found = moments.compute()
    return found.mean, found.covariance


def fastest(route: Route, sides: tuple[np.ndarray, ...], repeats: int) -> tuple[float, float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = route(*sides)
        times.append(time.perf_counter() - start)
    return value, min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    sides = (*statistics(arguments.dimensions, 0), *statistics(arguments.dimensions, 1))
    routes: dict[str, Route] = {
        "visiontok": frechet_distance,
        "eigenvalues of the product (torch-fidelity)": eigenvalues_of_the_product,
        "matrix square root (pytorch-fid, clean-fid)": square_root_of_the_product,
    }
    if find_spec("torch_fidelity"):
        routes["torch-fidelity's own function"] = torch_fidelity_itself
    results = {name: fastest(route, sides, arguments.repeats) for name, route in routes.items()}
    ours, our_time = results["visiontok"]
    print(f"D = {arguments.dimensions}")
    for name, (value, seconds) in results.items():
        print(f"{name:45s} {seconds:8.2f} s   {seconds / our_time:6.2f} x ours   value {value:.10g}   off by {abs(value / ours - 1):.1e}")


if __name__ == "__main__":
    main()
