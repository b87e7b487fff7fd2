"""Reads other projects' rewriters from a checkout, without executing it.

The texts belong to those projects and have licences of their own, so none of them is
part of this package. Python source is parsed; string constants and the settings of the
call are taken from it.
"""

import ast
import pathlib
from collections.abc import Callable

from vpo_jax import errors
from vpo_jax.evaluate.systems import message_template, python_source

VARIANTS = {
  "cogvideo": ("",),
  "open-sora": ("",),
  "wan": ("en", "zh"),
  "hunyuan": ("normal", "master"),
  "prompt-a-video": ("",),
}


def read(
  source: str, checkout: pathlib.Path, variant: str = ""
) -> message_template.Template | str:
  """The rewriter in a checkout of one of `VARIANTS`.

  Args:
    variant: one of the source's variants; "" is the first.

  Returns: a message template; of Prompt-A-Video the text of an instruction file.

  Raises:
    UserError: the variant is unknown, or the checkout has not the expected files and
      constants.
  """
  known = VARIANTS[source]
  if variant not in ("", *known):
    raise errors.UserError(
      f"--variant={variant}: {source} has {' and '.join(known).strip() or 'none'}"
    )
  if not checkout.is_dir():
    raise errors.UserError(f"--checkout={checkout}: no such folder")
  return _READ[source](checkout, variant or known[0])


def _cogvideo(checkout: pathlib.Path, variant: str) -> message_template.Template:
  del variant
  return _few_shot(checkout / "inference" / "convert_demo.py")


def _open_sora(checkout: pathlib.Path, variant: str) -> message_template.Template:
  """Open-Sora 2, or 1.2 (the paper's) if the checkout is of that version."""
  del variant
  newer = checkout / "opensora" / "utils" / "prompt_refine.py"
  if newer.exists():
    return _few_shot(newer)
  path = checkout / "opensora" / "utils" / "inference_utils.py"
  text = python_source.Source(path).constant("REFINE_PROMPTS_TEMPLATE")
  examples = python_source.read(
    checkout / "assets" / "texts" / "t2v_pllava.txt"
  ).splitlines()
  if text.count("{}") != 1:
    raise errors.UserError(f"{path}: REFINE_PROMPTS_TEMPLATE has no place for examples")
  return message_template.Template(
    user=message_template.QUERY,
    system=text.replace("{}", "\n".join(line.strip() for line in examples)),
    # The API's defaults, because the call names none.
    settings=message_template.Settings(temperature=1.0, top_p=1.0),
    empty="query",
  )


def _few_shot(path: pathlib.Path) -> message_template.Template:
  """A system message, examples and the query; no choices mean the query itself."""
  messages, settings = python_source.Source(path).chat("sys_prompt_t2v")
  texts = [one["content"] for one in messages]
  pairs = zip(texts[1:-1:2], texts[2:-1:2], strict=True)
  return message_template.Template(
    user=_checked(path, texts[-1]),
    system=texts[0],
    examples=tuple(message_template.Example(*pair) for pair in pairs),
    settings=message_template.Settings(**settings),
    empty="query",
  )


def _wan(checkout: pathlib.Path, variant: str) -> message_template.Template:
  """Wan 2.2, or 2.1, which has the texts next to the code."""
  folder = checkout / "wan" / "utils"
  code = python_source.Source(folder / "prompt_extend.py")
  if (folder / "system_prompt.py").exists():
    texts = python_source.Source(folder / "system_prompt.py")
    system = texts.constant(f"T2V_A14B_{variant.upper()}_SYS_PROMPT")
  else:
    system = code.constant(f"LM_{variant.upper()}_SYS_PROMPT")
  limit = code.number("max_new_tokens")
  return message_template.Template(
    user=message_template.QUERY,
    system=system,
    settings=message_template.Settings(
      # Defaults of Qwen2.5-Instruct, which Wan's local path does not change.
      temperature=0.7,
      top_p=0.8,
      max_tokens=limit,
    ),
    empty="query",
  )


def _hunyuan(checkout: pathlib.Path, variant: str) -> message_template.Template:
  """HunyuanVideo, or HunyuanVideo-1.5, which has one text for all LLMs."""
  newer = checkout / "hyvideo" / "utils" / "rewrite"
  if newer.exists():
    clients = python_source.Source(newer / "clients.py")
    return message_template.Template(
      user=message_template.QUERY,
      system=python_source.Source(newer / "t2v_prompt.py").constant(
        "t2v_rewrite_system_prompt"
      ),
      settings=message_template.Settings(
        **clients.defaults("QwenClient", "run_single_recaption")
      ),
    )
  path = checkout / "hyvideo" / "prompt_rewrite.py"
  text = python_source.Source(path).constant(f"{variant}_mode_prompt")
  user = text.replace("{input}", message_template.QUERY)
  return message_template.Template(user=_checked(path, user))


def _prompt_a_video(checkout: pathlib.Path, variant: str) -> str:
  """The user's turn: task, query, and "New prompt:"."""
  del variant
  source = python_source.Source(
    checkout / "booster" / "inference" / "inference_chat.py"
  )
  task = source.constant("TASK_PROMPT")
  for node in ast.walk(source.tree):
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
      text = python_source.string(node.value, source.names, message_template.QUERY)
      if text and text.startswith(task) and text != task:
        return _checked(source.path, text)
  raise errors.UserError(
    f"{source.path}: no message is made of TASK_PROMPT and the query; use the version"
    " of the checkout that docs/baselines.md names"
  )


_READ: dict[str, Callable[[pathlib.Path, str], message_template.Template | str]] = {
  "cogvideo": _cogvideo,
  "open-sora": _open_sora,
  "wan": _wan,
  "hunyuan": _hunyuan,
  "prompt-a-video": _prompt_a_video,
}


def _checked(path: pathlib.Path, user: str) -> str:
  """A user's turn that has a place for the query, once."""
  if user.count(message_template.QUERY) != 1:
    raise errors.UserError(f"{path}: the user's turn has no place for the query")
  return user
