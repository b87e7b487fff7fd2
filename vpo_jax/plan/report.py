"""A plan in words and in JSON."""

from typing import Any

from vpo_jax.plan import chips, predict

# The paper's run: 10k SFT examples for 5 epochs, 5k pairs once (appendix 9); 4
# candidates for each of the 10k queries of the DPO half.
RUNS = {"sft": 10_000 * 5, "dpo": 5_000, "sample": 10_000}


def lines(stage: str, plan: predict.Prediction, dollars: float | None) -> list[str]:
  """What a person reads of a plan."""
  gib = chips.GIB
  chip, memory = plan.machine.chip, plan.memory
  shown = [
    f"{stage} on {plan.machine.devices} x {chip.name},"
    f" {' '.join(f'{k}={v}' for k, v in plan.about.items())}",
    "memory of a device, GiB: "
    + ", ".join(f"{kind} {size / gib:.2f}" for kind, size in memory.items())
    + f"; it has {plan.capacity / gib:.2f}",
  ]
  over = memory["peak"] - plan.capacity
  shown.append("fits" if plan.fits else f"does not fit: {over / gib:.2f} GiB too much")
  if not plan.seconds:
    return shown
  run = plan.run(RUNS[stage], dollars)
  shown += [
    f"a device and step: {plan.flops / 1e12:.2f} TFLOP, {plan.bytes / 1e9:.1f} GB of"
    " memory traffic, sends "
    + (", ".join(f"{v / 1e9:.2f} GB {k}" for k, v in plan.sent.items()) or "nothing"),
    "seconds a step, each resource at its full rate: "
    + ", ".join(f"{name} {value:.4f}" for name, value in plan.seconds.items()),
    f"bound by {plan.binds}: {plan.step_seconds:.4f} s a step"
    f" ({plan.serial_seconds:.4f} if nothing overlaps),"
    f" {plan.examples_per_second:.2f} examples/s, MFU {plan.mfu:.1%}",
    f"the paper's run, {run['examples']} examples: {run['hours']:.3f} h"
    + (f", ${run['dollars']:.2f}" if "dollars" in run else ""),
  ]
  if chip.node:
    shown.append(
      "a model: partitioned for as many host devices by XLA's CPU compiler, whose"
      " temporaries are not a GPU's; products and transfers are the step's, memory"
      " traffic is that of products and of the pass over the weights"
    )
  return shown


def json(
  stage: str, plan: predict.Prediction, dollars: float | None, change: Any
) -> dict[str, Any]:
  made = {"stage": stage, **plan.json()}
  if plan.seconds:
    made["paper_run"] = plan.run(RUNS[stage], dollars)
  if change is not None:
    made["fits_with"] = change
  return made
