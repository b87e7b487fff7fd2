"""Spans that curation puts into queries, for the model to learn to keep them."""

import collections

from configs import curate as curate_config
from tests.serve import bench_promises
from torch_bridge.miniature import teacher as teacher_lib
from vpo_jax import queries, records, stages
from vpo_jax.curate import curate, spans
from vpo_jax.promises import spans as promised

EXACT = teacher_lib.Teacher(teacher_lib.Rates(0, 0, 0, 0, 0, 0))


def test_the_share_of_queries_gets_a_span_of_each_kind():
  rows = [records.Query(str(i), f"a cat on a roof {i}") for i in range(3000)]
  found = [spans.insert(row, 0.3, seed=0) for row in rows]
  changed = [row for row in found if row.text != rows[int(row.id)].text]
  assert 0.27 < len(changed) / len(rows) < 0.33
  kinds = collections.Counter()
  for row in changed:
    assert rows[int(row.id)].text in row.text
    [span] = promised.find(row.text)
    kinds[span.kind] += 1
    assert span.kind != "word" or promised.is_asked(row.text)
  assert min(kinds[kind] for kind in ("quote", "tag", "word")) > 250
  asked = sum(promised.is_asked(row.text) for row in changed)
  assert 0.55 < asked / len(changed) < 0.75
  assert found == [spans.insert(row, 0.3, seed=0) for row in rows]
  assert found != [spans.insert(row, 0.3, seed=1) for row in rows]


def test_a_query_with_a_span_of_its_own_is_unchanged():
  for text in ('a sign "OPEN"', "<sks> a dog", "rain -neg blurry, low quality"):
    row = records.Query("1", text)
    found = {spans.insert(row, 1.0, seed).text for seed in range(40)}
    assert text in found
    assert all(one == text or promised.find(one) for one in found)


def test_the_stage_puts_them_into_what_is_trained_on(tmp_path):
  def run(share):
    config = curate_config.get_config()
    config.update(spans=share, card=False)
    config.sizes.update(sft_general=60, sft_safety=1, dpo_general=60, dpo_safety=1)
    config.sizes.update(test_general=30, test_safety=1)
    stages.run(curate.STAGE, config, tmp_path / str(share))
    folder = tmp_path / str(share) / "curate"
    return {
      name: [row.text for row in queries.load(folder / f"{name}.jsonl")[0]]
      for name in ("sft", "dpo", "test")
    }

  plain, with_spans = run(0.0), run(0.5)
  assert plain["test"] == with_spans["test"]
  for name in ("sft", "dpo"):
    pairs = list(zip(plain[name], with_spans[name], strict=True))
    assert all(before.strip() in after for before, after in pairs)
    assert 15 < sum(before != after for before, after in pairs) < 45


def test_the_teacher_of_the_miniature_keeps_them():
  """And its judge does not take them for a part of the scene."""
  for number in range(60):
    row = records.Query(str(number), "two red balls fall")
    query = spans.insert(row, 1.0, seed=0).text
    found = promised.find(query)
    prompt = EXACT.write(query, seed=0)
    refined = EXACT.refine(query, "A cube.", seed=0).partition("[[start]]")[2]
    for text in (prompt, refined.partition("[[end]]")[0]):
      assert not promised.missing(text, found), (query, text)
      assert not teacher_lib.flaws(query, text), (query, text)


def test_the_benchmark_of_promises_has_other_spans():
  """Otherwise it would count spans that a model has learned by heart."""
  texts = [spans.insert(records.Query(str(i), "x"), 1.0, 0).text for i in range(3000)]
  learned = {span.text.lower() for text in texts for span in promised.find(text)}
  words = {word for text in learned for word in text.split()}
  for sign in bench_promises.SIGNS:
    assert not words & set(sign.lower().split())
  assert not learned & {span.lower() for span in bench_promises.TAGS}
  assert not learned & {span.lower() for span in bench_promises.WORDS}
  form = bench_promises.QUOTED.partition('"')[0]
  for word in ("banner", "says"):
    assert word in form
    assert not any(word in text for text in texts)
