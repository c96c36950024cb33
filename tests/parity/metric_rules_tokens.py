"""Golden rules of metrics of tokens: use of the codebook, frequencies, information, rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from metric_rules import Case, Equal, Rule, Wrong

from visiontok.evaluation.metrics import codebook, entropy, huffman, innovation, ngrams, rates, zipf
from visiontok.evaluation.metrics.density import quality_density, tokdense, token_ratio
from visiontok.evaluation.metrics.prior import prior_information, token_nats
from visiontok.evaluation.metrics.rate_distortion import area_under_curve, bd_quality, bd_rate, lower_hull, token_complexity
from visiontok.tokens import Segment, TokenLayout


def counts(case: Case) -> np.ndarray:
    return np.bincount(case.inputs["indices"].ravel(), minlength=case.config["codebook_size"])


def curve(case: Case) -> np.ndarray:
    return innovation.innovation_curve(case.inputs["indices"])


def heaps(case: Case) -> tuple[float, float]:
    return innovation.heaps_fit(curve(case), tokens_per_sample=case.inputs["indices"].shape[1])


def token_layout(length: int, vocab_size: int) -> TokenLayout:
    return TokenLayout(modality="image", signal_shape=(256, 256), segments=(Segment(name="tokens", shape=(length,), vocab_size=vocab_size),))


def nominal(case: Case) -> float:
    return token_layout(case.inputs["indices"].shape[1], case.config["codebook_size"]).bits


def saving(case: Case, bits: float) -> float:
    return huffman.huffman_saving(counts(case), bits_per_token=bits)


CODEBOOK_STATS: dict[str, Rule] = {
    "counts": Equal(counts),
    "used_codes": Equal(lambda case: round(codebook.usage(counts(case)) * case.config["codebook_size"])),
    r"usage_fraction|titok_evaluator\.CodebookUsage": Equal(lambda case: codebook.usage(counts(case)), rel=1e-12),
    r"entropy_bits\.(?:infomeasure_)?plugin": Equal(lambda case: entropy.plugin_entropy(counts(case)), rel=1e-12),
    r"entropy_nats\.plugin": Equal(lambda case: entropy.plugin_entropy(counts(case)) * np.log(2), rel=1e-12),
    r"entropy_bits\.(miller_madow|chao_shen|chao_wang_jost|grassberger|zhang)": Equal(
        lambda case, name: getattr(entropy, f"{name}_entropy")(counts(case)), rel=1e-9
    ),
    r"entropy_bits\.shrink": Equal(lambda case: entropy.shrink_entropy(entropy.observed(counts(case))[0]), rel=1e-6),
    "perplexity": Equal(lambda case: codebook.perplexity(counts(case)), rel=1e-9),
    "perplexity_fraction": Equal(lambda case: codebook.perplexity(counts(case)) / case.config["codebook_size"], rel=1e-9),
    r"perplexity\.mean_over_images": Wrong(lambda case: codebook.perplexity(counts(case)), gap=1),
    r"titok_evaluator\.CodebookEntropy": Wrong(lambda case: entropy.plugin_entropy(counts(case)), gap=1e-6),
    r"vqgan_style\.perplexity_eps1e-10": Wrong(lambda case: codebook.perplexity(counts(case)), gap=1e-9),
    "kl_to_uniform_bits": Equal(lambda case: codebook.divergence_from_uniform(counts(case)), rel=1e-9),
    "gini": Equal(lambda case: codebook.gini(counts(case)), rel=1e-12),
    r"huffman\.total_bits": Equal(lambda case: huffman.huffman_total_bits(counts(case))),
    r"huffman\.bits_per_token": Equal(lambda case: huffman.huffman_bits_per_token(counts(case)), rel=1e-12),
    r"huffman\.saving_vs_log2K": Equal(lambda case: saving(case, float(np.log2(case.config["codebook_size"]))), rel=1e-9),
    r"huffman\.saving_vs_ceil_log2K": Equal(lambda case: saving(case, huffman.fixed_bits_per_token(case.config["codebook_size"])), rel=1e-9),
    r"fixed_length\.bits_per_token": Equal(lambda case: huffman.fixed_bits_per_token(case.config["codebook_size"])),
    r"fixed_length_used\.bits_per_token": Equal(lambda case: huffman.fixed_bits_per_token(int((counts(case) > 0).sum()))),
    r"innovation\.curve": Equal(curve),
    r"innovation\.images_to_half_of_seen": Equal(lambda case: innovation.samples_to_share(curve(case), 0.5)),
    r"innovation\.images_to_90pct_of_seen": Equal(lambda case: innovation.samples_to_share(curve(case), 0.9)),
    r"heaps\.K_ols": Equal(lambda case: heaps(case)[0], rel=1e-9),
    r"heaps\.beta_ols": Equal(lambda case: heaps(case)[1], rel=1e-9),
    "unique_per_image": Equal(lambda case: [len(np.unique(row)) for row in case.inputs["indices"]]),
    r"bigram\.joint_entropy_bits": Equal(lambda case: ngrams.bigram_joint_entropy(case.inputs["indices"]), rel=1e-9),
    r"bigram\.conditional_entropy_bits": Equal(lambda case: ngrams.bigram_conditional_entropy(case.inputs["indices"]), rel=1e-9),
    r"bigram\.mutual_information_nats": Equal(lambda case: ngrams.bigram_mutual_information(case.inputs["indices"]), rel=1e-9),
    r"density\.bits_per_image_nominal": Equal(nominal),
    r"density\.bits_per_image_entropy": Equal(lambda case: rates.entropy_bits([counts(case)], [case.inputs["indices"].shape[1]]), rel=1e-12),
    r"density\.bpp_nominal_(\d+)": Equal(lambda case, side: rates.per_pixel(nominal(case), (int(side), int(side)))),
    r"density\.compression_ratio_vs_24bit": Equal(lambda case: rates.compression_ratio(nominal(case), (256, 256))),
}


def frequencies(case: Case) -> np.ndarray:
    return ngrams.ngram_counts(case.inputs["tokens"], 1)


ZIPF_FIT: dict[str, Rule] = {
    "rank_frequency": Equal(lambda case: zipf.rank_frequency(frequencies(case))),
    r"ngram(\d)\.types": Equal(lambda case, n: len(ngrams.ngram_counts(case.inputs["tokens"], int(n)))),
    r"ngram(\d)\.entropy_bits": Equal(lambda case, n: entropy.plugin_entropy(ngrams.ngram_counts(case.inputs["tokens"], int(n))), rel=1e-9),
    r"benford\.first_digit_counts": Equal(lambda case: ngrams.first_digit_counts(frequencies(case))),
    r"ols_loglog\.exponent": Equal(lambda case: zipf.log_log_fit(frequencies(case)).exponent, rel=1e-9),
    r"ols_loglog\.intercept": Equal(lambda case: zipf.log_log_fit(frequencies(case)).intercept, rel=1e-9),
    r"ols_loglog\.r2": Equal(lambda case: zipf.log_log_fit(frequencies(case)).r_squared, rel=1e-9),
    r"ols_loglog_top(\d+)\.exponent": Equal(lambda case, top: zipf.log_log_fit(frequencies(case), top=int(top)).exponent, rel=1e-9),
    r"zipfian_mle\.exponent": Equal(lambda case: zipf.zipf_fit(frequencies(case)).exponent, abs=1e-5),
    r"zipfian_mle\.loglik": Equal(lambda case: zipf.zipf_fit(frequencies(case)).log_likelihood, rel=1e-9),
    r"zipfian_mle\.max_cdf_gap": Equal(lambda case: zipf.zipf_fit(frequencies(case)).max_cdf_gap, abs=1e-5),
    r"zipfian_mle_support_K\.exponent": Equal(lambda case: zipf.zipf_fit(frequencies(case), support=case.config["types"]).exponent, abs=1e-5),
    r"mandelbrot_mle\.s": Equal(lambda case: zipf.mandelbrot_fit(frequencies(case)).exponent, abs=1e-3),
    r"mandelbrot_mle\.q": Equal(lambda case: zipf.mandelbrot_fit(frequencies(case)).shift, abs=1e-3),
    r"discrete_mle_hurwitz\.alpha\.xmin(\d+)": Equal(lambda case, low: zipf.count_exponent(frequencies(case), minimum=int(low)), abs=1e-5),
    r"powerlaw_counts\.alpha\.xmin(\d+)": Equal(lambda case, low: zipf.count_exponent(frequencies(case), minimum=int(low)), abs=2e-3),
    r"clauset_approx\.alpha\.xmin(\d+)": Equal(lambda case, low: zipf.approximate_count_exponent(frequencies(case), minimum=int(low)), rel=1e-9),
    r"powerlaw_counts\.n_tail\.xmin(\d+)": Equal(lambda case, low: int((frequencies(case) >= int(low)).sum())),
    r"powerlaw_counts\.ks\.xmin\d+": "a goodness of fit for the law of the counts; the law that is reported, over ranks, has max_cdf_gap",
}


def prior(case: Case, *, masked: bool) -> Any:
    logits, targets, lengths = (torch.from_numpy(case.inputs[name]) for name in ("logits", "targets", "lengths"))
    nats = token_nats(logits, targets, lengths if masked else None)
    return prior_information(nats.sum(dim=1), lengths if masked else [targets.shape[1]] * len(targets))


def bits_per_image(case: Case, *, masked: bool) -> np.ndarray:
    nats = token_nats(torch.from_numpy(case.inputs["logits"]), torch.from_numpy(case.inputs["targets"])).numpy()
    keep = np.arange(nats.shape[1]) < case.inputs["lengths"][:, None] if masked else np.ones_like(nats, dtype=bool)
    return (nats * keep).sum(axis=1) / np.log(2)


AR_INFORMATION: dict[str, Rule] = {
    r"nll_nats\.per_token": Equal(
        lambda case: token_nats(torch.from_numpy(case.inputs["logits"]), torch.from_numpy(case.inputs["targets"])), rel=1e-9
    ),
    r"bits_per_image\.all": Equal(lambda case: bits_per_image(case, masked=False), rel=1e-9),
    r"bits_per_image\.masked": Equal(lambda case: bits_per_image(case, masked=True), rel=1e-9),
    r"bits_per_token\.all": Equal(lambda case: prior(case, masked=False).bits_per_token, rel=1e-9),
    r"bits_per_token\.masked": Equal(lambda case: prior(case, masked=True).bits_per_token, rel=1e-9),
    r"nats_per_token\.all": Equal(lambda case: prior(case, masked=False).nats_per_token, rel=1e-9),
    r"bpp\.(\d+)x(\d+)\.masked_mean": Equal(lambda case, h, w: rates.per_pixel(prior(case, masked=True).bits_per_sample, (int(h), int(w))), rel=1e-9),
    r"bits_per_subpixel\.(\d+)x(\d+)x3\.masked_mean": Equal(
        lambda case, h, w: rates.per_pixel(prior(case, masked=True).bits_per_sample, (int(h), int(w))) / 3, rel=1e-9
    ),
    "nominal_bits_per_image": Equal(lambda case: token_layout(case.config["length"], case.config["vocab"]).bits, rel=1e-12),
    "prior_saving_fraction": Equal(lambda case: prior(case, masked=False).saving(np.log2(case.config["vocab"])), rel=1e-9),
    r"torchmetrics\.perplexity\.masked": Equal(lambda case: np.exp(prior(case, masked=True).nats_per_token), rel=1e-5),
}


def bjontegaard(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    bits = case.inputs["tokens"] * case.config["bits_per_token"]
    return bits, case.inputs["psnr_anchor"], bits, case.inputs["psnr_test"]


def complexity(case: Case, threshold: float) -> Any:
    return token_complexity(case.inputs["tokens"], case.inputs["per_image_error"], threshold=threshold)


def stated_complexity(case: Case) -> Any:
    (name,) = (name for name in case.outputs if name.startswith("min_tokens.threshold_"))
    return complexity(case, float(name.rpartition("_")[2]))


RATE_DISTORTION: dict[str, Rule] = {
    r"bd_rate_percent\.psnr\.pchip": Equal(lambda case: bd_rate(*bjontegaard(case)), rel=1e-6),
    r"bd_psnr_db\.pchip": Equal(lambda case: bd_quality(*bjontegaard(case)), rel=1e-6),
    r"bd_(?:rate_percent\.psnr|psnr_db)\.(?:akima|cubic)": "another interpolation; ours is pchip, which never overshoots between points",
    r"auc_log2_tokens\.psnr_A": Equal(lambda case: area_under_curve(case.inputs["tokens"], case.inputs["psnr_anchor"]), rel=1e-12),
    r"auc_log2_tokens\.psnr_B": Equal(lambda case: area_under_curve(case.inputs["tokens"], case.inputs["psnr_test"]), rel=1e-12),
    "convex_hull_lower_err_A": Equal(lambda case: lower_hull(case.inputs["tokens"], case.inputs["lpips_anchor"]), abs=1e-12),
    r"min_tokens\.threshold_([\d.]+)": Equal(lambda case, threshold: complexity(case, float(threshold)).tokens),
    r"min_tokens\.mean_over_reached": Equal(lambda case: stated_complexity(case).mean_over_reached, rel=1e-12),
    r"min_tokens\.mean_capped_at_max": Equal(lambda case: stated_complexity(case).mean_capped, rel=1e-12),
    r"min_tokens\.reached_fraction": Equal(lambda case: stated_complexity(case).reached, rel=1e-12),
}


def adaptive(case: Case) -> float:
    return quality_density(100 * case.inputs["adaptive_correct"].astype(float), case.inputs["adaptive_tokens"])


def dense(case: Case) -> np.ndarray:
    return tokdense(case.inputs["accuracy_percent"], case.inputs["tokens"])


TOKDENSE: dict[str, Rule] = {
    "tokdense": Equal(dense, rel=1e-12),
    "relative_to_first": Equal(lambda case: dense(case) / dense(case)[0], rel=1e-12),
    "token_ratio_percent": Equal(lambda case: token_ratio(case.inputs["tokens"], case.inputs["tokens"][0]), rel=1e-12),
    r"adaptive\.tokdense_of_means": Equal(adaptive, rel=1e-12),
    r"adaptive\.mean_of_ratios": Wrong(adaptive, gap=1e-3),
    r"adaptive\.tokens_mean": "a plain mean",
    "accuracy_drop": "a plain difference",
}
