from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from gray_patches import GrayPatches, GrayPatchesConfig
from PIL import Image

from visiontok.evaluation import Suite
from visiontok.evaluation.metrics.value import Cut
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.report import ReportEntry, write_run_report
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.results.report.curves import rate_distortion_plots, rate_table, usage_histogram, zipf_plot

SUITE = Suite.parse({"name": "small", "data": {"name": "shapes"}, "num_samples": 20, "metrics": ["psnr", "ssim", "codebook", "rate"]})


def entry(name: str, suite: Suite = SUITE, **config) -> ReportEntry:
    run = ReconstructionRun(suite, GrayPatches(GrayPatchesConfig(**config)), name=name)
    result, per_sample = run.run()
    return ReportEntry(result, per_sample, show_examples(run, result, per_sample))


@pytest.fixture(scope="module")
def two() -> list[ReportEntry]:
    return [entry("titok-l32", levels=9), entry("gray-17")]


class Loaded(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]


def test_one_page_with_everything(two: list[ReportEntry], tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    write_run_report(path, two)
    page = path.read_text(encoding="utf-8")
    loaded = Loaded()
    loaded.feed(page)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in loaded.sources)
    assert "<script" not in page
    for title in (
        "How often codes are used, by rank",
        "Use of the codebook: gray-17, grid",
        "Reconstructions by titok-l32",
        "Reconstructions by gray-17",
        "difference, 4 times",
        two[1].result.value("ssim").text,
        two[0].result.model.weights_sha256,
    ):
        assert title in page
    # the name of a released checkpoint brings what was published about it, marked as such
    assert page.count("published, not computed here") > 0
    assert "rFID on" in page


def test_examples_are_the_ends_and_the_middle(two: list[ReportEntry]) -> None:
    examples = two[1].examples
    column = np.sort(two[1].per_sample.per_sample["psnr.mean_db"])
    assert [example.group for example in examples.samples] == ["worst", "worst", "median", "median", "best", "best"]
    values = [example.value for example in examples.samples]
    assert values == [*column[:2], *column[9:11], *column[-2:]]
    for example in examples.samples:
        gap = float((example.original.double() - example.reconstructions[Cut()].double()).square().mean())
        assert 10 * np.log10(255**2 / float(gap)) == pytest.approx(example.value)
    alone = entry("gray", SUITE.replace(metrics=["codebook"], num_samples=2))
    assert alone.examples.ranking is None
    assert len(alone.examples.samples) == 2


def test_skipped_files_and_models_of_other_sizes_are_on_the_page(two: list[ReportEntry], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    suite = Suite.parse({"name": "folder", "data": {"name": "folder", "path": str(folder)}, "metrics": ["mse", "rate"]})
    write_run_report(tmp_path / "run.html", [entry("small", suite), entry("large", suite, size=32)])
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "One file could not be used" in page
    assert "broken.png" in page
    assert page.count(">Numbers<") == 2


def test_curves(two: list[ReportEntry]) -> None:
    plots = rate_distortion_plots([entry.result for entry in two])
    assert plots == []  # two points are a table
    table = rate_table([entry.result for entry in two])
    (row,) = [dict(zip(table.columns, row.cells, strict=True)) for row in table.rows if row.cells[0] == "gray-17"]
    assert row["PSNR ↑ (dB)"] == two[1].result.value("psnr.mean_db").replace(interval=None).text
    assert float(row["Bits per pixel, nominal ↓"]) == pytest.approx(two[1].result.value("bits_per_pixel.nominal").value, rel=1e-3)
    third = two[1].result.replace(model=two[1].result.model.replace(name="third"))
    by_title = {plot.title: plot for plot in rate_distortion_plots([*(entry.result for entry in two), third])}
    x, y = by_title["PSNR against bits per pixel, nominal"].series["gray-17"]
    assert (x, y) == ([two[1].result.value("bits_per_pixel.nominal").value], [two[1].result.value("psnr.mean_db").value])
    assert "PSNR against tokens per sample" not in by_title  # all write equally many
    counts = np.asarray([0, 0, 0, 1, 1, 2, 3, 4, 200])
    bars = usage_histogram("x", counts)
    assert list(zip(bars.names, bars.heights, strict=True)) == [
        ("0", 3), ("1", 2), ("2–3", 2), ("4–7", 1), ("8–15", 0), ("16–31", 0), ("32–63", 0), ("64–127", 0), ("128+", 1)
    ]  # fmt: skip
    ranks, shares = zipf_plot({"x": counts}).series["x"]
    assert ranks.tolist() == [1, 2, 3, 4, 5, 6]
    assert shares[0] == 200 / 211
    assert zipf_plot({"one": np.asarray([5])}) is None
