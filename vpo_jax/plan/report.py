"""A plan as text and as JSON."""

from typing import Any

from vpo_jax.plan import chips, predict

# Examples of the paper's run: 10k for 5 epochs (SFT) and 5k pairs (DPO), appendix 9;
# sampling answers the 10k queries of the DPO half, 4 candidates each. Groups are those
# 10k queries.
RUNS = {"sft": 10_000 * 5, "dpo": 5_000, "train_groups": 10_000, "sample": 10_000}


def lines(stage: str, plan: predict.Prediction, dollars: float | None) -> list[str]:
  """The text report of a plan."""
  gib = chips.GIB
  chip, memory = plan.machine.chip, plan.memory
  report = [
    f"{stage} on {plan.machine.devices} x {chip.name},"
    f" {' '.join(f'{k}={v}' for k, v in plan.about.items())}",
    "memory per device, GiB: "
    + ", ".join(f"{kind} {size / gib:.2f}" for kind, size in memory.items())
    + f"; capacity {plan.capacity / gib:.2f}",
  ]
  over = memory["peak"] - plan.capacity
  report.append("fits" if plan.fits else f"does not fit: {over / gib:.2f} GiB too much")
  if not plan.seconds:
    return report
  run = plan.run(RUNS[stage], dollars)
  report += [
    f"per device and step: {plan.flops / 1e12:.2f} TFLOP, {plan.bytes / 1e9:.1f} GB of"
    " memory traffic, sends "
    + (", ".join(f"{v / 1e9:.2f} GB {k}" for k, v in plan.sent.items()) or "nothing"),
    "seconds per step, each resource at its peak rate: "
    + ", ".join(f"{name} {value:.4f}" for name, value in plan.seconds.items()),
    f"bound by {plan.binds}: {plan.step_seconds:.4f} s per step"
    f" ({plan.serial_seconds:.4f} if nothing overlaps),"
    f" {plan.examples_per_second:.2f} examples/s, MFU {plan.mfu:.1%}",
    f"the paper's run, {run['examples']} examples: {run['hours']:.3f} h"
    + (f", ${run['dollars']:.2f}" if "dollars" in run else ""),
  ]
  if chip.node:
    report.append(
      "GPU figures are a model: XLA's CPU compiler partitions the step for as many host"
      " devices. Its products and transfers are those of the step; temporaries are the"
      " CPU's; memory traffic covers only products and the update of the weights"
    )
  return report


def json(
  stage: str, plan: predict.Prediction, dollars: float | None, change: Any
) -> dict[str, Any]:
  """The plan for a JSON file; `change` is the config change that made it fit."""
  report = {"stage": stage, **plan.json()}
  if plan.seconds:
    report["paper_run"] = plan.run(RUNS[stage], dollars)
  if change is not None:
    report["fits_with"] = change
  return report
