"""Studies: a claim, the trainings that it is about, and what measurements over several seeds say of it."""

from visiontok.studies.definition import Study, list_studies, load_study
from visiontok.studies.result import Finding, RunValues, StudyResult
from visiontok.studies.run import run_study

__all__ = ["Finding", "RunValues", "Study", "StudyResult", "list_studies", "load_study", "run_study"]
