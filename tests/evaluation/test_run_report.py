from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from grey_patches import GreyPatches, GreyPatchesConfig
from PIL import Image

from visiontok.evaluation import Suite
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.report import Measured, write_run_report
from visiontok.evaluation.reconstruction.run import Measurement
from visiontok.evaluation.results.report.curves import rate_distortion_plots, usage_histogram, zipf_plot

SUITE = Suite.parse({"name": "small", "data": {"name": "shapes"}, "num_samples": 20, "metrics": ["psnr", "ssim", "codebook", "rate"]})


def measured(name: str, suite: Suite = SUITE, **config) -> Measured:
    measurement = Measurement(suite, GreyPatches(GreyPatchesConfig(**config)), name=name)
    result, evidence = measurement.run()
    return Measured(result, evidence, show_examples(measurement, result, evidence))


@pytest.fixture(scope="module")
def two() -> list[Measured]:
    return [measured("titok-l32", levels=9), measured("grey-17")]


class Loaded(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.places += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]


def test_one_page_with_everything(two: list[Measured], tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    write_run_report(path, two)
    page = path.read_text(encoding="utf-8")
    loaded = Loaded()
    loaded.feed(page)
    assert all(place.startswith(("data:image/png;base64,", "#")) for place in loaded.places)
    assert "<script" not in page
    for title in (
        "psnr.mean_db against bits per pixel",
        "How often ids are used, by rank",
        "Use of the codebook: grey-17, grid",
        "Reconstructions by titok-l32",
        "Reconstructions by grey-17",
        "difference, 4 times",
        two[1].result.value("ssim").text,
        two[0].result.model.weights_sha256,
    ):
        assert title in page
    # the name of a released checkpoint brings what was published about it, marked as such
    assert page.count("published, not measured here") > 0
    assert "rFID on" in page


def test_examples_are_the_ends_and_the_middle(two: list[Measured]) -> None:
    examples, evidence = two[1].examples, two[1].evidence
    column = np.sort(evidence.per_image["psnr.mean_db"])
    assert [example.group for example in examples.pictures] == ["worst", "worst", "median", "median", "best", "best"]
    values = [example.value for example in examples.pictures]
    assert values == [*column[:2], *column[9:11], *column[-2:]]
    for example in examples.pictures:
        gap = (example.original.double() - example.reconstructions[None].double()).square().mean()
        assert 10 * np.log10(255**2 / float(gap)) == pytest.approx(example.value)
    alone = measured("grey", SUITE.replace(metrics=["codebook"], num_samples=2))
    assert alone.examples.ranking is None
    assert len(alone.examples.pictures) == 2


def test_skipped_files_and_models_of_other_sizes_are_on_the_page(two: list[Measured], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    suite = Suite.parse({"name": "folder", "data": {"name": "folder", "path": str(folder)}, "metrics": ["mse", "rate"]})
    write_run_report(tmp_path / "run.html", [measured("small", suite), measured("large", suite, size=32)])
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "One file could not be used" in page
    assert "broken.png" in page
    assert page.count(">Numbers<") == 2


def test_curves(two: list[Measured]) -> None:
    plots = rate_distortion_plots([entry.result for entry in two])
    by_title = {plot.title: plot for plot in plots}
    x, y = by_title["psnr.mean_db against bits per pixel"].series["grey-17"]
    assert (x, y) == ([two[1].result.value("bits_per_pixel.nominal").value], [two[1].result.value("psnr.mean_db").value])
    assert "psnr.mean_db against tokens per image" not in by_title  # both write equally many
    assert rate_distortion_plots([two[0].result]) == []
    counts = np.asarray([0, 0, 0, 1, 1, 2, 3, 4, 200])
    bars = usage_histogram("x", counts)
    assert list(zip(bars.names, bars.heights, strict=True)) == [
        ("0", 3), ("1", 2), ("2–3", 2), ("4–7", 1), ("8–15", 0), ("16–31", 0), ("32–63", 0), ("64–127", 0), ("128+", 1)
    ]  # fmt: skip
    ranks, shares = zipf_plot({"x": counts}).series["x"]
    assert ranks.tolist() == [1, 2, 3, 4, 5, 6]
    assert shares[0] == 200 / 211
    assert zipf_plot({"one": np.asarray([5])}) is None
