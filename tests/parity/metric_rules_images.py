"""Golden rules of pixel metrics and of what happens to images before a metric."""

from __future__ import annotations

import numpy as np
import torch
from metric_rules import Case, Equal, Rule, Wrong
from PIL import Image

from visiontok.evaluation.features.protocol import center_crop, resize_for_inception, signed_to_uint8, to_uint8
from visiontok.evaluation.metrics.fidelity import mse, psnr, psnr_from_mse
from visiontok.evaluation.metrics.ssim import ms_ssim, ssim


def pair(case: Case, prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    images = (case.inputs[f"{prefix}reference_u8"], case.inputs[f"{prefix}reconstruction_u8"])
    first, second = (torch.from_numpy(image.reshape(-1, *image.shape[-3:])).permute(0, 3, 1, 2) for image in images)
    return first, second


def psnr255(case: Case) -> torch.Tensor:
    return psnr(*pair(case), data_range=255)


def pooled255(case: Case) -> torch.Tensor:
    return psnr_from_mse(mse(*pair(case)).mean(), data_range=255)


def pooled_signed(case: Case) -> torch.Tensor:
    first, second = (image.double() / 127.5 - 1 for image in pair(case))
    return psnr_from_mse(mse(first, second).mean(), data_range=2)


def ssim01(case: Case) -> torch.Tensor:
    first, second = (image.float() / 255 for image in pair(case))
    return ssim(first, second, data_range=1)


PSNR_SSIM: dict[str, Rule] = {
    r"mse255\.per_image": Equal(lambda case: mse(*pair(case)), rel=1e-12),
    r"psnr255\.per_image": Equal(psnr255, abs=1e-9),
    r"psnr255\.mean": Equal(lambda case: psnr255(case).mean(), abs=1e-9),
    r"psnr255\.pooled_mse|larp\.psnr_clip": Equal(pooled255, abs=1e-6),
    r"llamagen\.psnr\.per_image": Equal(psnr255, abs=1e-6),
    r"psnr01\.torchmetrics_per_image": Equal(psnr255, abs=1e-5),  # theirs in float32
    r"psnr01\.torchmetrics_pooled|psnr_m11\.data_range2_pooled": Equal(pooled_signed, abs=1e-5),
    r"psnr_m11\.WRONG_data_range1_pooled": Wrong(pooled_signed, gap=6),
    r"psnr01\.piq_per_image": Wrong(psnr255, gap=1e-5),
    r"vidtok\.psnr_frames_mean": Wrong(lambda case: psnr255(case).mean(), gap=1e-4),
    r"skimage\.ssim_wang\.per_image|piq\.ssim_nodownsample\.per_image|piq\.ssim_downsample\.per_image|torchmetrics140\.ssim\.per_image": Equal(
        ssim01, abs=1e-6
    ),
    r"pytorch_msssim\.ssim\.per_image": Equal(ssim01, abs=3e-6),
    r"torchmetrics18\d\.ssim\.per_image|torchmetrics19\d\.ssim\.per_image": Wrong(ssim01, gap=1e-4),
    r"skimage\.ssim_default_uint8\.per_image|seedvoken\.ssim\.per_image": Wrong(ssim01, gap=1e-3),
    r"llamagen\.ssim\.per_image": Wrong(ssim01, gap=1e-3),
    r"big\.skimage\.ssim_wang|big\.piq_ssim_nodownsample|big\.piq_ssim_downsample": Equal(
        lambda case: ssim(*pair(case, "big_"), data_range=255)[0], abs=1e-6
    ),
    r"big\.pytorch_msssim\.ms_ssim": Equal(lambda case: ms_ssim(*pair(case, "big_"), data_range=255)[0], abs=3e-6),
    r"big\.torchmetrics190\.ms_ssim": Wrong(lambda case: ms_ssim(*pair(case, "big_"), data_range=255)[0], gap=1e-6),
}


def cropped(case: Case, number: str, crop: str) -> np.ndarray:
    return np.asarray(center_crop(Image.fromarray(case.inputs[f"image{number}"]), case.config["target"], crop=crop))


def to299(case: Case, down: str | None, rule: str) -> np.ndarray:
    image = case.inputs["inception_in_down" if down else "inception_in"]
    names = {
        "tf1_bilinear": "tf1-bilinear",
        "torch_bilinear_noantialias": "torch-bilinear",
        "torch_bilinear_antialias": "torch-bilinear-antialias",
        "cleanfid_clean": "clean",
    }
    return resize_for_inception(torch.from_numpy(image).permute(2, 0, 1)[None], rule=names[rule])[0].numpy()


def cast(case: Case, name: str) -> torch.Tensor:
    return to_uint8((torch.from_numpy(case.inputs["m11_values"]) + 1) / 2, cast=name)


RULE = "(tf1_bilinear|torch_bilinear_noantialias|torch_bilinear_antialias|cleanfid_clean)"
PREPROCESS: dict[str, Rule] = {
    r"image(\d+)\.adm_center_crop": Equal(lambda case, number: cropped(case, number, "adm")),
    r"image(\d+)\.resize_(bicubic|bilinear|lanczos)_pil_centercrop": Equal(lambda case, number, kind: cropped(case, number, f"resize-{kind}")),
    r"image\d+\.tensor_bilinear_(?:no)?antialias": "torchvision's own resize of a float tensor; the protocols resize 8-bit images",
    rf"to299\.(down\.)?{RULE}\.every13": Equal(lambda case, down, rule: to299(case, down, rule)[:, ::13, ::13], abs=1e-3),
    rf"to299\.(down\.)?{RULE}\.mean": Equal(lambda case, down, rule: to299(case, down, rule).mean(dtype=np.float64), abs=1e-3),
    rf"to299\.(down\.)?{RULE}\.std": Equal(lambda case, down, rule: to299(case, down, rule).std(dtype=np.float64), abs=1e-3),
    r"u8\.(?:round_01x255|titok_round_then_trunc)": Equal(lambda case: cast(case, "round")),
    r"u8\.add0\.5_floor": Equal(lambda case: cast(case, "half-up")),
    r"u8\.adm_127\.5x\+128_trunc": Equal(lambda case: signed_to_uint8(torch.from_numpy(case.inputs["m11_values"]))),
    r"u8\.trunc_01x255": Equal(lambda case: cast(case, "trunc")),
}
