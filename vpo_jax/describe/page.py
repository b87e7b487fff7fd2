"""The parts of a data card: Markdown tables, examples, and histograms as PNG."""

from collections.abc import Iterable, Mapping

import numpy as np
from etils import epath
from jaxtyping import Shaped

from vpo_jax import files

WORDS = np.arange(0, 102, 2)  # edges of a histogram of texts' words
WIDE = np.arange(0, 204, 4)  # the same for prompts, which are longer than queries
SHARES = np.linspace(0, 1, 51)  # and of shares, such as self-BLEU
_SHOWN = 160


def publish(folder: epath.Path, sections: Iterable[str]) -> None:
  """Writes `README.md`."""
  with files.publish(folder / "README.md") as file:
    file.write("\n\n".join(sections) + "\n")


def table(title: str, head: str, lines: Iterable[str]) -> str:
  """A section with a table.

  Args:
    head: "| step | rows |"; `lines` alike.
  """
  rule = "|" + " --- |" * (head.count("|") - 1)
  return "\n".join([title, "", head, rule, *lines])


def examples(name: str, texts: Iterable[str]) -> str:
  """A few texts under a name, each on a line, long ones cut."""
  title = name.replace("_", " ").capitalize()
  return f"{title}:\n\n" + "\n".join(f"- {quoted(text)}" for text in texts)


def quoted(text: str, most: int = _SHOWN) -> str:
  """A text as one line of code: none of its marks may become the page's."""
  line = " ".join(text.split()).replace("`", "'")
  return f"`{line}`" if len(line) <= most else f"`{line[:most]}` …"


def histogram(
  path: epath.Path,
  label: str,
  edges: Shaped[np.ndarray, " E"],
  series: Mapping[str, Shaped[np.ndarray, " N"]],
) -> None:
  """Draws two series, by name: the first as an area, the second as a line.

  Values beyond the edges are counted in the outermost bars.
  """
  from matplotlib import figure

  drawing = figure.Figure(figsize=(6, 3), layout="constrained")
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
