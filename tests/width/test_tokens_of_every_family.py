"""Each of the small families goes through everything that carries tokens, without a special case anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from families import Case, every_case, every_decoding_case, every_discrete_case
from token_batches import assert_same
from torch import Tensor
from typer.testing import CliRunner

import visiontok
from visiontok.base.errors import ConfigError, IdentityError, TokenError
from visiontok.cli import app
from visiontok.core.identity import identify
from visiontok.data import EvalLoader, open_source
from visiontok.data.arrays import ArraysConfig
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_file import TokenFile
from visiontok.data.tokenizing import tokenize_source
from visiontok.signals import SignalBatch
from visiontok.signals.video_reading import read_clip
from visiontok.tokens import Latents, Tokens, TokenStream


def one_by_one(case: Case) -> list[Tokens | Latents]:
    tokenizer = case.build()
    return [tokenizer.encode([signal]) for signal in case.signals()]


def folder_of(case: Case, path: Path) -> ArraysConfig:
    """The signals as files, in the order of their names."""
    path.mkdir(exist_ok=True)
    for number, signal in enumerate(case.signals()):
        np.save(path / f"{number}.npy", signal.numpy())
    return ArraysConfig(path=str(path), modality=case.modality)


@every_case
def test_a_batch_of_different_sizes_is_encoded_as_each_signal_alone(case: Case) -> None:
    tokens = case.build().encode(case.signals())
    assert_same(tokens, type(tokens).cat(one_by_one(case)))
    assert case.build().layout.accepts(tokens.layout)
    stacked = SignalBatch.stack(case.signals())
    assert_same(case.build().encode(stacked), tokens)
    assert len({tuple(row) for row in tokens.sample_extents.tolist()}) > 2
    assert len(torch.unique(tokens.data)) > 3  # the model tells signals apart, so that comparisons can fail


@every_decoding_case
def test_decoding_gives_the_exact_size_back_alone_and_in_a_batch(case: Case) -> None:
    tokenizer, signals = case.build(), case.signals()
    together = tokenizer.decode(tokenizer.encode(signals))
    for row, (signal, tokens) in enumerate(zip(signals, one_by_one(case), strict=True)):
        alone = tokenizer.decode(tokens)
        assert alone.shape == (1, *signal.shape)
        assert torch.equal(tokenizer.spec.clamp(alone), alone)
        within = (row, slice(None), *(slice(size) for size in signal.shape[1:]))
        torch.testing.assert_close(together[within], alone[0])
        beyond = together[row].clone()
        beyond[within[1:]] = 0
        assert not beyond.any()


def test_an_encode_only_family_refuses_to_decode() -> None:
    (case,) = (case for case in every_case.args[1] if not case.model.can_decode)
    tokenizer = case.build()
    with pytest.raises(TokenError, match=case.model.__name__):
        tokenizer.decode(tokenizer.encode(case.signals()))


@every_case
def test_no_family_draws(case: Case) -> None:
    assert not case.build().is_stochastic


@every_case
def test_a_training_pass_gives_gradients_to_what_has_parameters(case: Case) -> None:
    tokenizer = case.build().train()
    signal = tokenizer.preprocessing.pad(tokenizer.preprocessing([case.signals()[0]]).values)
    output = tokenizer(signal, step=3)
    assert tokenizer.layout.accepts(output.tokens.layout)
    loss = sum(output.losses.values(), torch.zeros(()))
    if tokenizer.can_decode:
        assert output.reconstruction is not None
        assert output.reconstruction.shape == signal.shape
        loss = loss + (output.reconstruction - signal).square().mean()
    if list(tokenizer.parameters()):
        loss.backward()
        assert all(parameter.grad is not None for parameter in tokenizer.parameters())


@every_case
def test_files_of_tokens(case: Case, tmp_path: Path) -> None:
    tokenizer = case.build()
    tokens = tokenizer.encode(case.signals())
    tokens.save(tmp_path / "plain.npz")
    assert_same(type(tokens).load(tmp_path / "plain.npz"), tokens)
    TokenFile(tokens, tuple("abcde"), identify(tokenizer, case.name)).write(tmp_path / "named.npz")
    found = TokenFile.read(tmp_path / "named.npz")
    assert_same(found.tokens, tokens)
    if tokenizer.can_decode:
        assert torch.equal(tokenizer.decode(found.tokens), tokenizer.decode(tokens))


@every_case
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_source_becomes_a_token_set(case: Case, num_workers: int, tmp_path: Path) -> None:
    tokenizer = case.build()
    source = open_source(folder_of(case, tmp_path / "signals"))
    made = tokenize_source(
        source,
        tokenizer,
        tmp_path / "tokens",
        identity=identify(tokenizer, case.name),
        batch_size=2,
        shard_size=3,
        num_workers=num_workers,
    )
    assert list(made.manifest.shards.values()) == [3, 2]
    assert not made.skipped
    dataset = TokenDataset(tmp_path / "tokens")
    expected = one_by_one(case)
    batch_class = type(expected[0])
    assert_same(dataset[0:5].tokens, batch_class.cat(expected))
    assert_same(dataset.batch([3, 1]).tokens, batch_class.cat([expected[3], expected[1]]))
    assert dataset.tokenizer.is_same(identify(tokenizer, "another name"))
    assert tokenizer.layout.accepts(dataset.layout)
    assert list(dataset.layout.extents) == [max(sizes) for sizes in zip(*(tokens.layout.extents for tokens in expected), strict=True)]
    if tokenizer.can_decode:
        (batch,) = EvalLoader(source, preprocessing=tokenizer.preprocessing, batch_size=5)
        assert tokenizer.decode(dataset[0:5].tokens).shape == batch.signals.values.shape


@every_case
def test_only_images_and_clips_are_mirrored(case: Case, tmp_path: Path) -> None:
    tokenizer = case.build()
    source = open_source(folder_of(case, tmp_path / "signals"))

    def run() -> None:
        tokenize_source(source, tokenizer, tmp_path / "tokens", identity=identify(tokenizer, case.name), flip=True)

    if case.modality not in ("image", "video"):
        with pytest.raises(ConfigError, match=case.modality):
            run()
        return
    run()
    dataset = TokenDataset(tmp_path / "tokens")
    assert dataset[0:2].keys == ["0.npy", "0.npy#flipped"]
    assert_same(dataset[1:2].tokens, tokenizer.encode([case.signals()[0].flip(-1)]))


@every_case
def test_saving_and_loading(case: Case, tmp_path: Path) -> None:
    tokenizer = case.build()
    visiontok.save_pretrained(tokenizer, tmp_path / "model")
    loaded: Any = visiontok.from_pretrained(tmp_path / "model")
    assert type(loaded) is case.model
    assert_same(loaded.encode(case.signals()), tokenizer.encode(case.signals()))
    assert identify(loaded, "x") == identify(tokenizer, "x")


@every_discrete_case
def test_one_stream_of_ids_for_a_language_model(case: Case) -> None:
    tokenizer = case.build()
    tokens = tokenizer.encode(case.signals())
    assert isinstance(tokens, Tokens)
    stream = TokenStream(tokenizer.layout)
    ids, lengths = stream.flatten(tokens)
    back = stream.unflatten(ids, lengths, tokens.sample_extents)
    assert_same(back.with_data(back.indices, extras=tokens.extras), tokens)


def test_the_codec_writes_fewer_levels() -> None:
    (case,) = (case for case in every_case.args[1] if case.name == "stereo-codec")
    tokenizer, signals = case.build(), case.signals()
    whole = tokenizer.encode(signals)
    for levels in (1, 2, 3):
        tokens = tokenizer.encode(signals, num_levels=levels)
        assert_same(tokens, whole.levels(levels))
        assert [segment.name for segment in tokens.layout.segments] == ["coarse", "middle", "fine"][:levels]
        assert tokenizer.decode(tokens).shape == tokenizer.decode(whole).shape
    with pytest.raises(TokenError, match="4"):
        tokenizer.encode(signals, num_levels=4)


@every_case
def test_the_command_line(case: Case, tmp_path: Path) -> None:
    visiontok.save_pretrained(case.build(), tmp_path / "model")
    folder_of(case, tmp_path / "signals")
    paths = sorted((tmp_path / "signals").iterdir())
    model = ("--model", tmp_path / "model", "--device", "cpu")
    _succeed("encode", *paths, "-o", tmp_path / "t.npz", *model)
    assert_same(TokenFile.read(tmp_path / "t.npz").tokens, case.build().encode(case.signals()))
    _succeed("tokenize", f"arrays:{case.modality}:{tmp_path / 'signals'}", "-o", tmp_path / "set", "--num-workers", 0, *model)
    assert len(TokenDataset(tmp_path / "set")) == 5
    if not case.model.can_decode:
        assert _run("decode", tmp_path / "t.npz", "-o", tmp_path / "out", *model).exit_code == 1
        return
    _succeed("decode", tmp_path / "t.npz", "-o", tmp_path / "out", *model)
    for path, tokens, signal in zip(paths, one_by_one(case), case.signals(), strict=True):
        decoded = _read(tmp_path / "out", path.stem)
        assert decoded.shape == signal.shape
        torch.testing.assert_close(decoded, case.build().decode(tokens)[0], **_precision(tmp_path / "out"))
    _succeed("reconstruct", *paths, "-o", tmp_path / "again", *model)
    again, decoded = _read(tmp_path / "again", "1"), _read(tmp_path / "out", "1")
    torch.testing.assert_close(again[..., -decoded.shape[-1] :], decoded, **_precision(tmp_path / "out"))  # clips stand beside their originals


@every_case
def test_tokens_of_other_weights_are_refused(case: Case, tmp_path: Path) -> None:
    tokenizer, other = case.build(), case.build()
    parameters = list(other.parameters())
    if not parameters or not tokenizer.can_decode:
        return
    with torch.no_grad():
        parameters[0].add_(1)
    visiontok.save_pretrained(other, tmp_path / "other")
    TokenFile(tokenizer.encode(case.signals()), tuple("abcde"), identify(tokenizer, "mine")).write(tmp_path / "t.npz")
    arguments = ("decode", tmp_path / "t.npz", "-o", tmp_path / "out", "--model", tmp_path / "other", "--device", "cpu")
    assert isinstance(_run(*arguments).exception, IdentityError | SystemExit)
    assert not (tmp_path / "out").exists()
    _succeed(*arguments, "--allow-other-tokenizer")


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _succeed(*arguments: object) -> None:
    result = _run(*arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"


def _read(folder: Path, stem: str) -> Tensor:
    """A signal (C, *axes) as `decode` writes it: sound as wav, clips as mp4, all else as an array."""
    (path,) = folder.glob(f"{stem}.*")
    if path.suffix == ".mp4":
        return torch.from_numpy(read_clip(path).frames).movedim(-1, 0) / 255
    if path.suffix == ".wav":
        samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy())
    return torch.from_numpy(np.load(path))


def _precision(folder: Path) -> dict[str, float]:
    """Of sound in 16 bits, and of compressed clips, if these were written."""
    absolute = {".wav": 2**-15, ".mp4": 0.25}
    written = [absolute[path.suffix] for path in folder.iterdir() if path.suffix in absolute]
    return {"rtol": 0.0, "atol": written[0]} if written else {}
