"""Studies: claims about tokenizers, tested by training and evaluation over several seeds."""

from visiontok.studies.definition import Study, list_studies, load_study
from visiontok.studies.result import Finding, RunValues, StudyResult
from visiontok.studies.run import run_study

__all__ = ["Finding", "RunValues", "Study", "StudyResult", "list_studies", "load_study", "run_study"]
