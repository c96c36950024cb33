import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.metrics.metric import Aggregate
from visiontok.evaluation.metrics.registry import METRICS, heading_of
from visiontok.evaluation.metrics.running import metric_value
from visiontok.evaluation.results.report import (
    BarPlot,
    Folded,
    ImageGrid,
    ImageRow,
    LinePlot,
    Row,
    Table,
    Text,
    difference_image,
    result_table,
    to_image_array,
    to_image_arrays,
    token_image,
    write_report,
)
from visiontok.registry import PublishedFigure

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Checks that tags nest and collects what the page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def image() -> np.ndarray:
    return to_image_array(torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)))


def sections() -> list:
    return [
        Text("Words", ["<script>alert(1)</script> & co"]),
        Table("Numbers", ["metric", "A & B"], [Row(["PSNR", "21"], note="how"), Row(["rFID", "2.2"], published="a paper")], note="below"),
        ImageGrid("Images", [ImageRow("original", [image()] * 3), ImageRow("tokens", [image()], ["<one>"])]),
        LinePlot("Loss", {"a": (range(5000), np.linspace(1, 2, 5000)), "b": ([1, 2], [1, 2])}, "step", "loss", log_y=True),
        BarPlot("Use", np.arange(512), "code", "count"),
        Folded("More", [BarPlot("Classes", [1, 2], "class", "share", names=["x", "y"]), Text("", ["inside"])]),
    ]


def test_one_page_without_network_or_script(tmp_path: Path) -> None:
    path = tmp_path / "report" / "report.html"
    write_report(path, "A <title>", sections(), summary="All of it", facts={"torch": "2"})
    page = path.read_text()
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in outline.loaded)
    assert not re.search(r"url\((?!#)|@import|<script|<link", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in page
    assert "A &lt;title&gt;" in page
    assert "&lt;one&gt;" in page
    assert outline.count["img"] == 4
    assert outline.count["svg"] == 3
    assert page.count("published, not computed here") == 1
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_the_same_report_twice_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, "title", sections())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_ids_of_plots_do_not_collide(tmp_path: Path) -> None:
    plot = BarPlot("Use", [1, 2], "code", "count")
    write_report(tmp_path / "page.html", "title", [plot, plot])
    first, second = re.findall(r"<svg.*?</svg>", (tmp_path / "page.html").read_text(), flags=re.DOTALL)
    clips = [set(re.findall(r'clipPath id="([^"]+)"', svg)) for svg in (first, second)]
    assert clips[0]
    assert not clips[0] & clips[1]


def test_names_in_plots_are_text(tmp_path: Path) -> None:
    plot = LinePlot("Cost", {"_$a$ <b>": ([1, 2], [1, 2]), "_c": ([1, 2], [2, 1])}, "$x$", "y & z", log_x=True)
    write_report(tmp_path / "page.html", "title", [plot])
    page = (tmp_path / "page.html").read_text()
    for shown in ("_$a$ &lt;b&gt;", "$x$", "y &amp; z", "_c"):
        assert f">{shown}<" in page


def test_plots_take_their_colors_from_the_page(tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", "title", sections())
    page = (tmp_path / "page.html").read_text()
    assert "var(--series-1)" in page
    assert "currentColor" in page
    assert not re.search(r"#(?:a1000\d|010203|040506)", page)


def test_image_arrays() -> None:
    image = torch.zeros(3, 2, 4)
    image[0] = 1
    assert to_image_array(image).shape == (2, 4, 3)
    assert to_image_array(image)[0, 0].tolist() == [255, 0, 0]
    np.testing.assert_array_equal(to_image_array((image * 255).to(torch.uint8)), to_image_array(image))
    assert len(to_image_arrays(torch.zeros(5, 3, 2, 2))) == 5
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 10, np.uint8)
    assert difference_image(black, white, gain=4).max() == 40
    np.testing.assert_array_equal(difference_image(black, white), difference_image(white, black))
    with pytest.raises(EvaluationError, match=r"\(3, H, W\)"):
        to_image_array(torch.zeros(1, 2, 2))


