"""The model zoo's index: which families exist, which checkpoints were released or are bundled, where they are and what was published about them.

The registry is data: one JSON table beside each family's module (`tokenizers/image/titok/checkpoints.json` beside `model.py`), and one folder in hub
layout per bundled model. Reading it imports neither the family nor torch. A family's module follows from its table's path, so that no
table and no hub configuration can name code.
"""

from visiontok.registry.entries import KINDS, MODALITIES, Checkpoint, Family, Kind, PublishedFigure, SavedModel, SignalFacts, WeightPart
from visiontok.registry.folders import TrainingProgress, model_folder, models_in, run_state
from visiontok.registry.lookup import (
    bundled,
    checkpoints,
    families,
    families_of_system,
    family_of,
    find_family,
    find_repository,
    list_drafters,
    list_generators,
    list_tokenizers,
    modalities_of,
    read_saved_model,
    recognize,
    spelled,
)
from visiontok.registry.taxonomy import TAXONOMY, belongs, checked_filter

__all__ = [
    "KINDS",
    "MODALITIES",
    "TAXONOMY",
    "Checkpoint",
    "Family",
    "Kind",
    "PublishedFigure",
    "SavedModel",
    "SignalFacts",
    "TrainingProgress",
    "WeightPart",
    "belongs",
    "bundled",
    "checked_filter",
    "checkpoints",
    "families",
    "families_of_system",
    "family_of",
    "find_family",
    "find_repository",
    "list_drafters",
    "list_generators",
    "list_tokenizers",
    "modalities_of",
    "model_folder",
    "models_in",
    "read_saved_model",
    "recognize",
    "run_state",
    "spelled",
]
