"""Converts a GGUF file to a Hugging Face directory.

python -m vpo_jax.decoder.gguf FILE FOLDER
"""

import os
import sys


def main(path: str, folder: str) -> None:
  import gguf
  import transformers

  from vpo_jax.decoder import pre_tokenizers

  transformers.utils.logging.disable_progress_bar()
  # transformers does not read how a byte-level tokenizer splits a text.
  fields = gguf.GGUFReader(path).fields
  kind, pre = (fields.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
  how = None
  if kind and pre and kind.contents() == "gpt2":
    how = pre_tokenizers.by_name(pre.contents())
  source, name = os.path.split(path)
  model = transformers.AutoModelForCausalLM.from_pretrained(source, gguf_file=name)
  tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=name)
  # The weights are dequantized, but transformers still marks the model as quantized.
  del model.hf_quantizer, model.config.quantization_config  # pyright: ignore
  model.save_pretrained(folder)
  if how:
    tokenizer._tokenizer = pre_tokenizers.apply(tokenizer.backend_tokenizer, how)
  tokenizer.save_pretrained(folder)


if __name__ == "__main__":
  main(*sys.argv[1:])
