"""A study is random, reproducible, and says nothing about the systems."""

import re

import pytest

from tests.evaluate.human.conftest import SYSTEMS
from vpo_jax import errors
from vpo_jax.evaluate.human import page, study

QUERIES = {f"query-{k}": f"query number {k}" for k in range(200)}


@pytest.fixture
def videos(tmp_path):
  """Names of videos that do not exist."""
  names = (*SYSTEMS, "third")
  return {name: {q: tmp_path / f"{name}-{q}.mp4" for q in QUERIES} for name in names}


def sides(made):
  return {key.item: (key.left, key.right) for key in made.keys}


def test_each_side_has_either_system_and_depends_on_its_pair_only(videos):
  made = study.pairs(videos, QUERIES, [SYSTEMS])
  left = sum(key.left == SYSTEMS[0] for key in made.keys)
  assert 75 < left < 125  # 3.5 standard deviations
  assert all(key.swapped == (key.left == SYSTEMS[1]) for key in made.keys)
  fewer = {query: QUERIES[query] for query in list(QUERIES)[:7]}
  more = [("third", SYSTEMS[1]), SYSTEMS]
  assert sides(study.pairs(videos, fewer, [SYSTEMS])).items() <= sides(made).items()
  assert sides(made).items() <= sides(study.pairs(videos, QUERIES, more)).items()
  other = study.pairs(videos, QUERIES, [SYSTEMS], seed=1)
  assert sides(other).values() != sides(made).values()
  assert other.id != made.id


def test_the_order_is_shuffled_and_the_sample_is_drawn(videos):
  made = study.pairs(videos, QUERIES, [SYSTEMS], number=50)
  drawn = [key.query_id for key in made.keys]
  assert len(set(drawn)) == 50
  assert drawn != sorted(drawn, key=list(QUERIES).index)
  assert set(drawn) != set(list(QUERIES)[:50])
  assert [key.item for key in made.keys] == [item.id for item in made.items]
  larger = study.pairs(videos, QUERIES, [SYSTEMS], number=60)
  assert set(drawn) < {key.query_id for key in larger.keys}


def test_levels_show_every_system_once_per_query(videos):
  made = study.levels(videos, QUERIES, number=10)
  assert len(made.items) == 30
  assert len({(key.query_id, key.left) for key in made.keys}) == 30
  assert all(len(item.videos) == 1 for item in made.items)


def test_queries_without_all_videos_are_left_out_or_refused(videos):
  del videos["third"]["query-0"]
  made = study.pairs(videos, QUERIES, [("third", SYSTEMS[0])])
  assert len(made.items) == 199
  assert len(study.pairs(videos, QUERIES, [SYSTEMS]).items) == 200
  with pytest.raises(errors.UserError, match="200 queries cannot be drawn: 199 have"):
    study.pairs(videos, QUERIES, [("third", SYSTEMS[0])], number=200)
  with pytest.raises(errors.UserError, match="no system 'fourth'"):
    study.pairs(videos, QUERIES, [("fourth", SYSTEMS[0])])
  with pytest.raises(errors.UserError, match="list two systems, once"):
    study.pairs(videos, QUERIES, [SYSTEMS, SYSTEMS[::-1]])


def test_raters_files_do_not_tell_systems_or_videos(twenty, tmp_path):
  study.write(twenty, tmp_path)
  told = [*SYSTEMS, *(path.stem for path in twenty.sources.values()), "query-"]
  files = [path for path in (tmp_path / study.RATERS).rglob("*") if path.is_file()]
  assert len(files) == 41
  for path in files:
    content = path.name.encode() + path.read_bytes()
    assert not [name for name in told if name.encode() in content], path
  # The videos are the rendered ones, and their times do not tell them apart.
  assert all(
    (tmp_path / study.RATERS / page.VIDEOS / name).read_bytes() == source.read_bytes()
    for name, source in twenty.sources.items()
  )
  rendered = {source.stat().st_mtime for source in twenty.sources.values()}
  assert not rendered & {path.stat().st_mtime for path in files}
  assert study.read_key(tmp_path / study.KEY) == twenty.keys
  for name in ("label_studio.json", "label_studio.xml"):
    content = (tmp_path / name).read_text()
    assert not [name for name in told if name in content]


def test_markup_in_a_query_does_not_end_the_data():
  text = page.embedded({"query": "a </script><!-- <script> \u2028 猫"})
  assert re.fullmatch(r"[ -~]*", text)
  assert "<" not in text
