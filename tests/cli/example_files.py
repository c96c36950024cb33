"""What the examples in the help of commands name: small models under the names of released ones and in folders, and small files."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import succeed
from diffusers import AutoencoderKL
from omegaconf import OmegaConf
from PIL import Image
from small_models import SMALL
from video_files import frames, tone, video

import visiontok
from visiontok.base.resources import suites_folder
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.maskgit.model import MaskGIT, MaskGITConfig
from visiontok.signals.audio_writing import save_audio

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "tests" / "studies" / "tiny_study.yaml"
NETWORK = {"dim": 16, "depth": 1, "num_heads": 2}


def titok(*, image_size: int = 256, tokens: int = 32, family: str = "titok", **changes: Any) -> Any:
    network = {**NETWORK, "patch_size": image_size // 4}
    config = {
        "image_size": image_size,
        "num_latent_tokens": tokens,
        "encoder": network,
        "decoder": network,
        "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4},
    }
    return visiontok.create(family, **{**config, **changes})


def textok() -> Any:
    return titok(image_size=16, tokens=4, family="textok", text={"length": 4, "dim": 8, "encoder": {"type": "hashed_words"}})


def karl() -> Any:
    return visiontok.create(
        "karl",
        image_size=16,
        num_latent_tokens=4,
        max_latent_tokens=4,
        training_lengths=[2, 4],
        position_side=4,
        base={"type": "patches", "patch_size": 4},
        encoder={**NETWORK, "dim": 64, "patch_size": 4},
        decoder={**NETWORK, "patch_size": 4},
        quantizer={"type": "vq", "codebook_size": 16, "dim": 4},
        halting_dim=16,
    )


def gpt(**changes: Any) -> GPT:
    layout = titok(image_size=16, tokens=4).layout
    return GPT(GPTConfig.parse({**NETWORK, "layout": layout, "multiple_of": 8, "condition": {"type": "classes", "num_classes": 10}, **changes}))


def flextok_gpt() -> GPT:
    layout = titok(image_size=128, tokens=16, nested_dropout={"schedule": "uniform"}).layout
    return GPT(GPTConfig.parse({**NETWORK, "layout": layout, "multiple_of": 8}))


def captions_gpt() -> GPT:
    text = {"type": "text", "text": {"length": 4, "dim": 8, "encoder": {"type": "hashed_words"}}}
    return GPT(flextok_gpt().config.replace(condition=text))


def conv_clip() -> Any:
    networks = {"channels": [8, 8, 8], "downsampling": [[2, 2], [2, 2]]}
    return visiontok.create("conv-clip", image_size=16, num_frames=9, networks=networks, quantizer={"type": "fsq", "levels": [5, 5]})


def clip_gpt() -> GPT:
    return GPT(GPTConfig.parse({**NETWORK, "layout": conv_clip().layout, "multiple_of": 8, "positions": "learned"}))


def maskgit() -> MaskGIT:
    classes = {"type": "classes", "num_classes": 1000}
    return MaskGIT(MaskGITConfig.parse({"layout": titok().layout, "condition": classes, "backbone": {"type": "bert", "mlp_dim": 32, **NETWORK}}))


def save_vae(folder: Path) -> None:
    """A KL autoencoder in the layout of diffusers."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(4,) * 4, layers_per_block=1, norm_num_groups=4, latent_channels=2, sample_size=256, **blocks)
    vae.save_pretrained(folder)


def vae(folder: Path) -> Any:
    save_vae(folder / "diffusers")
    return visiontok.from_pretrained(folder / "diffusers")


def encodec() -> Any:
    """Eight levels of 0.4 kilobits per second."""
    networks = {"num_filters": 2, "hidden_size": 8, "upsampling_ratios": [4, 2], "num_lstm_layers": 1}
    return visiontok.create("encodec", **networks, codebook_size=16, sampling_rate=800, target_bandwidths=[3.2])


RELEASED: dict[str, Callable[[Path], Any]] = {
    "emu3-chat-vq-video": lambda _: visiontok.create("emu3-vq-video", **SMALL["emu3-vq-video"]),
    "encodec-24khz": lambda _: encodec(),
    "flextok-d18-d28-in1k": lambda _: titok(tokens=256, nested_dropout={"schedule": "uniform"}),
    "kl16-256": vae,
    "maskgit-titok-l32": lambda _: maskgit(),
    "sd-vae-ft-mse": vae,
    "titok-b64": lambda _: titok(tokens=64),
    "titok-bl64-vae": lambda _: titok(tokens=64, quantizer={"type": "gaussian", "dim": 4}),
    "titok-l32": lambda _: titok(),
}
"""Small stand-ins by released name; the function may use an empty folder."""


def save_released(name: str, models: Path, scratch: Path) -> None:
    """Put the stand-in of a released model into a folder of bundled models."""
    torch.manual_seed(0)
    visiontok.save_pretrained(RELEASED[name](scratch / name), models / name)


