"""FlexTok d12-d12 at 256 px against the reference implementation, in one process: seconds per decoder step and per decode.

    git clone https://github.com/apple/ml-flextok && pip install einops
    python benchmarks/flextok.py --peer ml-flextok

Random weights, the same on both sides; without the autoencoder, which is diffusers' on both. On CPUs the reference uses torch's scaled dot product
attention, since flex attention does not support them. Without --peer only visiontok is timed. `--small` is a quick check.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import visiontok
from visiontok.decoders.flow.guidance import AdaptiveProjected
from visiontok.decoders.flow.sampling import FlowSampling
from visiontok.tokenizers.image.flextok.model import FlexTok

CHANNELS = 16


def build(*, depth: int, registers: int, side: int) -> FlexTok:
    """Encoder and decoder of the released sizes; the tiny autoencoder is never run."""
    torch.manual_seed(0)
    model = visiontok.create(
        "flextok",
        image_size=side,
        vae={"image_size": side, "channels": (4,), "norm_groups": 4, "num_res_blocks": 1, "bottleneck": {"dim": CHANNELS}},
        num_registers=registers,
        encoder={"dim": 64, "depth": 1, "num_heads": 1},
        decoder={"dim": 64 * depth, "depth": depth, "num_heads": depth},
    ).eval()
    randomize(model.decoder)
    return model


def randomize(decoder: torch.nn.Module) -> None:
    """What starts at zero would make every step the same."""
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)


def load_peer(folder: Path, model: FlexTok) -> Any:
    """The authors' decoder and pipeline, and their weights into our model. Their unused imports are replaced by stand-ins."""
    sys.path.insert(0, str(folder))
    for name, values in {"mup": {}, "mup.layer": {"MuReadout": torch.nn.Linear}, "hydra": {}, "hydra.utils": {"instantiate": None}}.items():
        stand_in = types.ModuleType(name)
        stand_in.__dict__.update(values)
        sys.modules.setdefault(name, stand_in)
    config, side = model.config, model.config.grid[0]
    dim, registers, patches = config.decoder.dim, config.num_registers, side // config.patch_size

    def module(path: str, **arguments: Any) -> Any:
        file, _, name = path.rpartition(".")
        return getattr(importlib.import_module(f"flextok.{file}"), name)(**arguments)

    operations = importlib.import_module("flextok.model.utils.dict_ops")
    positions = "model.utils.posembs.PositionalEmbeddingAdder"
    modules = {
        "dec_from_latents": module("model.preprocessors.linear.LinearLayer", read_key="codes", write_key="registers", dim_in=6, dim=dim),
        "dec_registers_posemb_module": module(
            positions, read_key="registers", write_key="registers", dim=dim, max_sizes=[registers], posemb_type="learnable_sum"
        ),
        "dec_nested_dropout": module("model.preprocessors.token_dropout.MaskedNestedDropout", read_write_key="registers", dim=dim),
        "dec_latent_dropout": module("model.preprocessors.nullcond.LearnedNullCond", read_write_key="registers", dim=dim, dropout_prob=0.2),
        "dec_noise_channels_to_last": module(
            "model.utils.dict_ops.PerSampleOp", read_key="noised", write_key="noised_last", per_sample_op=operations.channels_first_to_last
        ),
        "dec_noise_patch_emb": module(
            "model.preprocessors.patching.PatchEmbedder", input_tensor_list_read_key="noised_last", patches_list_write_key="embedded",
            n_patches_write_key="count", channels_in=CHANNELS, dim=dim, patch_sizes=[config.patch_size] * 2, flatten_patches=False,
        ),
        "dec_patches_posemb_module": module(positions, read_key="embedded", write_key="patches", dim=dim, max_sizes=[patches] * 2),
        "dec_seq_packer": module(
            "model.preprocessors.flex_seq_packing.BlockWiseSequencePacker", input_list_read_keys=["patches", "registers"],
            packed_seq_write_key="packed", block_mask_write_key="mask", inner_packed_shapes_write_key="inner", outer_packed_shapes_write_key="outer",
            emb_packing_fn_write_key="packing", mask_mode="full", pad_to_multiple=128, per_subseq_embs=True, compile_block_mask=False,
            return_materialized_mask=True,
        ),
        "dec_time_embedder": module(
            "model.preprocessors.time_embedding.TimestepEmbedder", timesteps_read_key="times", time_embedding_write_key="time", dim=dim
        ),
        "dec_transformer": module(
            "model.trunks.transformers.FlexTransformer", input_seq_read_key="packed", output_seq_write_key="packed", dim=dim,
            depth=config.decoder.depth, head_dim=64, block_mask_read_key="mask", adaLN_emb_read_key="time", adaLN_packing_fn_read_key="packing",
            adaLN_expansion=2,
        ),
        "dec_unpacker": module(
            "model.postprocessors.seq_unpacking.SequenceUnpacker", packed_seq_read_key="packed", inner_seq_write_keys=["patches", "registers"],
            inner_packed_shapes_read_key="inner", outer_packed_shapes_read_key="outer",
        ),
        "dec_to_patches": module(
            "model.postprocessors.heads.ToPatchesLinearHead", read_key="patches", write_key="patches", dim=dim, channels_out=CHANNELS,
            patch_sizes=[config.patch_size] * 2, use_mup_readout=False, adaLN_emb_read_key="time",
        ),
        "dec_channels_to_first": module(
            "model.utils.dict_ops.PerSampleOp", read_key="patches", write_key="velocity", per_sample_op=operations.channels_last_to_first
        ),
    }  # fmt: skip
    decoder = module("model.utils.wrappers.SequentialModuleDictWrapper", module_dict=modules).eval()
    for block in modules["dec_transformer"].blocks:
        block.attn.use_flex_attention = False
    randomize(decoder)
    mapped = FlexTok.weights_from_reference({f"decoder.{key}": tensor for key, tensor in decoder.state_dict().items()})
    model.decoder.load_state_dict({key.removeprefix("decoder."): tensor for key, tensor in mapped.items()})
    pipeline = module(
        "flow_matching.pipelines.MinRFPipeline", model=decoder, noise_read_key="noise", latents_read_key="codes", timesteps_read_key="times",
        noised_images_read_key="noised", reconst_write_key="velocity", out_channels=CHANNELS,
    )  # fmt: skip
    return decoder, pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="checkout of apple/ml-flextok")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="of the whole decodes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="depth 2 instead of 12")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    model = build(depth=2 if arguments.small else 12, registers=256, side=32)
    total, batch, steps = model.config.num_registers, arguments.batch, arguments.steps
    tokens = torch.randint(0, 64_000, (batch, total), generator=torch.Generator().manual_seed(1))
    codes, noise = model.quantizer.lookup(tokens), torch.randn(batch, *model.config.grid)
    lengths = {"256 tokens": torch.full((batch,), total), "16 tokens": torch.full((batch,), 16)}
    guidance = AdaptiveProjected(scale=7.5)
    time_now = torch.full((1,), 0.7)

    runs: dict[str, dict[str, Callable[[], Tensor]]] = {}
    if arguments.peer:
        runs["peer"] = peer_runs(arguments.peer, model, codes, noise, lengths, time_now, guidance, steps)
    ours: dict[str, Callable[[], Tensor]] = {}
    for name, kept in lengths.items():
        condition = model.decoder.condition(codes, kept)
        ours[f"one step, {name}"] = lambda condition=condition: model.decoder(noise, time_now, condition)
        for rule in (None, guidance):
            how = f"{steps} steps, {name}, {'guided' if rule else 'unguided'}"
            ours[how] = lambda kept=kept, rule=rule: model.decoder.decode(codes, kept, noise, FlowSampling(steps=steps, guidance=rule))
    runs["ours"] = ours

    with torch.no_grad():
        for name, run in ours.items():
            if "peer" in runs:
                torch.testing.assert_close(run(), runs["peer"][name](), rtol=2e-3, atol=2e-3)
            times: dict[str, list[float]] = {side: [] for side in runs}
            for repeat in range(arguments.repeats + 1):
                for side, named in runs.items():
                    start = time.perf_counter()
                    named[name]()
                    if repeat:
                        times[side].append(time.perf_counter() - start)
            medians = {side: statistics.median(seconds) for side, seconds in times.items()}
            print(f"{name:34s} {medians['ours']:8.3f} s", end="")
            print(
                f"   {medians['peer'] / medians['ours']:5.2f} times as fast as the authors' code ({medians['peer']:.3f} s)"
                if "peer" in medians
                else ""
            )


