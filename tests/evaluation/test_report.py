import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import Suite, evaluate_suite
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
