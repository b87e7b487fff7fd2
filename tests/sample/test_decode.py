"""A cached decode gives what a full forward gives."""

import pytest
import torch
import transformers

from vpo_jax.sample import schedule, settings

QUERIES = (
  "a cat on a skateboard",
  "一只熊猫在竹林里吃竹子",
  "x",
  'slow motion, {braces} and "quotes" -camera zoom in\nsecond line &quot;entity&quot;',
  "an astronaut rides a horse over a green hill under two moons, cinematic " * 3,
)
GREEDY = settings.Settings(temperature=0, max_new_tokens=40, ignore_eos=True)


def tokens_of(policy, prompts, wanted, slots):
  """The drawn tokens of every candidate, in order."""
  scheduler = schedule.Scheduler(policy, slots=slots)
  jobs = [scheduler.add(i, prompt, wanted) for i, prompt in enumerate(prompts)]
  while scheduler.step():
    pass
  return [[job.tokens for job in row] for row in jobs]


def their_greedy(folder, prompt, count):
  llama = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
  ids = torch.tensor([prompt.tokens])
  with torch.no_grad():
    out = llama.generate(
      ids,
      attention_mask=torch.ones_like(ids),
      do_sample=False,
      max_new_tokens=count,
      min_new_tokens=count,
      eos_token_id=None,
      pad_token_id=2,
    )
  return out[0, len(prompt.tokens) :].tolist()


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_greedy_equals_transformers(tiny, policy, slots):
  prompts = [policy.prompt(query) for query in QUERIES]
  ours = tokens_of(policy, prompts, GREEDY, slots)
  for prompt, row in zip(prompts, ours, strict=True):
    assert row == [their_greedy(tiny, prompt, 40)]
