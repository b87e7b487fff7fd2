"""Writes queries or SFT examples as ArrayRecord shards, with TFDS but not TensorFlow.

    python launch/to_array_record.py --input=VidProM_semantic_unique.csv --workdir=data
    python launch/to_array_record.py --kind=sft \
      --input=runs/mine/build_sft/sft.jsonl --workdir=data

It prints the dataset's folder. TFDS reads it with as_data_source(split="train"), and
the stage `curate` accepts it as config.queries.
"""

from absl import flags

from vpo_jax.runtime import app, console

_KIND = flags.DEFINE_enum("kind", "queries", ("queries", "sft"), "Type of the rows.")
_INPUT = flags.DEFINE_string(
  "input",
  None,
  "A file of queries (see vpo_jax/queries.py), or sft.jsonl.",
  required=True,
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "TFDS data_dir: a folder on a local disk.", required=True
)


def main() -> None:
  from vpo_jax.curate import arrays  # TFDS takes a second to import.

  rows = arrays.VidProM if _KIND.value == "queries" else arrays.SftExamples
  console.say(str(arrays.build(rows, _INPUT.value, _WORKDIR.value)))


if __name__ == "__main__":
  app.run(main)