def peer_runs(
    folder: Path, model: FlexTok, codes: Tensor, noise: Tensor, lengths: dict[str, Tensor], time_now: Tensor, guidance: AdaptiveProjected, steps: int
) -> dict[str, Callable[[], Tensor]]:
    """The same runs through the authors' code."""
    decoder, pipeline = load_peer(folder, model)
    first = noise.permute(0, 3, 1, 2)

    def entries(kept: Tensor) -> dict[str, Any]:
        return {
            "codes": list(codes.split(1)),
            "noise": list(first.split(1)),
            "noised": list(first.split(1)),
            "times": time_now.expand(len(codes)),
            "eval_keep_k": kept.tolist(),
        }

    def result(data: dict[str, Any]) -> Tensor:
        return torch.cat(data["velocity"]).permute(0, 2, 3, 1)

    runs: dict[str, Callable[[], Tensor]] = {}
    for name, kept in lengths.items():
        runs[f"one step, {name}"] = lambda kept=kept: result(decoder(entries(kept)))
        for rule in (None, guidance):
            scale = 1.0 if rule is None else rule.scale
            runs[f"{steps} steps, {name}, {'guided' if rule else 'unguided'}"] = lambda kept=kept, scale=scale: result(
                pipeline(
                    entries(kept), timesteps=steps, vae_image_sizes=model.config.grid[0], verbose=False, guidance_scale=scale,
                    perform_norm_guidance=scale != 1.0,
                )
            )  # fmt: skip
    return runs


if __name__ == "__main__":
    main()
