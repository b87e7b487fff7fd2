"""Writes queries or SFT examples as ArrayRecord shards, by TFDS without TensorFlow.

    python launch/to_array_record.py --input=VidProM_semantic_unique.csv --workdir=data
    python launch/to_array_record.py --kind=sft \
      --input=runs/mine/build_sft/sft.jsonl --workdir=data

The folder that it names at the end is read with as_data_source(split="train"), and can
be config.input of the stage curate.
"""

from absl import flags

from vpo_jax.runtime import app, console

_KIND = flags.DEFINE_enum("kind", "queries", ("queries", "sft"), "What the rows are.")
_INPUT = flags.DEFINE_string(
  "input", None, "Queries in any form, or sft.jsonl.", required=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "TFDS's data_dir: a folder or a bucket.", required=True
)


def main() -> None:
  from vpo_jax.curate import arrays  # TFDS takes a second to import.

  rows = arrays.VidProM if _KIND.value == "queries" else arrays.SftExamples
  console.say(str(arrays.build(rows, _INPUT.value, _WORKDIR.value)))


if __name__ == "__main__":
  app.run(main)
