"""What is read from a compiled program is what it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vpo_jax.plan import count, groups, hlo, products, trips


def text(function, *arguments):
  return jax.jit(function).lower(*arguments).compile().as_text()


def f32(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_product_is_two_for_each_multiply():
  cost = count.cost(text(lambda x, w: x @ w, f32(64, 96), f32(96, 160)))
  assert cost.flops == 2 * 64 * 96 * 160
  assert cost.bytes >= 4 * (64 * 96 + 96 * 160 + 64 * 160)


def test_a_loop_counts_as_often_as_it_runs_and_reads_a_layer_at_a_time():
  def layers(x, ws):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0]

  cost = count.cost(text(layers, f32(16, 128), f32(20, 128, 128)))
  assert cost.flops == 20 * 2 * 16 * 128 * 128
  weights = 20 * 4 * 128 * 128
  # If all layers were read at each turn, the weights alone would be 20 times that.
  assert weights < cost.bytes < 6 * weights


def test_a_loop_that_is_told_its_turns_takes_them_from_the_caller():
  def sums(x, count):
    return jax.lax.fori_loop(0, count, lambda _, x: jnp.tanh(x @ x), x)

  program = text(sums, f32(64, 64), jax.ShapeDtypeStruct((), jnp.int32))
  assert count.cost(program, loops=5).flops == 5 * 2 * 64**3


@pytest.mark.parametrize("devices", [2, 8])
def test_what_devices_send_is_told_by_kind(devices):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("d",))

  def array(spec):
    where = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=where)

  split, whole = PartitionSpec("d", None), NamedSharding(mesh, PartitionSpec())
  gather = jax.jit(lambda x: x, out_shardings=whole).lower(array(split))
  size = 4 * 512 * 512
  sent = count.cost(gather.compile().as_text()).collectives
  assert sent == {("all-gather", devices, devices): size * (devices - 1) / devices}
  rows, columns = array(PartitionSpec(None, "d")), array(PartitionSpec("d", None))
  reduce = jax.jit(lambda x, w: x @ w, out_shardings=whole).lower(rows, columns)
  cost = count.cost(reduce.compile().as_text())
  assert cost.collectives == {
    ("all-reduce", devices, devices): 2 * size * (devices - 1) / devices
  }
  assert cost.flops == 2 * 512**3 / devices


@pytest.mark.parametrize(
  ("text", "group", "beside"),
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
def test_a_group_is_who_shares_it_and_how_many_are_neighbours(text, group, beside):
  found = groups.members(text, 32)
  assert found == tuple(group)
  assert groups.beside(found) == beside


def test_splits_of_a_mesh_are_the_groups_of_its_axes():
  """Of 2 x 4 devices; what XLA writes of a sum over the outer axis."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))
  where = NamedSharding(mesh, PartitionSpec("a", "b"))
  array = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=where)
  over = NamedSharding(mesh, PartitionSpec("b"))
  compiled = jax.jit(lambda x: x.sum(0), out_shardings=over).lower(array).compile()
  line = next(x for x in compiled.as_text().splitlines() if "all-reduce(" in x)
  assert groups.members(line, 8) == (0, 4)


# As libtpu writes them: a product, and one with a batch axis that is a window.
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


def test_a_tpus_convolutions_are_products():
  cost = count.cost(TPU)
  assert cost.flops == 2 * 128 * 64 * 32 + 6 * 2 * 16 * 8 * 4
  assert cost.collectives == {("reduce-scatter", 2, 2): 4 * 128 * 32 / 2}


# A loop as libtpu writes it, without the number of its turns: here from 0, by 2, to a
# bound that the loop is given; S(1) is a chip's own memory.
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


# An all-gather that goes on behind a product: it stands in both fusions, and is one.
BEHIND = """HloModule jit_f, is_scheduled=true, num_partitions=4

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


def test_a_collective_behind_products_is_one():
  cost = count.cost(BEHIND)
  assert cost.collectives == {("all-gather", 4, 4): 3 * 2 * 32 * 64}
  # The gathered array is written once, by the first; the second moves x and y.
  assert cost.bytes == 2 * 128 * 64 + 2 * 4 * 16 * 8


def test_a_tpus_loops_are_read_and_memory_of_the_chip_itself_costs_nothing():
  fixed, given = (LOOP.replace("BOUND", b) for b in ("constant(7)", "copy(%n)"))
  assert trips.count(*loop_of(fixed)) == 4
  cost = count.cost(fixed)
  array, number = 4 * 8 * 128, 4
  # A turn reads x, a row of it once more, and writes y; the sum reads its number.
  assert cost.bytes == 4 * (2.125 * array + number) + 2 * number  # and one copy before
  assert trips.count(*loop_of(given)) is None
  assert count.cost(given, loops=3).bytes == 3 * (2.125 * array + number) + 4 * number


def loop_of(program):
  computations, entry = hlo.read(program)
  return computations, computations[entry], computations[entry]["w"]


def test_shapes_take_the_bytes_of_their_bits():
  assert hlo._bytes(("bf16", (3, 5))) == 30
  assert hlo._bytes(("pred", (7,))) == 7
  assert hlo._bytes(("s4", (3,))) == 2
  assert hlo._bytes(("f8e4m3fn", (4,))) == 4


def test_valid_places_of_a_window():
  # A padded one: 5 inputs, window of 3, same size out: the edges see two.
  assert products.valid(5, 5, size="3", pad="1_1") == 13
  np.testing.assert_equal(products.valid(6, 6, size="6", stride="5", lhs_dilate="6"), 6)
