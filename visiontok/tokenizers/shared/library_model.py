"""What tokenizers share whose networks are those of transformers or diffusers: configuration, building and loading through the library."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.optional import import_optional_class
from visiontok.core.model import ConfigT
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.core.tokenizer import Tokenizer


class LibraryConfig(Config):
    """A configuration whose fields have the names of the library's own; a family's subclass adds what the library does not have."""

    def library_arguments(self) -> dict[str, Any]:
        """What the library's configuration class, or diffusers' constructor, takes."""
        return {name: value for name, value in self if name not in self.added_fields()}

    @classmethod
    def added_fields(cls) -> frozenset[str]:
        """Fields that the library's class does not know."""
        return frozenset()


class LibraryTokenizer(Tokenizer[ConfigT]):
    """Base of a tokenizer whose networks are another library's. `read_library` and `from_reference` together load a released one.

    Attributes:
        library: the package, "transformers" or "diffusers".
        network_class: its class.
        network_config_class: transformers' configuration class; empty for diffusers, whose classes take their arguments directly.
        within: the tokenizer's name within a whole multimodal model; empty where it is a model by itself.
        ignored_settings: keys of the library's configuration that do not affect the tokenizer -> the reason.
    """

    library: ClassVar[str]
    network_class: ClassVar[str]
    network_config_class: ClassVar[str] = ""
    within: ClassVar[str] = ""
    ignored_settings: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @classmethod
    def new_network(cls, arguments: Mapping[str, Any]) -> nn.Module:
        """The library's network with random weights.

        Raises:
            DependencyError: if the library is not installed, or too old for this network.
            ConfigError: if it refuses the arguments.
        """
        network_class = import_optional_class(cls.library, cls.network_class, extra="zoo")
        try:
            if not cls.network_config_class:
                return network_class(**arguments)
            return network_class(import_optional_class(cls.library, cls.network_config_class, extra="zoo")(**arguments))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{cls.library} refuses the configuration of its {cls.network_class}: {error}") from error

    @classmethod
    def read_library(cls, name: str, hub: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], list[str]]:
        """Configuration and weights through the library's own `from_pretrained`, also out of a whole multimodal model, for `from_reference`.

        Args:
            name: repository or folder.
            hub: subfolder, revision, cache_dir, local_files_only, token, as the library takes them.

        Returns:
            Configuration, weights, and what is wrong with the checkpoint: tensors that it lacks or that have other shapes.
        """
        network_class = import_optional_class(cls.library, cls.network_class, extra="zoo")
        if not cls.network_config_class:
            network, report = network_class.from_pretrained(name, output_loading_info=True, **hub)
            return dict(network.config), network.state_dict(), problems_of(report)
        network, report = read_part(network_class, name, cls.within, hub)
        return network.config.to_dict(), network.state_dict(), problems_of(report)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the library's own `config.json`."""
        fields, source = tuple(cls.config_class.model_fields), f"the configuration of {cls.network_class}"
        general = general_settings() if cls.network_config_class else {}
        read = (*fields, *(f"{field}.{{*}}" for field in fields))
        ReferenceKeys(read=read, ignored={**cls.ignored_settings, **general}).check(config, source=source)
        return cls.config_class.parse({key: config[key] for key in fields if key in config}, source=source)


_OLDER_SETTINGS = frozenset((
    "add_cross_attention", "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "cross_attention_hidden_size", "decoder_start_token_id",
    "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "is_decoder", "length_penalty", "max_length", "min_length",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_scores", "pad_token_id", "prefix", "pruned_heads",
    "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params",
    "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torchscript", "typical_p",
    "use_bfloat16",
))  # fmt: skip
"""What versions of transformers before 5 wrote into every configuration: settings of language models, and of their generation."""


def general_names() -> frozenset[str]:
    """The keys that every configuration of transformers may have, whichever version wrote it; none affects the tokens."""
    known = set(import_optional_class("transformers", "PretrainedConfig", extra="zoo")().to_dict())
    return frozenset(known | _OLDER_SETTINGS | {"initializer_range", "model_type", "torch_dtype"})


def general_settings(prefix: str = "") -> dict[str, str]:
    """`general_names` and what is below them, with a prefix -> why they are ignored."""
    reason = "a setting that transformers gives to every model; it does not affect the tokens"
    return {f"{prefix}{name}{rest}": reason for name in sorted(general_names()) for rest in ("", ".{*}")}


def read_part(network_class: Any, name: str, within: str, hub: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """A model of transformers, or one part of a multimodal one by itself, and the report of its loading.

    Args:
        network_class: of the part.
        name: repository or folder, of the part or of the whole model.
        within: the part's name within the whole model; empty for a model by itself.
        hub: see `LibraryTokenizer.read_library`.
    """
    names = {"key_mapping": {rf"^(?:model\.)?{within}\.": ""}} if within else {}
    network, report = network_class.from_pretrained(name, output_loading_info=True, **names, **hub)
    return network, report


def problems_of(report: Mapping[str, Any]) -> list[str]:
    """What a library's report of loading lists as missing or wrong; tensors of other parts are not."""
    kinds = ("missing_keys", "mismatched_keys", "error_msgs")
    return [f"{kind.replace('_', ' ')}: {', '.join(sorted(map(str, report[kind]))[:20])}" for kind in kinds if report.get(kind)]
