"""The parts of a data card: Markdown tables, examples, and histograms as PNG."""

from collections.abc import Iterable, Mapping

import numpy as np
from etils import epath
from jaxtyping import Shaped

from vpo_jax import files

# Bin edges of histograms: words in a query, words in a prompt, and shares such as
# self-BLEU.
QUERY_WORDS = np.arange(0, 102, 2)
PROMPT_WORDS = np.arange(0, 204, 4)
SHARES = np.linspace(0, 1, 51)
_MAX_CHARACTERS = 160


def publish(folder: epath.Path, sections: Iterable[str]) -> None:
  """Writes `README.md`."""
  with files.publish(folder / "README.md") as file:
    file.write("\n\n".join(sections) + "\n")


def table(title: str, head: str, lines: Iterable[str]) -> str:
  """Returns a section with a table.

  Args:
    head: the header row, such as "| step | rows |".
    lines: the other rows in the same form.
  """
  rule = "|" + " --- |" * (head.count("|") - 1)
  return "\n".join([title, "", head, rule, *lines])


def examples(name: str, texts: Iterable[str]) -> str:
  """Returns a list of texts under a title; long texts are cut."""
  title = name.replace("_", " ").capitalize()
  return f"{title}:\n\n" + "\n".join(f"- {quoted(text)}" for text in texts)


def quoted(text: str, max_characters: int = _MAX_CHARACTERS) -> str:
  """Returns a text as inline code, so that its characters are not read as Markdown."""
  line = " ".join(text.split()).replace("`", "'")
  if len(line) <= max_characters:
    return f"`{line}`"
  return f"`{line[:max_characters]}` …"


def histogram(
  path: epath.Path,
  label: str,
  edges: Shaped[np.ndarray, " E"],
  series: Mapping[str, Shaped[np.ndarray, " N"]],
) -> None:
  """Draws two series, by name: the first as an area, the second as a line.

  Values outside the edges are counted in the first and last bar.
  """
  from matplotlib import figure

  drawing = figure.Figure(figsize=(6, 3))
  drawing.subplots_adjust(left=0.12, right=0.98, bottom=0.17, top=0.96)
  axes = drawing.add_subplot()
  for (name, values), kind in zip(series.items(), ("stepfilled", "step"), strict=True):
    inside = np.clip(values, edges[0], edges[-1])
    color = "0.8" if kind == "stepfilled" else "C0"
    axes.hist(inside, edges.tolist(), histtype=kind, color=color, label=name)
  axes.set_xlabel(label)
  axes.set_ylabel("texts")
  axes.legend(frameon=False)
  with files.publish(path, "wb") as file:
    drawing.savefig(file, format="png", dpi=120)
