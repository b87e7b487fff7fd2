"""A picture of the distribution of each system's rewards."""

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath, epy

from vpo_jax import files

with epy.lazy_imports():  # slow to import, and not always used
  import scipy.stats


def rewards(
  path: epath.Path, title: str, by_system: Mapping[str, Sequence[float]]
) -> None:
  """Draws one row per system: a mark per query, the density, and the mean.

  Args:
    by_system: the rewards of each system, one per query.
  """
  from matplotlib import figure

  names = list(by_system)
  size = (7, 0.9 + 0.55 * len(names))
  drawing = figure.Figure(figsize=size, layout="constrained")
  axes = drawing.add_subplot()
  axes.set_title(title, loc="left", fontsize=10)
  low = min(map(min, by_system.values()))
  high = max(map(max, by_system.values()))
  places_K = np.linspace(low, high, 200)
  for k, name in enumerate(names):
    values_N = np.asarray(by_system[name])
    place, color = len(names) - 1 - k, f"C{k % 10}"
    height_K = _density(values_N, places_K)
    top_K = place + 0.75 * height_K / height_K.max()
    axes.fill_between(places_K, place, top_K, color=color, alpha=0.3, linewidth=0)
    axes.plot(values_N, np.full(len(values_N), place), "|", color=color, alpha=0.35)
    mean = float(values_N.mean())
    axes.plot([mean, mean], [place, place + 0.75], color=color, linewidth=1.5)
    axes.annotate(
      f"{mean:.2f}",
      (mean, place + 0.75),
      xytext=(3, -2),
      textcoords="offset points",
      fontsize=8,
      va="top",
    )
  axes.set_yticks(range(len(names)), names[::-1])
  axes.set_ylim(-0.3, len(names))
  axes.set_xlabel("reward of a query's video; the line is the mean")
  axes.spines[["top", "right", "left"]].set_visible(False)
  axes.tick_params(left=False)
  with files.publish(path, "wb") as file:
    drawing.savefig(file, format="png", dpi=120)


def _density(values_N: np.ndarray, places_K: np.ndarray) -> np.ndarray:
  """A Gaussian kernel density estimate; a spike where all values are equal."""
  if np.ptp(values_N) == 0:
    return (places_K == places_K[np.abs(places_K - values_N[0]).argmin()]).astype(float)
  return scipy.stats.gaussian_kde(values_N)(places_K)
