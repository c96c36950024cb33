"""From a name to a model and back: released checkpoints, hub repositories, local folders."""

from visiontok.core.card import CardResult, ModelCard
from visiontok.hub.loading import create, from_pretrained
from visiontok.hub.reference import from_reference
from visiontok.hub.saving import add_results, push_folder, push_to_hub, save_pretrained

__all__ = ["CardResult", "ModelCard", "add_results", "create", "from_pretrained", "from_reference", "push_folder", "push_to_hub", "save_pretrained"]
