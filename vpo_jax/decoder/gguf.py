"""Converts a GGUF file to a Hugging Face directory.

python -m vpo_jax.decoder.gguf FILE FOLDER
"""

import os
import sys


def main(gguf: str, folder: str) -> None:
  import transformers

  transformers.utils.logging.disable_progress_bar()
  source, name = os.path.split(gguf)
  model = transformers.AutoModelForCausalLM.from_pretrained(source, gguf_file=name)
  tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=name)
  # The weights are dequantized, but transformers still marks the model as quantized.
  del model.hf_quantizer, model.config.quantization_config  # pyright: ignore
  model.save_pretrained(folder)
  tokenizer.save_pretrained(folder)


if __name__ == "__main__":
  main(*sys.argv[1:])
