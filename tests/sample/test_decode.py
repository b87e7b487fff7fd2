"""Cached decoding equals the full forward pass, whatever else is in the batch."""

import dataclasses
import json
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vpo_jax.decoder import attention, model, sharding
from vpo_jax.sample import cache, decode, lm, schedule, settings

QUERIES = (
  "a cat on a skateboard",
  "一只熊猫在竹林里吃竹子",
  "x",
  'slow motion, {braces} and "quotes" -camera zoom in\nsecond line &quot;entity&quot;',
  "an astronaut rides a horse over a green hill under two moons, cinematic " * 3,
)
GREEDY = settings.Settings(temperature=0, max_new_tokens=24, ignore_eos=True)
SAMPLED = settings.Settings(
  num_candidates=3, temperature=0.9, top_p=0.9, max_new_tokens=24, seed=3
)


_CPUINFO = pathlib.Path("/proc/cpuinfo")
CPU = _CPUINFO.read_text() if _CPUINFO.exists() else ""


def tokens_of(policy, prompts, wanted, slots):
  """The drawn tokens of each prompt's candidates."""
  scheduler = schedule.Scheduler(policy, slots=slots)
  jobs = [scheduler.add(i, prompt, wanted) for i, prompt in enumerate(prompts)]
  while scheduler.step():
    pass
  return [[job.tokens for job in row] for row in jobs]


def their_greedy(llama, prompt, count):
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


def test_greedy_equals_transformers(tiny_model, policy):
  prompts = [policy.prompt(query) for query in QUERIES]
  # One prompt in the batch does not begin with the stem.
  prompts.append(policy.chat([{"role": "user", "content": "hello"}]))
  assert prompts[-1].tokens[: len(policy.stem_tokens)] != policy.stem_tokens
  llama = transformers.LlamaForCausalLM.from_pretrained(tiny_model).eval()
  ours = tokens_of(policy, prompts, GREEDY, slots=4)
  for prompt, row in zip(prompts, ours, strict=True):
    assert row == [their_greedy(llama, prompt, GREEDY.max_new_tokens)]


@pytest.mark.slow
def test_greedy_equals_transformers_on_smollm2(smollm2):
  policy = lm.load(str(smollm2))
  llama = transformers.LlamaForCausalLM.from_pretrained(smollm2).eval()
  prompts = [policy.prompt(query) for query in QUERIES[:2]]
  ours = tokens_of(policy, prompts, GREEDY, slots=2)
  for prompt, row in zip(prompts, ours, strict=True):
    assert row == [their_greedy(llama, prompt, GREEDY.max_new_tokens)]


@pytest.mark.slow
def test_greedy_equals_transformers_on_50_queries(smollm2):
  """Each of our tokens is transformers' most probable one, given those before it.

  By induction ours is its greedy answer; this takes one forward pass per query, where
  generating the answer would take 64.
  """
  policy = lm.load(str(smollm2))
  llama = transformers.LlamaForCausalLM.from_pretrained(smollm2).eval()
  path = pathlib.Path(lm.__file__).parents[1] / "curate" / "queries.jsonl"
  texts = [json.loads(line)["text"] for line in path.read_text().splitlines()[:50]]
  wanted = dataclasses.replace(GREEDY, max_new_tokens=64)
  prompts = [policy.prompt(text) for text in texts]
  ours = tokens_of(policy, prompts, wanted, slots=32)
  wrong = {}
  for text, prompt, [row] in zip(texts, prompts, ours, strict=True):
    with torch.no_grad():
      logits = llama(torch.tensor([[*prompt.tokens, *row[:-1]]])).logits[0]
    theirs = logits[len(prompt.tokens) - 1 :]
    if (
      at := next((n for n in range(64) if theirs[n].argmax() != row[n]), None)
    ) is not None:
      first, second = theirs[at].topk(2).values.tolist()
      wrong[text] = f"token {at}: {first - second:.1e} between their first two"
  assert not wrong


