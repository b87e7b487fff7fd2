"""Rewrites queries with Promptist, a GPT-2 (arXiv:2212.09611).

    python .../promptist.py --check
    python .../promptist.py --model=microsoft/Promptist --queries=FILE --out=FILE

`--queries` has a JSON row with `id` and `text` per line. `--out` gets a row with `id`
and `prompt`, or `problem` if the query is too long, for each of them; those that it has
already are not made again. It needs the standard library, torch and transformers.

The settings are those of the model's card: beam search with 8 beams, a length penalty
of -1, and at most 75 new tokens. The first sequence is the prompt.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import pathlib
import sys
import threading
from typing import Any

_NEW_TOKENS = 75
_BEAMS = 8
# Promptist's repository has no tokenizer; its card names GPT-2's.
_TOKENIZER = "gpt2"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def main() -> None:
  args = _arguments()
  # Nothing in this folder may be imported.
  here = str(pathlib.Path(__file__).resolve().parent)
  sys.path[:] = [path for path in sys.path if path != here]
  if args.check:
    print(json.dumps({name: _version(name) for name in ("torch", "transformers")}))
    return
  if args.end_with_stdin:
    threading.Thread(target=_end_with_stdin, daemon=True).start()
  rows = _rows(args.queries)
  done = _finished(args.out)
  left = [row for row in rows if row["id"] not in done]
  if left:
    _rewrite(args, left)


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument("--check", action="store_true", help="print the versions")
  parser.add_argument("--model", default="", help="a directory or a hub id")
  parser.add_argument("--revision", default="", help="of the hub id")
  parser.add_argument("--tokenizer", default="", help="default: the model's, or gpt2")
  parser.add_argument("--queries", default="")
  parser.add_argument("--out", default="")
  parser.add_argument("--device", default="", help="default: cuda, if there is one")
  parser.add_argument("--batch_size", type=int, default=1)
  parser.add_argument(
    "--end_with_stdin", action="store_true", help="exit when standard input ends"
  )
  return parser.parse_args()


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return ""


def _rows(path: str) -> list[dict[str, Any]]:
  lines = pathlib.Path(path).read_text(encoding="utf-8").split("\n")
  return [json.loads(line) for line in lines if line]


def _finished(path: str) -> set[str]:
  """The ids in the output; a last line that a killed run left behind is removed."""
  file = pathlib.Path(path)
  if not file.exists():
    return set()
  whole = file.read_bytes()
  kept = whole[: whole.rfind(b"\n") + 1]
  if kept != whole:
    file.write_bytes(kept)
  return {json.loads(line)["id"] for line in kept.decode().split("\n") if line}


def _rewrite(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
  torch: Any = importlib.import_module("torch")
  transformers: Any = importlib.import_module("transformers")
  device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
  pinned = {"revision": args.revision} if args.revision else {}
  model = transformers.AutoModelForCausalLM.from_pretrained(args.model, **pinned)
  model = model.to(device).eval()
  has_own = any(pathlib.Path(args.model, name).exists() for name in _TOKENIZER_FILES)
  tokenizer = transformers.AutoTokenizer.from_pretrained(
    args.tokenizer or (args.model if has_own else _TOKENIZER)
  )
  tokenizer.pad_token = tokenizer.eos_token
  tokenizer.padding_side = "left"
  longest = model.config.n_positions - _NEW_TOKENS
  with open(args.out, "a", encoding="utf-8") as file, torch.no_grad():
    for start in range(0, len(rows), args.batch_size):
      batch = rows[start : start + args.batch_size]
      made = [_problem(tokenizer, row, longest) for row in batch]
      fit = [row for row, one in zip(batch, made, strict=True) if one is None]
      prompts = iter(_prompts(model, tokenizer, fit, device) if fit else ())
      for row, one in zip(batch, made, strict=True):
        found = one or {"id": row["id"], "prompt": next(prompts)}
        file.write(json.dumps(found, ensure_ascii=False) + "\n")
      file.flush()
      os.fsync(file.fileno())


def _text(row: dict[str, Any]) -> str:
  return f"{row['text'].strip()} Rephrase:"


def _problem(
  tokenizer: Any, row: dict[str, Any], longest: int
) -> dict[str, str] | None:
  count = len(tokenizer(_text(row)).input_ids)
  if count <= longest:
    return None
  return {"id": row["id"], "problem": f"{count} tokens, more than {longest}"}


def _prompts(
  model: Any, tokenizer: Any, rows: list[dict[str, Any]], device: str
) -> list[str]:
  inputs = tokenizer([_text(row) for row in rows], return_tensors="pt", padding=True)
  inputs = inputs.to(device)
  outputs = model.generate(
    input_ids=inputs.input_ids,
    attention_mask=inputs.attention_mask,
    do_sample=False,
    num_beams=_BEAMS,
    num_return_sequences=_BEAMS,
    max_new_tokens=_NEW_TOKENS,
    length_penalty=-1.0,
    eos_token_id=tokenizer.eos_token_id,
    pad_token_id=tokenizer.eos_token_id,
  )
  # The input is cut off by tokens: decoding does not always give back its text.
  new = outputs[::_BEAMS, inputs.input_ids.shape[1] :]
  texts = tokenizer.batch_decode(new, skip_special_tokens=True)
  return [text.strip() for text in texts]


def _end_with_stdin() -> None:
  """Ends this process if its parent has ended."""
  while os.read(0, 1024):
    pass
  os._exit(1)


if __name__ == "__main__":
  main()
