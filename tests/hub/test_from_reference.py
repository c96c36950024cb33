"""The authors' configuration and tensors in, a model out: which kind it is, and what was around the tensors."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import save
from tiny_family import TinyPrior, TinyTokenizer, prior_state_dict, reference_state_dict
from torch import Tensor

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError, ConfigError, UnknownNameError
from visiontok.hub.wrappers import unwrap

CONFIG = {"model": {"codes": 4, "width": 3}}


@pytest.mark.usefixtures("tiny_and_prior")
class TestKinds:
    def test_a_system_of_two_kinds(self) -> None:
        assert [family.name for family in registry.families_of_system("tiny-reference")] == ["tiny", "tiny-prior"]
        assert [family.name for family in registry.families_of_system("tiny-reference", "generator")] == ["tiny-prior"]

    def test_the_names_of_the_tensors_tell(self) -> None:
        assert isinstance(visiontok.from_reference("tiny-reference", CONFIG, reference_state_dict()), TinyTokenizer)
        assert isinstance(visiontok.from_reference("tiny-reference", CONFIG, prior_state_dict()), TinyPrior)
        assert isinstance(
            visiontok.from_reference("tiny-reference", CONFIG, {"module.net." + k: v for k, v in prior_state_dict().items()}), TinyPrior
        )

    def test_a_kind_can_be_named(self) -> None:
        assert isinstance(visiontok.from_reference("tiny-reference", CONFIG, prior_state_dict(), kind="generator"), TinyPrior)
        with pytest.raises(CheckpointError, match=r"logits\.weight"):
            visiontok.from_reference("tiny-reference", CONFIG, prior_state_dict(), kind="tokenizer")

    @pytest.mark.parametrize("stray", [{}, {"a": torch.ones(1)}, {"codebook": torch.ones(1), "temperature": torch.ones(1)}])
    def test_names_that_do_not_tell(self, stray: dict[str, Tensor]) -> None:
        with pytest.raises(UnknownNameError, match="kind='tokenizer'"):
            visiontok.from_reference("tiny-reference", CONFIG, stray)

    def test_in_a_repository(self, hub: HubServer) -> None:
        hub.repo("me/prior", {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": save(prior_state_dict())})
        assert isinstance(visiontok.from_pretrained("me/prior", system="tiny-reference"), TinyPrior)
        assert isinstance(visiontok.from_pretrained("me/prior", system="tiny-reference", kind="generator"), TinyPrior)
        with pytest.raises(ConfigError, match="kind='generator'"):
            visiontok.from_pretrained("me/prior", kind="generator")


def test_a_kind_that_a_system_has_not() -> None:
    with pytest.raises(UnknownNameError, match="generator"):
        visiontok.from_reference("tiny-reference", CONFIG, {}, kind="generator")


def state_dict() -> dict[str, Tensor]:
    return {**reference_state_dict(), "enc.weight": torch.arange(9.0).view(3, 3)}


def averages() -> dict[str, Tensor]:
    return {name: tensor + 100 for name, tensor in state_dict().items()}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


LOSS = {"loss.perceptual.weight": torch.ones(1), "discriminator.0.bias": torch.ones(1)}
RAW = {
    "DDP": prefixed("module.", state_dict()),
    "DDP of compiled": prefixed("module._orig_mod.", state_dict()),
    "compiled DDP": prefixed("_orig_mod.module.", state_dict()),
    "compiled parts": {name.replace("enc.", "enc._orig_mod."): tensor for name, tensor in state_dict().items()},
    "FSDP and activation checkpointing": {
        name.replace("enc.", "enc._checkpoint_wrapped_module."): tensor for name, tensor in prefixed("_fsdp_wrapped_module.", state_dict()).items()
    },
    "Lightning": {"epoch": 3, "pytorch-lightning_version": "2.4", "state_dict": prefixed("model.", state_dict()), "optimizer_states": [{}]},
    "Lightning with losses": {"state_dict": {**prefixed("net.", state_dict()), **LOSS}},
    "Lightning with averages beside": {"state_dict": {**prefixed("model.", state_dict()), **prefixed("model_ema.", averages())}},
    "Lightning of compiled": {"state_dict": prefixed("model._orig_mod.", state_dict())},
    "raw and averages": {"ema": averages(), "model": state_dict(), "args": {"lr": 0.1}},
    "nested": {"model": {"state_dict": prefixed("module.", state_dict())}, "step": 5},
}
AVERAGED = {
    "ema": {"ema": averages()},
    "model_ema": {"model_ema": prefixed("module.", averages()), "optimizer": {"state": {}}},
    "ema_state_dict": {"ema_state_dict": prefixed("module.module.", averages())},
    "decay beside": {"ema": {"decay": 0.999, "num_updates": 7, "shadow": averages()}},
    "decay within": {"ema": {"decay": 0.999, **averages()}},
    "ema-pytorch": {**prefixed("ema_model.", averages()), "initted": torch.ones(1), "step": torch.ones(1)},
    "ema-pytorch with both copies": {"ema": {**prefixed("ema_model.", averages()), **prefixed("online_model.", state_dict()), "step": torch.ones(1)}},
    "shadow": {"shadow": prefixed("module.", averages())},
}


class TestWrappers:
    """What training scripts put around a model's tensors."""

    @pytest.mark.parametrize("wrapped", RAW.values(), ids=RAW)
    def test_raw_weights_are_found(self, wrapped: dict[str, Any]) -> None:
        assert torch.equal(visiontok.from_reference("tiny-reference", CONFIG, wrapped).encoder.weight, state_dict()["enc.weight"])

    @pytest.mark.parametrize("wrapped", AVERAGED.values(), ids=AVERAGED)
    def test_averages_are_found_where_there_is_nothing_else(self, wrapped: dict[str, Any]) -> None:
        assert torch.equal(visiontok.from_reference("tiny-reference", CONFIG, wrapped).encoder.weight, averages()["enc.weight"])

    NESTED: ClassVar = {"ema": {"decay": 0.9, "shadow": averages()}, "state_dict": {**prefixed("one.", state_dict()), **prefixed("two.", averages())}}

    @pytest.mark.parametrize(("key", "expected"), [("ema", 100), ("ema.shadow", 100), ("state_dict.one", 0), ("state_dict.two", 100)])
    def test_an_entry_can_be_named_by_a_path_that_ends_with_a_prefix(self, key: str, expected: float) -> None:
        assert unwrap(self.NESTED, key=key, source="here").tensors["enc.weight"][0, 0] == expected

    @pytest.mark.parametrize("key", ["ema.state_dict", "one", "state_dict.three", "ema.decay"])
    def test_an_entry_that_is_not_there(self, key: str) -> None:
        with pytest.raises(CheckpointError, match=re.escape(repr(key.split(".")[-1]))):
            unwrap(self.NESTED, key=key, source="here")

    def test_an_error_names_the_wrappers_and_the_keys(self) -> None:
        with pytest.raises(CheckpointError) as error:
            visiontok.from_reference("tiny-reference", CONFIG, {"model_ema": prefixed("module.", {**state_dict(), "stray.weight": torch.ones(1)})})
        for words in ("'model_ema'", "'module.'", "stray.weight"):
            assert words in str(error.value)

    def test_an_unknown_wrapper_is_named(self) -> None:
        with pytest.raises(CheckpointError) as error:
            visiontok.from_reference("tiny-reference", CONFIG, prefixed("wrapped.", state_dict()))
        assert "'wrapped.'" in str(error.value)
        assert "wrapped.codebook" in str(error.value)

    def test_tensors_of_another_model_beside_a_prefix_are_not_dropped(self) -> None:
        with pytest.raises(CheckpointError, match=r"prior\.weight"):
            visiontok.from_reference("tiny-reference", CONFIG, {**prefixed("model.", state_dict()), "prior.weight": torch.ones(1)})

    def test_two_names_that_become_one_are_refused(self) -> None:
        with pytest.raises(CheckpointError, match=r"enc\.weight"):
            visiontok.from_reference("tiny-reference", CONFIG, {**state_dict(), "_orig_mod.enc.weight": torch.ones(3, 3)})

    @pytest.mark.parametrize("values", [{"ema": [1, 2]}, {"state_dict": {}}, {"epoch": 3}, [1], {"model": {"enc.weight": "text"}}])
    def test_what_holds_no_state_dict(self, values: Any) -> None:
        with pytest.raises(CheckpointError):
            visiontok.from_reference("tiny-reference", CONFIG, values)