def test_what_a_model_reasons_is_not_part_of_its_answer(policy):
  asked = dataclasses.replace(policy.format, reasoning=True)
  reasoning = dataclasses.replace(policy, format=asked)
  for text, answer in {
    "<think>\na boat?\n</think>\n\nA boat drifts.": "A boat drifts.",
    "A boat drifts.": "A boat drifts.",
    "<think>\na boat, or": "",
  }.items():
    tokens = policy.format.tokens(text)
    assert reasoning.decode(tokens) == answer
    assert policy.decode(tokens) == text


def test_a_candidate_does_not_depend_on_its_batch(policy):
  prompts = [policy.prompt(query) for query in QUERIES]
  together = tokens_of(policy, prompts, SAMPLED, slots=4)
  backwards = tokens_of(policy, prompts[::-1], SAMPLED, slots=8)
  assert backwards[::-1] == together
  assert tokens_of(policy, prompts[1:2], SAMPLED, slots=1) == together[1:2]
  more = dataclasses.replace(SAMPLED, num_candidates=4)
  assert [row[:3] for row in tokens_of(policy, prompts, more, slots=4)] == together
  assert len({tuple(tokens) for row in together for tokens in row}) == 15
  other = dataclasses.replace(SAMPLED, seed=4)
  assert tokens_of(policy, prompts[:1], other, slots=4) != together[:1]


def test_arriving_and_cancelled_requests_change_no_candidate(policy):
  """An eager scheduler, which computes as many slots as are in use."""
  prompts = [policy.prompt(query) for query in QUERIES]
  scheduler = schedule.Scheduler(policy, slots=8, steps=4, eager=True, shortest=256)
  jobs = [scheduler.add(0, prompts[0], GREEDY), scheduler.add(1, prompts[1], SAMPLED)]
  scheduler.add("gone", prompts[2], SAMPLED)
  assert {len(update.tokens) for update in scheduler.step()} == {1}  # reported at once
  scheduler.cancel("gone")
  scheduler.step()
  jobs += [scheduler.add(n, prompts[n], SAMPLED) for n in (2, 3, 4)]
  while scheduler.step():
    pass
  tokens = [[job.tokens for job in row] for row in jobs]
  assert tokens[:1] == tokens_of(policy, prompts[:1], GREEDY, slots=4)
  assert tokens[1:] == tokens_of(policy, prompts[1:], SAMPLED, slots=4)


def test_a_long_answer_moves_to_longer_slots(policy, monkeypatch):
  prompts = [policy.prompt(query) for query in QUERIES]
  wanted = dataclasses.replace(SAMPLED, max_new_tokens=200, ignore_eos=True)
  monkeypatch.setattr(schedule, "FIRST_POOL", 512)
  roomy = tokens_of(policy, prompts, wanted, slots=8)
  monkeypatch.setattr(schedule, "FIRST_POOL", 64)
  assert tokens_of(policy, prompts, wanted, slots=8) == roomy
  assert all(len(tokens) == 200 for row in roomy for tokens in row)


def test_drawn_tokens_are_in_the_nucleus_of_a_full_forward_pass(policy):
  wanted = dataclasses.replace(SAMPLED, top_p=0.2, num_candidates=1)
  prompt = policy.prompt(QUERIES[3])
  drawn = tokens_of(policy, [prompt], wanted, slots=1)[0][0]
  tokens = jnp.asarray([[*prompt.tokens, *drawn[:-1]]])
  x, _ = model.hidden(
    policy.params,
    tokens,
    jnp.arange(tokens.shape[1])[None],
    attention.causal(policy.config),
    policy.config,
  )
  logits = model.logits(policy.params, x, policy.config)
  logits = np.asarray(logits)[0, -len(drawn) :] / 0.9
  p = np.asarray(jax.nn.softmax(logits, axis=-1))
  for row, token in zip(p, drawn, strict=True):
    assert row[row > row[token]].sum() < 0.2 + 1e-4


