"""The work counted in a compiled program equals the work it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vpo_jax.plan import groups, hlo, hlo_cost, loops, products


def hlo_text(function, *arguments):
  return jax.jit(function).lower(*arguments).compile().as_text()


def f32(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_multiply_add_is_two_flops():
  cost = hlo_cost.analyze(hlo_text(lambda x, w: x @ w, f32(64, 96), f32(96, 160)))
  assert cost.flops == 2 * 64 * 96 * 160
  assert cost.bytes >= 4 * (64 * 96 + 96 * 160 + 64 * 160)


def test_a_scan_counts_each_iteration_and_reads_one_layer_in_each():
  def layers(x, ws):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0]

  cost = hlo_cost.analyze(hlo_text(layers, f32(16, 128), f32(20, 128, 128)))
  assert cost.flops == 20 * 2 * 16 * 128 * 128
  weights = 20 * 4 * 128 * 128
  # Reading all layers in each iteration would be 20 times the weights.
  assert weights < cost.bytes < 6 * weights


def test_a_trip_count_that_is_an_input_is_taken_from_the_caller():
  def repeat(x, trips):
    return jax.lax.fori_loop(0, trips, lambda _, x: jnp.tanh(x @ x), x)

  program = hlo_text(repeat, f32(64, 64), jax.ShapeDtypeStruct((), jnp.int32))
  assert hlo_cost.analyze(program, trips=5).flops == 5 * 2 * 64**3


@pytest.mark.parametrize("devices", [2, 8])
def test_collectives_are_counted_by_kind(devices):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("d",))

  def array(*spec):
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=sharding)

  replicated = NamedSharding(mesh, PartitionSpec())
  gather = jax.jit(lambda x: x, out_shardings=replicated).lower(array("d", None))
  size = 4 * 512 * 512
  sent = hlo_cost.analyze(gather.compile().as_text()).collectives
  assert sent == {("all-gather", devices, devices): size * (devices - 1) / devices}
  matmul = jax.jit(lambda x, w: x @ w, out_shardings=replicated)
  reduce = matmul.lower(array(None, "d"), array("d", None))
  cost = hlo_cost.analyze(reduce.compile().as_text())
  assert cost.collectives == {
    ("all-reduce", devices, devices): 2 * size * (devices - 1) / devices
  }
  assert cost.flops == 2 * 512**3 / devices


@pytest.mark.parametrize(
  ("text", "group", "per_node"),
  [
    ("replica_groups={{0,8},{1,9}}, dimensions={0}", (0, 8), 1),
    ("replica_groups=[4,8]<=[32], to_apply=%add", range(8), 8),
    ("replica_groups=[8,4]<=[4,8]T(1,0), to_apply=%add", (0, 8, 16, 24), 1),
    ("replica_groups=mesh['a'=16,'b'=2] {'a'}, dimensions={1}", range(0, 32, 2), 4),
    ("replica_groups=mesh['a'=8,'b'=4], device_ids=([4,8]T(1,0)) {'a'}", range(8), 8),
    ("replica_groups=mesh['a'=2,'b'=16] {'a','b':(1)4}", range(0, 32, 4), 2),
    ("replica_groups=mesh['a'=2,'b'=16] {'b':(4)4}", range(4), 4),
    ("source_target_pairs={{0,1},{1,2},{7,8},{31,0}}", (31, 0), 1),
    ("channel_id=3, use_global_device_ids=true", range(32), 8),
  ],
)  # fmt: skip
def test_groups_are_parsed_in_every_notation(text, group, per_node):
  members = groups.members(text, 32)
  assert members == tuple(group)
  assert groups.per_node(members) == per_node


def test_a_sum_over_a_mesh_axis_has_the_groups_of_that_axis():
  mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))
  sharding = NamedSharding(mesh, PartitionSpec("a", "b"))
  array = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=sharding)
  over = NamedSharding(mesh, PartitionSpec("b"))
  compiled = jax.jit(lambda x: x.sum(0), out_shardings=over).lower(array).compile()
  line = next(x for x in compiled.as_text().splitlines() if "all-reduce(" in x)
  assert groups.members(line, 8) == (0, 4)


# From libtpu: a product, and a product whose batch axis is a window.
TPU = """HloModule jit_f, is_scheduled=true, num_partitions=4

