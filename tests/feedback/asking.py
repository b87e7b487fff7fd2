"""What tests ask the scripted renderer for."""

from vpo_jax.feedback import bridge


def asks(*prompts):
  return [bridge.Ask(prompt, 0, "query") for prompt in prompts]


def good(count, word="good"):
  return [f"{word} {i}" for i in range(count)]


def reasons(results):
  return [result.failure.reason if result.failure else "" for result in results]
