"""From a name to a model and back: released checkpoints, hub repositories, local folders."""

from visiontok.hub.card import Measurement, ModelCard
from visiontok.hub.loading import create, from_pretrained
from visiontok.hub.reference import from_reference
from visiontok.hub.saving import push_folder, push_to_hub, save_pretrained

__all__ = ["Measurement", "ModelCard", "create", "from_pretrained", "from_reference", "push_folder", "push_to_hub", "save_pretrained"]