%fused (p.0: bf16[128,64], p.1: bf16[64,32]) -> f32[128,32] {
  %p.0 = bf16[128,64]{1,0:T(8,128)(2,1)} parameter(0)
  %p.1 = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c = f32[128,32]{1,0:T(8,128)} convolution(%p.0, %p.1), dim_labels=bf_io->bf
}

ENTRY %main (a: bf16[128,64], b: bf16[64,32], x: f32[6,16,8], y: f32[6,8,4]) -> f32[1] {
  %a = bf16[128,64]{1,0} parameter(0)
  %b = bf16[64,32]{1,0} parameter(1)
  %x = f32[6,16,8]{2,1,0} parameter(2)
  %y = f32[6,8,4]{2,1,0} parameter(3)
  %fusion = f32[128,32]{1,0} fusion(%a, %b), kind=kOutput, calls=%fused
  %d = f32[6,16,4]{2,1,0} convolution(%x, %y), window={size=6 stride=5 pad=0_0 \
lhs_dilate=6}, dim_labels=0bf_0io->0bf
  %r = f32[32,32]{1,0} reduce-scatter(%fusion), replica_groups=[2,2]<=[4], \
dimensions={0}, to_apply=%add
  ROOT %one = f32[1]{0} constant({1})
}
""".replace("\\\n", "")


def test_convolutions_of_a_tpu_are_products():
  cost = hlo_cost.analyze(TPU)
  assert cost.flops == 2 * 128 * 64 * 32 + 6 * 2 * 16 * 8 * 4
  assert cost.collectives == {("reduce-scatter", 2, 2): 4 * 128 * 32 / 2}


# From libtpu: a loop without a trip count, here from 0 by 2 to a bound in its tuple.
# S(1) is on-chip memory.
LOOP = """HloModule jit_f, is_scheduled=true, num_partitions=1

%turn (p: (s32[], f32[8,128], s32[])) -> (s32[], f32[8,128], s32[]) {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %end = s32[]{:T(128)} get-tuple-element(%p), index=2
  %two = s32[]{:T(128)S(6)} constant(2)
  %part = (f32[8,128]{1,0:T(8,128)}, f32[1,128]{1,0:T(8,128)S(1)}, s32[]{:T(128)}) \
slice-start(%x), slice={[0:1], [0:128]}
  %part.1 = f32[1,128]{1,0:T(8,128)S(1)} slice-done(%part)
  %near = f32[8,128]{1,0:T(8,128)S(1)} negate(%x)
  %y = f32[8,128]{1,0:T(8,128)} negate(%near)
  %next = s32[]{:T(128)S(6)} add(%i, %two)
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) \
tuple(%next, %y, %end)
}

%more (p.1: (s32[], f32[8,128], s32[])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %end.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=2
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %end.1), direction=LT
}

ENTRY %main (x.2: f32[8,128], n: s32[]) -> (s32[], f32[8,128], s32[]) {
  %x.2 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %n = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %end.2 = s32[]{:T(128)} BOUND
  %begin = s32[]{:T(128)} copy(%zero)
  %given = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) \
tuple(%begin, %x.2, %end.2)
  ROOT %w = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) \
while(%given), condition=%more, body=%turn
}
""".replace("\\\n", "")


# From libtpu: an all-gather that overlaps a product appears in both fusions.
OVERLAP = """HloModule jit_f, is_scheduled=true, num_partitions=4

%begins (p.0: bf16[32,64]) -> (bf16[32,64], bf16[128,64]) {
  %p.0 = bf16[32,64]{1,0} parameter(0)
  %g.0 = bf16[128,64]{1,0} all-gather(%p.0), channel_id=7, replica_groups=[1,4]<=[4], \
dimensions={0}
  ROOT %t.0 = (bf16[32,64]{1,0}, bf16[128,64]{1,0}) tuple(%p.0, %g.0)
}

%goes_on (p.1: bf16[32,64], p.2: bf16[128,64], x: f32[16,8]) -> (f32[16,8]) {
  %p.1 = bf16[32,64]{1,0} parameter(0)
  %p.2 = bf16[128,64]{1,0} parameter(1)
  %x = f32[16,8]{1,0} parameter(2)
  %y = f32[16,8]{1,0} negate(%x)
  %g.1 = bf16[128,64]{1,0} all-gather(%p.1), channel_id=7, replica_groups=[1,4]<=[4], \
dimensions={0}
  ROOT %t.1 = (f32[16,8], bf16[32,64], bf16[128,64]) tuple(%y, %p.1, %g.1)
}

