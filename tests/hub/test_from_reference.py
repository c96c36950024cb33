"""The authors' configuration and tensors in, a model out: which kind it is, and what was around the tensors."""

from __future__ import annotations

import json

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import save
from tiny_family import TinyPrior, TinyTokenizer, prior_state_dict, reference_state_dict
from torch import Tensor

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError, ConfigError, UnknownNameError

CONFIG = {"model": {"codes": 4, "width": 3}}


@pytest.mark.usefixtures("tiny_and_prior")
class TestKinds:
    def test_a_system_of_two_kinds_needs_one(self) -> None:
        with pytest.raises(UnknownNameError) as error:
            registry.find_system("tiny-reference")
        assert all(word in str(error.value) for word in ("kind='tokenizer'", "kind='generator'"))
        assert registry.find_system("tiny-reference", "tokenizer").name == "tiny"
        assert registry.find_system("tiny-reference", "generator").name == "tiny-prior"

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
