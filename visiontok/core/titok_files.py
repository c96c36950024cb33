"""What the configuration files of TiTok's repository hold besides a model: its tokenizers and its generators are trained by one script."""

from __future__ import annotations

TRAINING_KEYS = {
    "experiment.{*}": "names, folders and intervals of the authors' runs; a recipe has its own",
    **{f"dataset.params.{key}": "files of the authors' data; a recipe names its own" for key in (
        "train_shards_path_or_url", "eval_shards_path_or_url", "num_workers_per_gpu", "dataset_with_class_label", "dataset_with_text_label",
        "pretokenization",
    )},
    **{f"dataset.preprocessing.{key}": "crops and flips of training; set by a recipe's `data`" for key in (
        "resize_shorter_edge", "random_crop", "random_flip", "res_ratio_filtering",
    )},
    "optimizer.name": "adamw in every release",
    **{f"optimizer.params.{key}": "set by a recipe's `optimizer` and `discriminator_optimizer`" for key in (
        "learning_rate", "discriminator_learning_rate", "beta1", "beta2", "weight_decay", "epsilon",
    )},
    "lr_scheduler.scheduler": "set by a recipe's `schedule`",
    **{f"lr_scheduler.params.{key}": "set by a recipe's `schedule`" for key in ("learning_rate", "warmup_steps", "end_lr")},
    **{f"training.{key}": "length, batch size and precision of training; set by a recipe" for key in (
        "gradient_accumulation_steps", "per_gpu_batch_size", "mixed_precision", "enable_tf32", "enable_wandb", "use_ema", "seed",
        "max_train_steps", "num_generated_images", "max_grad_norm", "grad_checkpointing",
    )},
}  # fmt: skip
"""Keys that decide nothing about a model -> the reason."""