ENTRY %main (a: bf16[32,64], b: f32[16,8]) -> f32[16,8] {
  %a = bf16[32,64]{1,0} parameter(0)
  %b = f32[16,8]{1,0} parameter(1)
  %s = (bf16[32,64]{1,0}, bf16[128,64]{1,0}) fusion(%a), kind=kCustom, \
output_to_operand_aliasing={{0}: (0, {})}, calls=%begins
  %s.0 = bf16[32,64]{1,0} get-tuple-element(%s), index=0
  %s.1 = bf16[128,64]{1,0} get-tuple-element(%s), index=1
  %f = (f32[16,8]{1,0}, bf16[32,64]{1,0}, bf16[128,64]{1,0}) fusion(%s.0, %s.1, %b), \
kind=kOutput, output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {})}, calls=%goes_on
  ROOT %y.1 = f32[16,8]{1,0} get-tuple-element(%f), index=0
}
""".replace("\\\n", "")


def test_a_collective_that_overlaps_products_counts_once():
  cost = hlo_cost.analyze(OVERLAP)
  assert cost.collectives == {("all-gather", 4, 4): 3 * 2 * 32 * 64}
  # The first fusion writes the gathered array; the second moves x and y.
  assert cost.bytes == 2 * 128 * 64 + 2 * 4 * 16 * 8


def test_trip_counts_of_a_tpu_are_derived_and_on_chip_memory_is_free():
  fixed, variable = (LOOP.replace("BOUND", b) for b in ("constant(7)", "copy(%n)"))
  assert loops.trip_count(*loop_of(fixed)) == 4
  cost = hlo_cost.analyze(fixed)
  array, number = 4 * 8 * 128, 4
  # An iteration reads x, one of its rows again, and writes y; the sum reads a scalar.
  assert (
    cost.bytes == 4 * (2.125 * array + number) + 2 * number
  )  # and a copy before the loop
  assert loops.trip_count(*loop_of(variable)) is None
  assert (
    hlo_cost.analyze(variable, trips=3).bytes
    == 3 * (2.125 * array + number) + 4 * number
  )


def loop_of(program):
  computations, entry = hlo.read(program)
  return computations, computations[entry], computations[entry]["w"]


def test_array_bytes_follow_from_the_element_type():
  assert hlo.array_bytes("bf16", (3, 5)) == 30
  assert hlo.array_bytes("pred", (7,)) == 7
  assert hlo.array_bytes("s4", (3,)) == 2
  assert hlo.array_bytes("f8e4m3fn", (4,)) == 4


def test_valid_positions_of_a_window():
  # 5 inputs, 5 outputs, a window of 3 with padding: the two edges read 2 inputs.
  assert products.valid_positions(5, 5, size="3", pad="1_1") == 13
  window = {"size": "6", "stride": "5", "lhs_dilate": "6"}  # a batch axis
  assert products.valid_positions(6, 6, **window) == 6


def test_a_kernel_counts_what_it_states():
  """A TPU's program has a Pallas kernel as a custom call without products."""
  text = """HloModule step

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  ROOT %k = f32[8,128]{1,0} custom-call(%a), custom_call_target="tpu_custom_call", \
backend_config={"custom_call_config":{"cost_estimate":{"flops":"77309411328",\
"transcendentals":"301989888","bytes_accessed":"86507520"}}}
}
"""
  cost = hlo_cost.analyze(text)
  assert (cost.flops, cost.bytes) == (77309411328, 86507520)


def test_a_conditional_counts_its_most_expensive_branch():
  def either(choice, x, w):
    branches = (lambda: x, lambda: x @ w, lambda: (x @ w) @ w)
    return jax.lax.switch(choice, branches)

  text = hlo_text(either, jax.ShapeDtypeStruct((), jnp.int32), f32(8, 96), f32(96, 96))
  assert hlo_cost.analyze(text).flops == 2 * (2 * 8 * 96 * 96)


def test_a_loop_on_data_inside_the_steps_counts_once_in_each():
  def steps(x, w, count):
    def step(state):
      i, x = state
      x = jax.lax.while_loop(lambda x: jnp.sum(x) > 1, lambda x: x @ w, x)
      return i + 1, x

    return jax.lax.while_loop(lambda state: state[0] < count, step, (0, x))[1]

  text = hlo_text(steps, f32(8, 96), f32(96, 96), jax.ShapeDtypeStruct((), jnp.int32))
  assert hlo_cost.analyze(text, trips=5).flops == 5 * 2 * 8 * 96 * 96
