"""Every metric as a function, in one place: `from visiontok.metrics import psnr, ssim, lpips, frechet_distance`.

Functions on samples give one value per sample; functions on features, counts or token sequences give one number; `Moments` and `CodeCounts` collect
those of a stream. What each one shows, its source
and its traps are in `docs/metrics-*.md`. Suites evaluate the same functions over whole data sets: see `visiontok.evaluation`.
"""

from visiontok.evaluation.metrics.code_counts import CodeCounts, CodeUse
from visiontok.evaluation.metrics.codebook import divergence_from_uniform, gini, perplexity, usage
from visiontok.evaluation.metrics.density import Operations, quality_density, tokdense, token_operations, token_ratio
from visiontok.evaluation.metrics.entropy import (
    chao_shen_entropy,
    chao_wang_jost_entropy,
    grassberger_entropy,
    miller_madow_entropy,
    plugin_entropy,
    shrink_entropy,
    zhang_entropy,
)
from visiontok.evaluation.metrics.fidelity import mse, psnr, psnr_from_mse
from visiontok.evaluation.metrics.flicker import Flicker, flicker
from visiontok.evaluation.metrics.frechet import frechet_distance, frechet_distance_of_features
from visiontok.evaluation.metrics.huffman import fixed_bits_per_token, huffman_bits_per_token, huffman_saving, huffman_total_bits
from visiontok.evaluation.metrics.inception_score import inception_score, inception_score_of_blocks
from visiontok.evaluation.metrics.information_capacity import information_capacity_style
from visiontok.evaluation.metrics.innovation import heaps_fit, innovation_curve, samples_to_share
from visiontok.evaluation.metrics.manifold import ManifoldScores, manifold_scores
from visiontok.evaluation.metrics.mmd import cmmd, kernel_distance, squared_mmd
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.ngrams import (
    bigram_conditional_entropy,
    bigram_joint_entropy,
    bigram_mutual_information,
    first_digit_counts,
    ngram_counts,
)
from visiontok.evaluation.metrics.perceptual import dists, lpips
from visiontok.evaluation.metrics.pitch import PitchAgreement, pitch_agreement
from visiontok.evaluation.metrics.prior import PriorInformation, prior_information, token_nats
from visiontok.evaluation.metrics.probes import LabeledFeatures, labeled, linear_probe, nearest_neighbors, pooled
from visiontok.evaluation.metrics.rate_distortion import (
    TokenComplexity,
    TokenUse,
    area_under_curve,
    bd_quality,
    bd_rate,
    lower_hull,
    token_complexity,
    token_use,
)
from visiontok.evaluation.metrics.rates import compression_ratio, entropy_bits, per_pixel, per_second
from visiontok.evaluation.metrics.smoothness import roughness_of_distributions
from visiontok.evaluation.metrics.sound_distances import mel_distance, si_sdr, stft_distance
from visiontok.evaluation.metrics.speech_quality import estoi, pesq, stoi, visqol
from visiontok.evaluation.metrics.ssim import ms_ssim, ssim
from visiontok.evaluation.metrics.word_errors import word_errors, words
from visiontok.evaluation.metrics.zipf import (
    LogLogFit,
    ZipfFit,
    approximate_count_exponent,
    count_exponent,
    log_log_fit,
    mandelbrot_fit,
    rank_frequency,
    zipf_fit,
)
from visiontok.layers.pitch import pitch

__all__ = [
    "CodeCounts",
    "CodeUse",
    "Flicker",
    "LabeledFeatures",
    "LogLogFit",
    "ManifoldScores",
    "Moments",
    "Operations",
    "PitchAgreement",
    "PriorInformation",
    "TokenComplexity",
    "TokenUse",
    "ZipfFit",
    "approximate_count_exponent",
    "area_under_curve",
    "bd_quality",
    "bd_rate",
    "bigram_conditional_entropy",
    "bigram_joint_entropy",
    "bigram_mutual_information",
    "chao_shen_entropy",
    "chao_wang_jost_entropy",
    "cmmd",
    "compression_ratio",
    "count_exponent",
    "dists",
    "divergence_from_uniform",
    "entropy_bits",
    "estoi",
    "first_digit_counts",
    "fixed_bits_per_token",
    "flicker",
    "frechet_distance",
    "frechet_distance_of_features",
    "gini",
    "grassberger_entropy",
    "heaps_fit",
    "huffman_bits_per_token",
    "huffman_saving",
    "huffman_total_bits",
    "inception_score",
    "inception_score_of_blocks",
    "information_capacity_style",
    "innovation_curve",
    "kernel_distance",
    "labeled",
    "linear_probe",
    "log_log_fit",
    "lower_hull",
    "lpips",
    "mandelbrot_fit",
    "manifold_scores",
    "mel_distance",
    "miller_madow_entropy",
    "ms_ssim",
    "mse",
    "nearest_neighbors",
    "ngram_counts",
    "per_pixel",
    "per_second",
    "perplexity",
    "pesq",
    "pitch",
    "pitch_agreement",
    "plugin_entropy",
    "pooled",
    "prior_information",
    "psnr",
    "psnr_from_mse",
    "quality_density",
    "rank_frequency",
    "roughness_of_distributions",
    "samples_to_share",
    "shrink_entropy",
    "si_sdr",
    "squared_mmd",
    "ssim",
    "stft_distance",
    "stoi",
    "tokdense",
    "token_complexity",
    "token_nats",
    "token_operations",
    "token_ratio",
    "token_use",
    "usage",
    "visqol",
    "word_errors",
    "words",
    "zhang_entropy",
    "zipf_fit",
]