def test_token_images_show_equal_tokens_alike() -> None:
    drawn = token_image([[0, 1], [1, 2]], 3, cell=2)
    assert drawn.shape == (4, 4, 3)
    np.testing.assert_array_equal(drawn[0, 2], drawn[2, 0])
    assert (drawn[0, 0] != drawn[3, 3]).any()
    assert token_image(range(5), 8, cell=1).shape == (2, 3, 3)
    with pytest.raises(EvaluationError, match="vocabulary of 3"):
        token_image([3], 3)


def test_the_table_of_a_result() -> None:
    suite = Suite.parse({"name": "s", "data": {"name": "digits"}, "num_samples": 9, "metrics": ["psnr", "rate"]})
    result = evaluate_suite(suite, GrayPatches(), name="gray")
    table = result_table([result, result], title="Numbers", published={"gray": [PublishedFigure("rFID", 2.21, "ImageNet", "a paper")]})
    assert table.columns == ["metric", "gray", "gray"]
    assert all(len(row.cells) == 3 for row in table.rows)
    assert table.rows[0].cells[0] == "PSNR ↑ (dB)"
    assert table.rows[0].name == "psnr.mean_db"
    assert table.rows[0].note == result.values[0].protocol
    assert [bool(row.published) for row in table.rows] == [False] * len(result.values) + [True]
    assert "9 samples of 16 x 16" in table.note


def test_a_plot_of_two_points_is_a_table(tmp_path: Path) -> None:
    plot = LinePlot("Quality", {"first": ([1.5], [20]), "second": ([3], [21.25])}, "bits", "PSNR (dB)", note="below")
    write_report(tmp_path / "page.html", "title", [plot, LinePlot("Loss", {"": ([1, 2], [3, 4])}, "step", "loss")])
    page = (tmp_path / "page.html").read_text()
    assert "<svg" not in page
    found = plot.legible()
    assert isinstance(found, Table)
    assert [list(row.cells) for row in found.rows] == [["first", "1.5", "20"], ["second", "3", "21.25"]]
    assert list(found.columns) == ["", "bits", "PSNR (dB)"]
    longer = LinePlot("Loss", {"": ([1, 2, 3], [3, 4, 5])}, "step", "loss")
    assert longer.legible() is longer


def test_lines_show_the_name_in_files_below_the_standard_one(tmp_path: Path) -> None:
    wide = Table(
        "Numbers", ["metric", "a", "b", "c"], [Row(["PSNR ↑ (dB)", "1", "2", "3"], name="psnr.mean_db"), Row(["same", "", "", ""], name="same")]
    )
    write_report(tmp_path / "page.html", "title", [wide])
    page = (tmp_path / "page.html").read_text()
    assert "<code>psnr.mean_db</code>" in page
    assert "<code>same</code>" not in page
    assert '<table class="wide">' in page  # a block per line on narrow screens, where each number shows its column
    assert page.count('data-column="b"') == 2


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("psnr.mean_db", "PSNR ↑ (dB)"),
        ("psnr.mean_db at 4 tokens", "PSNR ↑ (dB) at 4 tokens"),
        ("FD[digit-classifier]", "Fréchet distance, digit-classifier ↓"),
        ("my.own", "my.own"),
    ],
)
def test_names_have_headings(name: str, heading: str) -> None:
    assert heading_of(name) == heading


@pytest.mark.parametrize(("task", "title"), [("reconstruction", "rFID"), ("generation", "gFID")])
def test_an_fid_says_what_it_is_of(task: str, title: str) -> None:
    aggregate = Aggregate(key="FD[]", value=1.0, count=9, protocol="", extractor=InceptionV3Compat.__new__(InceptionV3Compat))
    value = metric_value(METRICS["frechet"], aggregate, task)
    assert value.title == f"{title} (Fréchet distance, inception-v3-compat)"
    assert value.name == "FID[inception-v3-compat]"
