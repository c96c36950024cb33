"""Reports: sections of text, numbers, images and plots in one self-contained HTML page."""

from visiontok.evaluation.results.report.images import difference_image, to_image_array, to_image_arrays, token_image
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import (
    BarPlot,
    ClipGrid,
    Folded,
    ImageGrid,
    ImageRow,
    LinePlot,
    PointPlot,
    Row,
    Section,
    SoundGrid,
    Table,
    Text,
)
from visiontok.evaluation.results.report.tables import result_table

__all__ = [
    "BarPlot",
    "ClipGrid",
    "Folded",
    "ImageGrid",
    "ImageRow",
    "LinePlot",
    "PointPlot",
    "Row",
    "Section",
    "SoundGrid",
    "Table",
    "Text",
    "difference_image",
    "result_table",
    "to_image_array",
    "to_image_arrays",
    "token_image",
    "write_report",
]
