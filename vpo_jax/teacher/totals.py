"""Calls, tokens and cost of a run."""

import dataclasses
from collections.abc import Collection

import ml_collections

from vpo_jax import errors
from vpo_jax.teacher import journal

BATCH_DISCOUNT = 0.5  # OpenAI's Batch API costs half

# Stands for a reply in estimates. A prompt of 100 words is about 130 tokens and a
# critique about 200; a token is about four characters.
REPLY = (
  "Final Judgement (Yes or No): Yes\nFinal Verdict (Aligned, Unsafe, Imprecise or"
  f" Refusal): Aligned\nFinal Refined Prompt: [[start]]{'word ' * 128}[[end]]"
)


@dataclasses.dataclass
class Totals:
  """Counts of a run.

  Attributes:
    price: US dollars per million prompt tokens and per million completion tokens; None
      if unknown.
    calls: replies that this run got from the server.
    journal_hits: replies that it found in the journal.
    prompt_tokens, completion_tokens: of all replies used, from the server or journal.
  """

  price: tuple[float, float] | None
  calls: int = 0
  journal_hits: int = 0
  prompt_tokens: int = 0
  completion_tokens: int = 0

  def add(self, reply: journal.Reply, *, sent: bool) -> None:
    """Counts a reply.

    Args:
      sent: whether it came from the server, not from the journal.
    """
    self.calls += sent
    self.journal_hits += not sent
    self.prompt_tokens += reply.prompt_tokens
    self.completion_tokens += reply.completion_tokens

  def recount(self, used: Collection[journal.Reply]) -> None:
    """Recomputes tokens and journal hits from all replies used; `calls` stays."""
    self.journal_hits = max(0, len(used) - self.calls)
    self.prompt_tokens = sum(reply.prompt_tokens for reply in used)
    self.completion_tokens = sum(reply.completion_tokens for reply in used)

  @property
  def cost(self) -> float | None:
    """US dollars for all replies used, including those that an earlier run paid for."""
    if self.price is None:
      return None
    tokens = (self.prompt_tokens, self.completion_tokens)
    return sum(
      count * price / 1e6 for count, price in zip(tokens, self.price, strict=True)
    )

  def note(self) -> str:
    """A summary for the progress bar."""
    tokens = self.prompt_tokens + self.completion_tokens
    money = f", ${self.cost:,.2f}" if self.cost else ""
    return f"{self.calls:,} calls, {tokens / 1e6:.2f}M tokens{money}"

  def counts(self) -> dict[str, int | float | None]:
    """The counts for a stage's manifest."""
    return {
      "calls": self.calls,
      "journal_hits": self.journal_hits,
      "prompt_tokens": self.prompt_tokens,
      "completion_tokens": self.completion_tokens,
      "cost_usd": None if self.cost is None else round(self.cost, 4),
    }


def estimate(request: journal.Request, *, flawed: bool = False) -> journal.Reply:
  """Returns a placeholder reply with the token counts that a request is likely to have.

  Args:
    flawed: whether the placeholder, read as a judgement, finds the prompt flawed.
  """
  text = REPLY.replace("): Yes", "): No") if flawed else REPLY
  characters = sum(len(m["content"].encode()) for m in request.messages)
  return journal.Reply(text, "stop", False, characters // 4, len(REPLY) // 4)


def start(config: ml_collections.ConfigDict) -> Totals:
  """Returns zero counts, with the model's price from `config.prices`.

  A dated model ("gpt-4o-2024-08-06") has the price of the longest name it begins with.

  Raises:
    UserError: a row of the table is invalid, or there is a limit on cost but no price
      for the model.
  """
  table = dict(_price(row) for row in config.prices)
  matches = [
    name
    for name in table
    if config.model == name or config.model.startswith(f"{name}-")
  ]
  price = table[max(matches, key=len)] if matches else None
  if config.max_cost and price is None:
    raise errors.UserError(
      f"config.teacher.max_cost={config.max_cost:g}, but config.teacher.prices has no"
      f" price for model {config.model!r}"
    )
  if price and config.batch:
    price = (price[0] * BATCH_DISCOUNT, price[1] * BATCH_DISCOUNT)
  return Totals(price)


def _price(row: str) -> tuple[str, tuple[float, float]]:
  """Parses a row of the price table: "gpt-4o 2.50 10.00"."""
  try:
    name, prompt, completion = row.split()
    return name, (float(prompt), float(completion))
  except ValueError as error:
    raise errors.UserError(
      f"config.teacher.prices: {row!r} is not a model and two prices"
    ) from error
