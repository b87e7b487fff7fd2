"""Workers as tasks of a real Ray cluster of two nodes on this machine (slow)."""

import batch
import pytest

ray = pytest.importorskip("ray")


@pytest.fixture
def cluster(scripted):
  """Two nodes of one core each, started after `scripted` has set the environment."""
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
def test_ray_and_the_local_executor_give_the_same_files(scripted, cluster, tmp_path):
  config, count = scripted
  prompts = [*batch.good(20, "slow"), "kill-once", "black"]
  config.bridge.executor = "ray"
  config.bridge.address = cluster.address
  config.bridge.workers = 0
  link, by_ray = batch.run(config, tmp_path / "ray", *prompts)
  assert link.restarts == 1
  assert len(list((tmp_path / "ray" / "render" / "logs").iterdir())) >= 2
  assert all(n == 1 for prompt, n in count().items() if prompt.startswith("slow"))
  config.bridge.executor = "local"
  _, locally = batch.run(config, tmp_path / "local", *prompts)
  for one, two in zip(by_ray, locally, strict=True):
    assert one.video_id == two.video_id
    if one.video is None or two.video is None:
      assert one.failure == two.failure
      continue
    assert one.video.sha256 == two.video.sha256
    assert one.answers.yes == two.answers.yes
