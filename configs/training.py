"""The settings that both training stages share; part of configs/sft.py and dpo.py."""

import ml_collections

from configs import mesh


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.seed = 0  # of the order of the data, and of LoRA's random matrices
  config.shuffle = True  # False: file order, to compare with other trainers
  config.max_tokens = 2048  # prompt and response; release, cutoff_len
  # Template that the rows were made with. It is saved with the model, for sampling from
  # it. "" is instruction.txt in the folder of the rows, or else the base model's.
  config.instruction = ""
  config.precision = "bfloat16"  # operands of products; weights stay float32
  config.save_dtype = "float32"  # of the saved model; export casts

  config.optimizer = optimizer = ml_collections.ConfigDict()
  optimizer.peak_lr = 2e-6  # paper, appendix 9 (SFT); DPO: 5e-7
  optimizer.schedule = "constant_with_warmup"  # release; or "linear" (DPO), "cosine"
  optimizer.warmup_ratio = 0.1  # share of the steps; paper, appendix 9
  optimizer.b1 = 0.9  # paper, appendix 9
  optimizer.b2 = 0.999  # paper, appendix 9
  optimizer.eps = 1e-8  # default of transformers' trainer, which the release keeps
  optimizer.weight_decay = 0.0  # default of transformers' trainer
  optimizer.max_grad_norm = 1.0  # default of transformers' trainer

  # True: prompts ask a model that can reason to do so (Qwen3, SmolLM3).
  config.reasoning = False

  config.lora = lora = ml_collections.ConfigDict()
  lora.rank = 0  # 0 trains all weights, as paper and release do
  lora.alpha = 16.0  # LLaMA-Factory's default is twice its rank of 8
  # Adapted matrices of each layer; all of them, as LLaMA-Factory's "all".
  lora.targets = ("q", "k", "v", "o", "gate", "up", "down")

  # The keys below do not change the result; a run may continue with other values.

  config.micro_tokens = 4096  # tokens of a device's micro-batch; sets peak memory
  config.shapes = 4  # most micro-batch shapes; more: less padding, more compilation
  config.remat = "full"  # the backward pass recomputes layers; or "cheap", "none"
  config.mesh = mesh.get_config()
  config.eval_every = 50  # steps
  config.checkpoint_every = 50  # steps
  config.keep_checkpoints = 2  # the latest ones; the best by eval/loss is kept too
  # Before training, compare the first micro-batch with plain rows (no shared tokens):
  # log-probabilities and the loss's gradient. Training stops if they differ. It takes
  # about as long as two steps without packing.
  config.check_packing = True
  # Measure the rate of matrix products first (up to a minute), and report each step's
  # arithmetic as a share of it (fraction_of_matmul_rate).
  config.measure_matmul_rate = False
  # With several processes: a step hangs if it takes this much longer than five times
  # the longest one of its kind. The processes exit, and the same command continues.
  config.hang_minutes = 10.0
  return config
