r"""Writes the trained optimizer as a Hugging Face directory.

    python launch/export.py --config=configs/export.py --workdir=runs/mine \
      --config.dtype=bfloat16

Reads <workdir>/train_dpo/model; writes <workdir>/vpo with weights, config, generation
config, tokenizer, chat template, instruction template and a model card. What LoRA
trained is merged there; --config.adapter writes the adapter alone, as PEFT and vLLM
read it, to <workdir>/vpo_adapter.
"""

from vpo_jax.runtime import app
from vpo_jax.serve import export

if __name__ == "__main__":
  app.run_stage(export.run, "export.py")
