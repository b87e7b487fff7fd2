"""Greedy answers of vLLM, as tokens; runs in vLLM's interpreter.

    python vllm_greedy.py MODEL COUNT < PROMPTS > ANSWERS

PROMPTS and ANSWERS are JSON lists of lists of tokens; each answer has COUNT tokens.
"""

import json
import os
import sys


def main() -> None:
  prompts = json.load(sys.stdin)
  answers = os.dup(1)
  os.dup2(2, 1)  # vLLM prints to stdout
  os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
  import vllm

  llm = vllm.LLM(sys.argv[1], dtype="float32", max_model_len=1024, max_num_seqs=4)
  count = int(sys.argv[2])
  wanted = vllm.SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
  made = llm.generate([{"prompt_token_ids": row} for row in prompts], wanted)
  with os.fdopen(answers, "w") as file:
    json.dump([list(one.outputs[0].token_ids) for one in made], file)


if __name__ == "__main__":
  main()
