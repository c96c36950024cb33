"""An evaluation's result as lines of a model card."""

from __future__ import annotations

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.results.result import Result
from visiontok.hub import CardResult


def card_results(result: Result) -> tuple[CardResult, ...]:
    """Every metric of a result that has a value.

    Args:
        result: of a model, as `visiontok evaluate` writes it.

    Raises:
        EvaluationError: for results of samples whose generator is not known, which belong on no card.
    """
    if result.model is None:
        raise EvaluationError("this result is that of samples without a model, so it belongs on no model card; evaluate the model itself")
    dataset = f"{result.suite.get('name', 'unnamed suite')} ({result.data.in_words})"
    return tuple(
        CardResult(
            metric=value.label,
            title=value.title,
            better=value.better,
            value=value.value,
            unit=value.unit,
            dataset=dataset,
            protocol=value.protocol,
            weights_sha256=result.model.weights_sha256,
        )
        for value in result.values
        if value.value is not None
    )
