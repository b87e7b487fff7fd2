"""Stage report: what a run did, as a table for people and report.json for programs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import rich.box
import rich.table
import rich.text
from etils import epath

from vpo_jax import files, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.runtime import console
from vpo_jax.sample import generate, lm, settings

NAME = "report"


@dataclasses.dataclass(frozen=True)
class Shown:
  """One query, and what each model made of it."""

  query: str
  base: str
  sft: str
  vpo: str


def run(
  config: ml_collections.ConfigDict,
  workdir: epath.PathLike,
  *,
  base: str,
  counts: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
  """Writes `<workdir>/report.json` and prints its table.

  Args:
    config: see configs/report.py.
    base: the model that SFT started from.
    counts: what each stage reported, by stage.

  Returns: what report.json holds: `counts`, and `prompts` of the shown queries.
  """
  workdir = epath.Path(workdir)
  queries = epath.Path(config.queries or workdir / "curate" / "test.jsonl")
  models = {"sft": workdir / "train_sft" / "model", "vpo": workdir / "vpo"}
  work = stages.begin(NAME, config, workdir, {"queries": queries, **models})
  made = work.folder / "prompts.json"
  if work.counts is None:
    shown = _choose(queries_lib.load(queries)[0], config.shown)
    texts = {
      name: _write(str(model), shown, config)
      for name, model in {"base": base, **models}.items()
    }
    prompts = [
      dataclasses.asdict(Shown(q.text, *(texts[name][i] for name in texts)))
      for i, q in enumerate(shown)
    ]
    files.write_json(made, prompts)
    work.finish({"shown": len(shown)})
  # What was compared may have grown since the prompts were written.
  report = {"counts": dict(counts), "prompts": files.read_json(made)}
  files.write_json(workdir / "report.json", report)
  show(report)
  return report


def _choose(queries: Sequence[records.Query], count: int) -> list[records.Query]:
  """The first queries of the test set, one of them safety-related if there is one."""
  general = [query for query in queries if query.category == "general"]
  safety = [query for query in queries if query.category == "safety"][:1]
  return (general[: count - len(safety)] + safety)[:count]


def _write(
  model: str, queries: Sequence[records.Query], config: ml_collections.ConfigDict
) -> list[str]:
  policy = lm.load(model)
  wanted = settings.Settings(
    temperature=config.temperature,
    top_p=config.top_p,
    max_new_tokens=config.max_new_tokens,
    seed=config.seed,
  )
  prompts = [policy.prompt(query.text) for query in queries]
  return [made[0].prompt for made in generate.generate(policy, prompts, wanted)]


def show(report: Mapping[str, Any]) -> None:
  """Prints the table of a report."""
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_header=False)
  table.add_column(style="bold", no_wrap=True)
  table.add_column()
  for title, text in lines(report["counts"]):
    table.add_row(title, text)
  console.console.print(table)
  for row in report["prompts"]:
    prompts = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_header=False)
    prompts.add_column(style="bold", no_wrap=True)
    prompts.add_column()
    for title, name in (
      ("query", "query"),
      ("base model", "base"),
      ("after SFT", "sft"),
      ("after DPO", "vpo"),
    ):
      prompts.add_row(title, rich.text.Text(_shorten(row[name])))
    console.console.print(prompts)


def _shorten(text: str) -> str:
  """At most 400 characters; report.json has them all."""
  return text if len(text) <= 400 else f"{text[:400].rsplit(' ', 1)[0]} …"


def lines(counts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
  """The rows of the table: a title and what happened."""
  c = counts
  sft, dpo = c["train_sft"], c["train_dpo"]
  return [
    ("queries", f"{c['curate']['read']} in, {c['curate']['kept']} kept"),
    (
      "SFT examples",
      f"{c['build_sft']['examples']}, {c['build_sft']['refined']} of them refined",
    ),
    (
      "SFT loss",
      f"{sft['loss_before']:.3f} before, {sft['loss_after']:.3f} after"
      f" (nats a token, {sft['heldout']} held-out examples)",
    ),
    (
      "candidates",
      f"{c['text_pairs']['candidates']}, {c['text_pairs']['flawed']} found flawed,"
      f" {c['text_pairs']['refined']} refined",
    ),
    ("text pairs", f"{c['text_pairs']['pairs']}"),
    (
      "videos",
      f"{c['video_pairs']['rendered']} rendered, {c['video_pairs']['scored']} scored",
    ),
    ("video pairs", f"{c['video_pairs']['pairs']}"),
    (
      "DPO loss",
      f"{dpo['loss_before']:.4f} before, {dpo['loss_after']:.4f} after"
      f" ({dpo['pairs']} pairs, {dpo['heldout']} held out)",
    ),
    ("reward accuracy", f"{dpo['reward_accuracy']:.2f} on held-out pairs"),
    ("reward margin", f"{dpo['reward_margin']:.4f} on held-out pairs (nats)"),
    *(_compared(c["evaluate"]) if "evaluate" in c else ()),
  ]


def _compared(counts: Mapping[str, Any]) -> list[tuple[str, str]]:
  """What the systems' videos of the test queries got (`experiment.run`)."""
  rewards = ", ".join(f"{name} {value:.3f}" for name, value in counts["reward"].items())
  return [
    ("video reward", f"{rewards} (means over {counts['queries']} test queries)"),
    *(
      (
        f"{row['two']} - {row['one']}",
        f"{row['mean']:+.3f}, 95 % interval {row['low']:+.3f} to {row['high']:+.3f}",
      )
      for row in counts["differences"]
    ),
  ]
