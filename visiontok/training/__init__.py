"""Training of tokenizers and generators from recipes."""

from visiontok.training.dry_run import DryRun, dry_run
from visiontok.training.loop import TrainingResult
from visiontok.training.recipe import DrafterRecipe, GeneratorRecipe, TokenizerRecipe, load_recipe, parse_recipe
from visiontok.training.task import Task
from visiontok.training.train import train

__all__ = [
    "DrafterRecipe",
    "DryRun",
    "GeneratorRecipe",
    "Task",
    "TokenizerRecipe",
    "TrainingResult",
    "dry_run",
    "load_recipe",
    "parse_recipe",
    "train",
]
