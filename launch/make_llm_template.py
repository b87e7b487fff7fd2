"""Makes the template of another project's rewriter from your checkout of it.

    python launch/make_llm_template.py --from=cogvideo --checkout=/src/CogVideo \
      --out=cogvideo.json

The file is for `config.llms.KEY.template`; that of prompt-a-video is for
`template=FILE` (docs/baselines.md). Nothing of the checkout is executed. The texts have
their projects' licences.
"""

from absl import flags

from vpo_jax.runtime import app, console

_FROM = flags.DEFINE_enum(
  "from",
  None,
  ["cogvideo", "open-sora", "wan", "hunyuan", "prompt-a-video"],
  "Whose rewriter.",
  required=True,
)
_CHECKOUT = flags.DEFINE_string(
  "checkout", None, "The project's checkout.", required=True
)
_VARIANT = flags.DEFINE_string(
  "variant", "", "wan: en (default) or zh. hunyuan: normal (default) or master."
)
_OUT = flags.DEFINE_string("out", None, "The file to write.", required=True)


def main() -> None:
  import pathlib

  from vpo_jax import files
  from vpo_jax.evaluate.systems import checkout

  folder = pathlib.Path(_CHECKOUT.value)
  found = checkout.read(_FROM.value, folder, _VARIANT.value)
  if isinstance(found, str):
    files.write_text(_OUT.value, found)
    console.say(f"{_OUT.value}: an instruction of {len(found)} characters")
    return
  files.write_json(_OUT.value, found.dump())
  set_there = ", ".join(f"{k}={v}" for k, v in found.dump()["settings"].items())
  console.say(
    f"{_OUT.value}: {len(found.messages(''))} messages, {len(found.system)} characters"
    f" of system message, settings: {set_there or 'none'}"
  )


if __name__ == "__main__":
  app.run(main)
