"""Batches of requests for the scripted renderer."""

from vpo_jax.feedback import bridge


def run(config, folder, *prompts):
  """Renders and scores; returns the bridge and its results."""
  link = bridge.Bridge(config, folder, folder / "store")
  return link, link.render_and_score(requests(*prompts))


def requests(*prompts):
  return [bridge.Request(prompt, 0, "query") for prompt in prompts]


def good(count, word="good"):
  return [f"{word} {i}" for i in range(count)]


def reasons(results):
  """Why each result failed; "" where it did not."""
  return [result.failure.reason if result.failure else "" for result in results]
