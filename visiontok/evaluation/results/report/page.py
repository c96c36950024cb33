"""One self-contained HTML page: no network, no script, style and images inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from visiontok.base.files import replacing
from visiontok.evaluation.results.report.images import data_uri
from visiontok.evaluation.results.report.panels import draw_panel
from visiontok.evaluation.results.report.plots import draw_plot, legend
from visiontok.evaluation.results.report.sections import BarPlot, LinePlot, PointPlot, Section, Spectrogram, Waveform


def write_report(path: str | Path, title: str, sections: Sequence[Section], *, summary: str = "", facts: Mapping[str, str] | None = None) -> None:
    """Write a report, whole or not at all.

    Args:
        path: of the HTML file.
        title: of the page.
        sections: from top to bottom.
        summary: a sentence below the title.
        facts: small print at the end, such as versions and hardware.
    """
    page = render_page(title, sections, summary=summary, facts=facts)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def sound_uri(file: bytes) -> str:
    """A sound file as a data URI."""
    return f"data:audio/flac;base64,{base64.b64encode(file).decode()}"


def animation_uri(file: bytes) -> str:
    """An animated WebP file as a data URI."""
    return f"data:image/webp;base64,{base64.b64encode(file).decode()}"


def render_page(title: str, sections: Sequence[Section], *, summary: str = "", facts: Mapping[str, str] | None = None) -> str:
    """The page of `write_report` as text. Everything that comes from outside is escaped."""
    drawn = 0

    def legible(section: Section) -> Section:
        return section.legible() if isinstance(section, LinePlot | PointPlot) else section

    def plot(section: LinePlot | PointPlot | BarPlot | Waveform | Spectrogram) -> Markup:
        nonlocal drawn
        drawn += 1
        salt = f"plot{drawn}"
        return Markup(draw_panel(section, salt=salt) if isinstance(section, Waveform | Spectrogram) else draw_plot(section, salt=salt))

    loader = PackageLoader("visiontok.evaluation.results.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("page.html.jinja")
    uris = {"data_uri": data_uri, "sound_uri": sound_uri, "animation_uri": animation_uri}
    return template.render(title=title, summary=summary, sections=sections, facts=facts or {}, plot=plot, legible=legible, legend=legend, **uris)
