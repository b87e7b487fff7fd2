"""Stage report: each model's prompts for a few queries, and the table of a run."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import rich.box
import rich.table
import rich.text
from etils import epath

from vpo_jax import files, json_input, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.decoder import source
from vpo_jax.runtime import console
from vpo_jax.sample import generate, lm, settings


@dataclasses.dataclass(frozen=True)
class Shown:
  """One query, and the prompt that each model writes for it."""

  query: str
  base: str
  sft: str
  vpo: str


def run(work: stages.Work) -> stages.Counts:
  """Writes prompts.json: a few test queries and each model's prompts for them."""
  config = work.config
  shown = _choose(queries_lib.load(work.inputs["queries"])[0], config.shown)
  texts = {
    name: _write(str(work.inputs[name]), shown, config)
    for name in ("base", "sft", "vpo")
  }
  prompts = [
    dataclasses.asdict(Shown(q.text, *(texts[name][i] for name in texts)))
    for i, q in enumerate(shown)
  ]
  files.write_json(work.folder / "prompts.json", prompts)
  return {"shown": len(shown)}


STAGE = stages.Stage(
  name="report",
  run=run,
  inputs=(
    stages.Input("queries", "curate/test.jsonl"),
    stages.Input("base", resolve=source.resolve),
    stages.Input("sft", "train_sft/model"),
    stages.Input("vpo", "vpo"),
  ),
  cheap=True,
  uses_jax=True,
)


def publish(
  workdir: epath.PathLike, counts: Mapping[str, stages.Counts], note: str = ""
) -> None:
  """Writes `<workdir>/report.json` and prints it as a table.

  The table begins with the models that an evaluation compared, if there is one.

  Args:
    counts: the counts of every stage, by name.
    note: printed above the table.
  """
  workdir = epath.Path(workdir)
  prompts = json_input.value(workdir / STAGE.name / "prompts.json")
  compared = workdir / "evaluate" / "results.json"
  models = json_input.value(compared)["setup"] if compared.exists() else []
  report = {
    "note": note,
    "models": models,
    "counts": dict(counts),
    "prompts": prompts,
  }
  files.write_json(workdir / "report.json", report)
  show(report)


def _choose(queries: Sequence[records.Query], count: int) -> list[records.Query]:
  """The first queries of the test set; one is safety-related, if there is one."""
  general = [query for query in queries if query.category == "general"]
  safety = [query for query in queries if query.category == "safety"][:1]
  return (general[: count - len(safety)] + safety)[:count]


def _write(
  model: str, queries: Sequence[records.Query], config: ml_collections.ConfigDict
) -> list[str]:
  policy = lm.load(model, precision=config.precision)
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
  if report["note"]:
    table.add_row("note", report["note"])
  for row in report["models"]:
    revision = f", revision {row['revision']}" if row["revision"] else ""
    table.add_row(row["part"], rich.text.Text(f"{row['model']}{revision}"))
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
  """Cuts a text to 400 characters; report.json has the whole text."""
  return text if len(text) <= 400 else f"{text[:400].rsplit(' ', 1)[0]} …"


def lines(counts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
  """The rows of the table: a title and a text."""
  c = counts
  return [
    ("queries", f"{c['curate']['read']} in, {c['curate']['kept']} kept"),
    (
      "SFT examples",
      f"{c['build_sft']['examples']}, {c['build_sft']['refined']} of them refined",
    ),
    ("SFT loss", _sft_loss(c["train_sft"])),
    (
      "candidates",
      f"{c['text_pairs']['candidates']}, {c['text_pairs']['flawed']} found flawed,"
      f" {c['text_pairs']['refined']} refined",
    ),
    ("text pairs", f"{c['text_pairs']['pairs']}"),
    (
      "videos",
      f"{c['score_videos']['rendered']} rendered, {c['score_videos']['scored']} scored",
    ),
    *(_of_groups(c) if "train_groups" in c else _of_pairs(c)),
    *(_compared(c["evaluate"]) if "evaluate" in c else ()),
  ]


def _sft_loss(sft: Mapping[str, Any]) -> str:
  if sft["loss_before"] is None:
    return "not measured (no held-out examples)"
  return (
    f"{sft['loss_before']:.3f} before, {sft['loss_after']:.3f} after"
    f" (nats per token, {sft['heldout']} held-out examples)"
  )


def _of_pairs(counts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
  return [
    ("video pairs", f"{counts['video_pairs']['pairs']}"),
    *_dpo_loss(counts["train_dpo"]),
  ]


def _of_groups(counts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
  made, trained = counts["groups"], counts["train_groups"]
  loss = "not measured (no held-out groups)"
  if trained["loss_before"] is not None:
    loss = f"{trained['loss_before']:.4f} before, {trained['loss_after']:.4f} after"
  return [
    ("groups", f"{made['groups']} with {made['responses']} candidates"),
    ("loss on groups", f"{loss} ({trained['steps']} steps)"),
  ]


def _dpo_loss(dpo: Mapping[str, Any]) -> list[tuple[str, str]]:
  if dpo["loss_before"] is None:
    return [("DPO loss", f"not measured ({dpo['pairs']} pairs, none held out)")]
  return [
    (
      "DPO loss",
      f"{dpo['loss_before']:.4f} before, {dpo['loss_after']:.4f} after"
      f" ({dpo['pairs']} pairs, {dpo['heldout']} held out)",
    ),
    ("reward accuracy", f"{dpo['reward_accuracy']:.2f} on held-out pairs"),
    ("reward margin", f"{dpo['reward_margin']:.4f} on held-out pairs (nats)"),
  ]


def _compared(counts: Mapping[str, Any]) -> list[tuple[str, str]]:
  """The rewards of the systems' videos (counts of the stage evaluate)."""
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
