"""Reports: sections of text, numbers, pictures and plots in one self-contained HTML page."""

from visiontok.evaluation.results.report.images import difference_picture, to_picture, to_pictures, token_picture
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import BarPlot, Folded, LinePlot, PictureRow, Pictures, PointPlot, Row, Section, Table, Text
from visiontok.evaluation.results.report.tables import result_table

__all__ = [
    "BarPlot",
    "Folded",
    "LinePlot",
    "PictureRow",
    "Pictures",
    "PointPlot",
    "Row",
    "Section",
    "Table",
    "Text",
    "difference_picture",
    "result_table",
    "to_picture",
    "to_pictures",
    "token_picture",
    "write_report",
]
