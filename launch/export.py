r"""Exports the trained optimizer as a Hugging Face directory or a GGUF file.

    python launch/export.py --config=configs/export.py --workdir=runs/mine

Writes <workdir>/vpo from <workdir>/train_dpo/model; with --config.adapter the LoRA
adapter alone to <workdir>/vpo_adapter. For Ollama, llama.cpp and LM Studio
(docs/serving.md), which read GGUF:

    python launch/export.py --workdir=runs/mine --config.format=gguf \
      --config.dtype=float16

Writes model.gguf, Modelfile and instruction.txt to <workdir>/vpo_gguf.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.serve.export", "export.py")
