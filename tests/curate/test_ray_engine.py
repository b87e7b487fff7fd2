import pytest

from configs import curate as curate_config
from vpo_jax import stages
from vpo_jax.curate import curate

ray = pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_files_of_the_local_engine(tmp_path, monkeypatch):
  monkeypatch.setattr(curate, "_BATCH", 100)
  monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
  counts = {}
  for engine in curate.ENGINES:
    config = curate_config.get_config()
    config.engine = engine
    config.sizes.update(sft_general=110, dpo_general=40, test_general=20)
    counts[engine] = stages.run(curate.STAGE, config, tmp_path / engine)
  ray.shutdown()
  assert counts["ray"] == counts["local"]
  for name in ("sft.jsonl", "dpo.jsonl", "test.jsonl", "rows.parquet", "README.md"):
    one, other = (tmp_path / engine / "curate" / name for engine in curate.ENGINES)
    assert one.read_bytes() == other.read_bytes(), name
