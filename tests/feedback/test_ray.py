"""Workers as tasks of a real Ray cluster of two nodes on this machine (slow)."""

import pytest

from vpo_jax.feedback import bridge

ray = pytest.importorskip("ray")


@pytest.fixture
def cluster(scripted):
  """Two nodes of one core each; `scripted` first, so that they have its variables."""
  from ray import cluster_utils

  made = cluster_utils.Cluster(
    initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
  )
  made.add_node(num_cpus=1)
  yield made
  ray.shutdown()
  made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_files_that_the_local_executor_gives(scripted, cluster, tmp_path):
  config, count = scripted
  asks = [bridge.Ask(f"slow {i}", 0, "query") for i in range(20)]
  asks += [bridge.Ask("kill-once", 0, "query"), bridge.Ask("black", 0, "query")]
  config.bridge.executor = "ray"
  config.bridge.address = cluster.address
  config.bridge.workers = 0
  link = bridge.Bridge(config, tmp_path / "ray")
  by_ray = link.run(asks)
  assert link.restarts == 1
  assert len(list((tmp_path / "ray" / "render" / "logs").iterdir())) >= 2
  assert all(n == 1 for prompt, n in count().items() if prompt.startswith("slow"))
  config.bridge.executor = "local"
  locally = bridge.Bridge(config, tmp_path / "local").run(asks)
  for one, two in zip(by_ray, locally, strict=True):
    assert one.video_id == two.video_id
    if one.video is None or two.video is None:
      assert one.failure == two.failure
      continue
    assert one.video.sha256 == two.video.sha256
    assert one.answers.yes == two.answers.yes
