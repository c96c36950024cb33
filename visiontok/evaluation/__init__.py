from visiontok.evaluation.metrics.frechet import frechet_distance

__all__ = ["frechet_distance"]
