"""What tokenizers and generators share: a configuration, a device, and conversion from the authors' checkpoints."""

from __future__ import annotations

import hashlib
from abc import ABCMeta
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.finite import WeightCheck
from visiontok.base.wiring import model_store
from visiontok.core.building import build_with_weights
from visiontok.core.card import CardResult, ModelCard
from visiontok.core.keymap import KeyMap

ConfigT = TypeVar("ConfigT", bound=Config)


class _BuiltInFloat32(ABCMeta):
    """Models are built in float32, whatever torch's default dtype; `to` and `from_pretrained(dtype=)` give them another."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            torch.set_default_dtype(before)


class Model(nn.Module, Generic[ConfigT], metaclass=_BuiltInFloat32):
    """Base of `Tokenizer` and `Generator`.

    Attributes:
        config_class: the family's frozen configuration.
        reference_keys: how the keys of the authors' state dicts map to ours, for families that read them.
        config: the configuration this model was built from.
    """

    _anchor: Tensor
    config_class: ClassVar[type[Config]]
    reference_keys: ClassVar[KeyMap]

    def __init__(self, config: ConfigT) -> None:
        super().__init__()
        self.config = config
        # Follows `to` and `half` also where a model has no parameters.
        self.register_buffer("_anchor", torch.empty(0, dtype=torch.float32), persistent=False)
        self._weight_check = WeightCheck()

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """Our configuration from the authors' (and, where theirs omits sizes, from the shapes of the weights).

        Raises:
            ConfigError: if it has unknown keys or values, or lacks sizes that do not follow from the weights; by families that read no such
                checkpoints.
        """
        raise ConfigError(f"{cls.__name__} reads no authors' checkpoints; load a folder that save_pretrained wrote")

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Build the model from the authors' configuration and weights, in evaluation mode.

        Raises:
            ConfigError: if the configuration has unknown keys or values.
            CheckpointError: listing unmapped, missing or wrongly shaped tensors.
        """
        ours = cls.config_from_reference(config, state_dict)
        weights = cls.weights_for(ours, state_dict)
        return build_with_weights(lambda: cls(ours), weights, source="the reference checkpoint")  # type: ignore[arg-type]

    @classmethod
    def weights_for(cls, config: Config, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names, for a model of this configuration. Families that read other tensors for other configurations extend
        this.

        Raises:
            CheckpointError: listing tensors that the model does not have.
        """
        return cls.weights_from_reference(state_dict)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names. Families whose tensors also change shape extend this.

        Raises:
            CheckpointError: listing tensors that the model does not have.
        """
        return cls.reference_keys(state_dict)

    def save_pretrained(self, folder: str | Path, *, card: ModelCard | None = None, results: Sequence[CardResult] = ()) -> Path:
        """Write weights, configuration and a model card; `from_pretrained` reads the folder. See `visiontok.hub.save_pretrained`.

        Args:
            folder: made if it is not there.
            card: what the model card says beside what follows from the model.
            results: of evaluations of this model.

        Raises:
            UnknownNameError: if the model's class is not registered.
            CheckpointError, OSError: if a result is that of other weights, or the files cannot be written; the folder is then as it was.
        """
        return model_store().save_pretrained(self, folder, card=card, results=results)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        card: ModelCard | None = None,
        results: Sequence[CardResult] = (),
    ) -> str:
        """Save the model and upload it in one commit; the address of the commit. See `visiontok.hub.push_to_hub`.

        Args:
            repo_id: "owner/name"; made if it is not there.
            private: whether a new repository is private; None for the owner's default.
            token: access token that may write; None for the stored one.
            card, results: as for `save_pretrained`.

        Raises:
            HubError: if the hub refuses or cannot be reached.
        """
        return model_store().push_to_hub(self, repo_id, private=private, token=token, card=card, results=results)

    def check_weights(self) -> None:
        """Before weights are used: all are looked at when they are new, and again when they have changed.

        Raises:
            NonFiniteError: naming the first one with NaN or infinity.
        """
        self._weight_check(self)

    @property
    def num_parameters(self) -> int:
        """Numbers in all parameters, frozen ones included."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self._anchor.dtype


@runtime_checkable
class StartsFromBackbone(Protocol):
    """A model whose networks can start from the published weights of a backbone, such as a DINOv2."""

    def load_backbone(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take what the backbone has; everything else stays as it is.

        Args:
            state_dict: tensors under their published names.

        Raises:
            CheckpointError: if they are another network's, or of other sizes.
        """


COMPILED = "_orig_mod."
"""What `torch.compile` puts into the names of a module's tensors."""


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model by the names that it has without `torch.compile`, detached.

    Raises:
        CheckpointError: if a tensor is parametrized, so that its tensors differ from those of a newly built model.
    """
    state = {name.replace(COMPILED, ""): tensor.detach() for name, tensor in model.state_dict().items()}
    changed = [name for name in state if ".parametrizations." in f".{name}"]
    if changed:
        raise CheckpointError(
            f"{changed[0]} belongs to a parametrization, which a model built from its configuration does not have: "
            "call torch.nn.utils.parametrize.remove_parametrizations first"
        )
    return state


def weights_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 over every parameter and buffer in the order of their names: equal weights have equal sums, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(((name.replace(COMPILED, ""), tensor) for name, tensor in state_dict.items()), key=lambda entry: entry[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