@pytest.mark.parametrize(
  "axes",
  [
    (2, 2, 2),
    pytest.param((2, 1, 1), marks=pytest.mark.slow),
    pytest.param((2, 1, 2), marks=pytest.mark.slow),
    pytest.param((4, 1, 2), marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_several_devices_draw_what_one_draws(tiny_model, policy, axes):
  sizes = dict(zip(sharding.AXES, axes, strict=True))
  mesh = sharding.make_mesh(sizes | {"devices": math.prod(axes)})
  split = lm.load(str(tiny_model), mesh=mesh)
  prompts = [policy.prompt(query) for query in QUERIES]
  assert tokens_of(split, prompts, SAMPLED, slots=8) == tokens_of(
    policy, prompts, SAMPLED, slots=8
  )


def test_finish_reasons(policy):
  """A candidate ends with a stop token, which is counted, or at the limit."""
  prompts = [policy.prompt(query) for query in QUERIES]
  drawn = tokens_of(policy, prompts, SAMPLED, slots=4)
  first = drawn[0][0][5]  # make this a stop token
  chat_format = dataclasses.replace(policy.format, stops=(first,))
  ending = dataclasses.replace(policy, format=chat_format)
  scheduler = schedule.Scheduler(ending, slots=4)
  jobs = [scheduler.add(i, prompt, SAMPLED) for i, prompt in enumerate(prompts)]
  while scheduler.step():
    pass
  for row, all_tokens in zip(jobs, drawn, strict=True):
    for job, tokens in zip(row, all_tokens, strict=True):
      end = tokens.index(first) + 1 if first in tokens else len(tokens)
      assert job.tokens == tokens[:end]
      assert job.finish_reason == ("stop" if first in tokens else "length")
  assert jobs[0][0].finish_reason == "stop"


def test_an_int8_candidate_does_not_depend_on_its_batch(tiny_model):
  policy = lm.load(str(tiny_model), precision="int8")
  prompts = [policy.prompt(query) for query in QUERIES[:3]]
  together = tokens_of(policy, prompts, SAMPLED, slots=4)
  assert tokens_of(policy, prompts[1:2], SAMPLED, slots=1) == together[1:2]


def test_few_candidates_share_slots_of_one_length(policy):
  """Short slots are worth it only if candidates fill them for several rounds."""
  short, long = policy.prompt("x"), policy.prompt("a cat on a skateboard " * 10)

  def shortest(prompts, slots):
    return schedule.shortest(policy, prompts, GREEDY, slots)

  assert shortest([short], 4) == 64
  assert shortest([short] * 8 + [long], 4) == 160
  assert shortest([short] * 16 + [long], 4) == 64
  assert shortest([], 4) == 32


@pytest.mark.skipif("avx512_bf16" not in CPU, reason="requires AVX512-BF16")
@pytest.mark.parametrize("slots", [1, 4])
def test_a_bfloat16_step_converts_no_matrix_to_float32(tiny_model, slots):
  policy = lm.load(str(tiny_model), precision="bfloat16")
  lowered = decode.block.lower(
    policy.params,
    policy.stem,
    cache.empty(slots, 64, policy.config, policy.mesh, "bfloat16"),
    decode.idle(slots),
    steps=8,
    stop=policy.format.stops,
    config=policy.config,
    mesh=policy.mesh,
    dtype="bfloat16",
  )
  hlo = lowered.compile().as_text()
  # The result of a fused computation is written to memory; what is inside it is not.
  converted = set(re.findall(r"ROOT \S+ = f32\[(\d+,\d+)\]\S* convert\(", hlo))
  matrices = {
    f"{w.shape[0]},{w.shape[1]}"
    for w in jax.tree.leaves(policy.params)
    if w.ndim == 2 and w.dtype == "bfloat16"
  }
  assert matrices
  assert not matrices & converted