def trained(make: Callable[[], Any]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        torch.manual_seed(0)
        visiontok.save_pretrained(make(), folder)

    return save


def photograph(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def photo(path: Path) -> None:
    photograph(0).save(path)


def photo_folder(path: Path) -> None:
    path.mkdir(parents=True)
    for seed in range(2):
        photograph(seed).save(path / f"{seed}.png")


def class_folders(path: Path) -> None:
    for name in ("cat", "dog"):
        photo_folder(path / name)


def shard(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for seed in range(2):
            buffer = io.BytesIO()
            photograph(seed).save(buffer, "PNG")
            member = tarfile.TarInfo(f"{seed}.png")
            member.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(member, buffer)


def arrays(path: Path) -> None:
    np.savez(path, signals=np.random.default_rng(0).random((2, 3, 40, 48), dtype=np.float32))


def four_shards(pattern: Path) -> None:
    for number in range(4):
        shard(pattern.parent / f"{number:03d}.tar")


def sound_file(path: Path) -> None:
    save_audio(torch.rand(1, 900, generator=torch.Generator().manual_seed(0)) - 0.5, path, rate=1600)


def sound_folder(path: Path) -> None:
    path.mkdir(parents=True)
    for number in range(3):
        sound_file(path / f"{number}.wav")


def sound_shards(pattern: Path) -> None:
    """`000.tar` to `003.tar`."""
    for number in range(4):
        sound_file(pattern.parent / "sound.wav")
        with tarfile.open(pattern.parent / f"{number:03d}.tar", "w") as archive:
            archive.add(pattern.parent / "sound.wav", "a.wav")


def sound_tokens(path: Path) -> None:
    sound_file(path.parent / "encoded.wav")
    succeed("encode", path.parent / "encoded.wav", "--model", "encodec-24khz", "-o", path)


def clip_file(path: Path) -> None:
    path.write_bytes(video(frames(20), sound=tone(2.0)))


def clip_folder(path: Path) -> None:
    path.mkdir(parents=True)
    for number in range(2):
        clip_file(path / f"{number}.mp4")


def clip_tokens(path: Path) -> None:
    clip_file(path.parent / "encoded.mp4")
    succeed("encode", path.parent / "encoded.mp4", "--model", "emu3-chat-vq-video", "-o", path)


def tokens(path: Path) -> None:
    photo(path.parent / "encoded.png")
    succeed("encode", path.parent / "encoded.png", "--model", "titok-l32", "-o", path)


def token_set(path: Path) -> None:
    succeed("tokenize", "photos", "--model", "runs/photos/final", "-o", path)


def result(path: Path) -> None:
    model = path.parent / "model"
    if not model.exists():
        trained(lambda: titok(image_size=128))(model)
    succeed("evaluate", "photos", "--model", model, "-o", path, "--no-report")


def digits_result(path: Path) -> None:
    succeed("evaluate", "digits", "--model", "runs/digits/final", "-o", path, "--no-report")


def results(path: Path) -> None:
    path.mkdir(parents=True)
    for file in (ROOT / "eval" / "results").glob("*.json"):
        shutil.copy(file, path)


def suite(path: Path) -> None:
    values = OmegaConf.load(suites_folder() / "digits.yaml")
    values["num_samples"] = 20
    values["metrics"], values["extractors"] = ["psnr"], []
    OmegaConf.save(values, path)


def recipe(path: Path) -> None:
    values = OmegaConf.load(ROOT / "configs" / "small" / "vq.yaml")
    values["output"], values["steps"], values["checkpoints"] = "runs/mine", 10, {"every": 5, "keep_last": 5}
    OmegaConf.save(values, path)


def small_suites(folder: Path) -> None:
    """The suites with few samples, and a small study under the name of every study."""
    (folder / "studies").mkdir(parents=True)
    for path in suites_folder().glob("*.yaml"):
        values = OmegaConf.load(path)
        values["num_samples"] = 70 if "digit-classifier" in values.get("extractors", ()) else 4  # more than it has features
        OmegaConf.save(values, folder / path.name)
    study = OmegaConf.load(STUDY)
    study["seeds"] = [0]
    study["data"]["digits"]["overrides"] = [*study["data"]["digits"]["overrides"], "steps=2"]
    for path in (suites_folder() / "studies").glob("*.yaml"):
        OmegaConf.save(study, folder / "studies" / path.name)


FILES: dict[str, Callable[[Path], None]] = {
    "*.jpg": lambda path: photo(path.with_name("photo.jpg")),
    "*.png": lambda path: photo(path.with_name("photo.png")),
    "cc/{000..003}.tar": four_shards,
    "clip.mp4": clip_file,
    "clip.npz": clip_tokens,
    "clips": clip_folder,
    "eval/results": results,
    "images.npz": arrays,
    "imagenet/train": class_folders,
    "my-diffusers-vae": save_vae,
    "my-results": results,
    "my-suite.yaml": suite,
    "photo.jpg": photo,
    "photos": photo_folder,
    "results/photos--mine.json": result,
    "results/photos--vqgan-photos-f4.json": result,
    "runs/digits": lambda path: trained(lambda: titok(image_size=16, tokens=4))(path / "final"),
    "eval/results/digits--final.json": digits_result,
    "runs/clip/final": trained(conv_clip),
    "runs/clip-gpt/final": trained(clip_gpt),
    "runs/captions-gpt/final": trained(captions_gpt),
    "runs/digits-gpt/final": trained(gpt),
    "runs/digits-llama/final": trained(lambda: gpt(positions="rope-1d")),
    "runs/digits/final": trained(lambda: titok(image_size=16, tokens=4)),
    "runs/flextok/final": trained(lambda: titok(image_size=128, tokens=16, nested_dropout={"schedule": "uniform"})),
    "runs/flextok-gpt/final": trained(flextok_gpt),
    "runs/karl/final": trained(karl),
    "runs/photos/final": trained(lambda: titok(image_size=128)),
    "runs/textok/final": trained(textok),
    "sounds": sound_folder,
    "speech.npz": sound_tokens,
    "speech.wav": sound_file,
    "speech/{000..003}.tar": sound_shards,
    "tokens.npz": tokens,
    "tokens/photos": token_set,
    "val.tar": shard,
}
"""What makes each file and folder that examples take; `my.yaml` is a recipe or a study, according to the command."""
