"""Predicts memory, time and cost of a step on machines that you do not have.

- `program` lowers the project's own step for a mesh, from shapes alone; `worker`
  compiles it in a subprocess; `compile_cache` caches the result.
- `hlo` parses the compiled program's text; `hlo_cost` counts its FLOPs, memory traffic
  and transfers (with `products`, `traffic`, `loops` and `groups`).
- `chips` has the rates of machines; `predict` combines both; `fit` searches for a
  config that fits in memory; `sweep` compares meshes and numbers of chips.
- `devices` runs the step on the devices of this machine.
"""
