"""A trained model as a Hugging Face directory: weights, config, tokenizer, template."""

from collections.abc import Callable, Mapping

from etils import epath

from vpo_jax import errors, files, json_input
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import families, table, weights
from vpo_jax.runtime import processes

CONFIG = "config.json"

# The instruction template that the model was trained with (`templates.of_model`).
INSTRUCTION = "instruction.txt"
# Files copied from the base model, if it has them.
COMPANIONS = (
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
  INSTRUCTION,
)


def is_complete(folder: epath.PathLike) -> bool:
  """Whether `save_model` has finished here: it writes `config.json` last."""
  return (epath.Path(folder) / CONFIG).exists()


def save_model(
  folder: epath.PathLike,
  params: table.Params,
  config: decoder_config.DecoderConfig,
  base_folder: epath.PathLike,
  dtype: str = "float32",
  extra: Mapping[str, bytes] | None = None,
) -> None:
  """Writes a directory that `transformers.AutoModelForCausalLM` loads.

  Args:
    folder: created if missing; a model in it is replaced.
    params: on any mesh. If the mesh spans processes, all must call this; the first
      one writes.
    config: of the model.
    base_folder: the model's origin, from which config, tokenizer and chat template are
      copied. Must not be `folder`.
    dtype: type of the tensors in the file.
    extra: contents of further files by name; they override the base's.

  Raises:
    UserError: `base_folder` has no config.json, or is `folder`.
  """

  def write(folder: epath.Path) -> None:
    weights.save(folder, params, config, dtype)

  _save(epath.Path(folder), epath.Path(base_folder), dtype, extra or {}, write)


def convert_model(
  folder: epath.PathLike,
  config: decoder_config.DecoderConfig,
  base_folder: epath.PathLike,
  dtype: str = "float32",
  extra: Mapping[str, bytes] | None = None,
) -> None:
  """Copies the model of `base_folder`, with tensors of another type.

  Needs no accelerator, and memory for only one block of a tensor.

  Args: as in `save_model`.

  Raises:
    UserError: as `save_model`, or the base's weights are not those of its config.
  """

  def write(folder: epath.Path) -> None:
    if processes.first():
      weights.convert(folder, base_folder, config, dtype)

  _save(epath.Path(folder), epath.Path(base_folder), dtype, extra or {}, write)


def _save(
  folder: epath.Path,
  base: epath.Path,
  dtype: str,
  extra: Mapping[str, bytes],
  write: Callable[[epath.Path], None],
) -> None:
  if folder == base:
    raise errors.UserError(
      f"{folder}: cannot write a model over its own base; choose another folder"
    )
  if not is_complete(base):
    raise errors.UserError(f"{base}: no {CONFIG}; is it a model directory?")
  if processes.first():
    _clear(folder)
  write(folder)
  if not processes.first():
    return
  for name, content in (companions(base) | dict(extra)).items():
    publish(folder / name, content)
  hf = json_input.value(base / CONFIG)
  hf = families.of(hf, str(base / CONFIG)).text_config(hf)
  hf.pop("torch_dtype", None)  # transformers 4's name for the next key
  files.write_json(folder / CONFIG, hf | {"dtype": dtype})


def _clear(folder: epath.Path) -> None:
  """Removes an earlier model: its config first, then weights and their index."""
  if not folder.exists():
    return
  (folder / CONFIG).unlink(missing_ok=True)
  for path in folder.iterdir():
    if path.name == weights.INDEX or path.name.endswith(".safetensors"):
      path.unlink()


def companions(folder: epath.Path) -> dict[str, bytes]:
  """Contents of those `COMPANIONS` that a directory has, by name."""
  paths = [folder / name for name in COMPANIONS]
  return {path.name: path.read_bytes() for path in paths if path.exists()}


def publish(path: epath.Path, content: bytes) -> None:
  """Writes a file atomically."""
  with files.publish(path, "wb") as file:
    file.write(content)
