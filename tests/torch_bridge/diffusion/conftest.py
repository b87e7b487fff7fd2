import mini
import pytest
import torch

from torch_bridge import contract


@pytest.fixture(scope="session", autouse=True)
def one_thread():
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
  """A store with 6 encoded pairs; returns it and the pairs."""
  store = contract.Store(tmp_path_factory.mktemp("store"))
  texts, paths = mini.write_clips(store, 12)
  rows = [
    contract.EncodedPair(
      id=f"pair{k}",
      prompt=mini.encode(store, prompt=texts[k]),
      chosen=mini.encode(store, paths[2 * k]),
      rejected=mini.encode(store, paths[2 * k + 1]),
    )
    for k in range(6)
  ]
  return store, rows
