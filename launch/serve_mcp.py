r"""Offers the optimizer as a tool of the Model Context Protocol (MCP).

    python launch/serve_mcp.py --model=runs/mine/vpo
    python launch/serve_mcp.py --model=runs/mine/vpo --transport=http --port=8000

The tool is `optimize_video_prompt`, with a query, a seed, a temperature, words to keep
and a target. Assistants and editors start the first command themselves
(docs/serving.md).
"""

from absl import flags

from vpo_jax import errors
from vpo_jax.runtime import app, compilation, console

_MODEL = flags.DEFINE_string(
  "model", None, "Model directory, hub id, or smollm2-135m-instruct.", required=True
)
_TRANSPORT = flags.DEFINE_enum(
  "transport", "stdio", ["stdio", "http"], "How clients are connected."
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on, with http.")
_PORT = flags.DEFINE_integer("port", 8000, "Port to listen on, with http.")
_PRECISION = flags.DEFINE_string("precision", "float32", "float32, bfloat16 or int8.")
_INSTRUCTION = flags.DEFINE_string(
  "instruction", "", "Template file; default: the model's."
)
_LANGUAGE = flags.DEFINE_string(
  "language", "en", "Language required of the prompts; '' allows any."
)
_TARGETS = flags.DEFINE_list(
  "targets",
  [],
  "Video models that a call may name: names of profiles, or JSON files.",
)
_SLOTS = flags.DEFINE_integer("slots", 4, "Prompts written at once.")


def main() -> None:
  if _SLOTS.value < 1:
    raise errors.UserError(f"--slots={_SLOTS.value}: must be at least 1")
  try:
    from vpo_jax.serve import engine, limits, mcp_tool, metrics, service
    from vpo_jax.serve import server as http_server
  except ImportError as error:
    raise errors.UserError(
      f"{error.name} is not installed: pip install -e '.[mcp]'"
    ) from error
  from vpo_jax.promises import targets
  from vpo_jax.sample import lm

  read = tuple(targets.load(name) for name in _TARGETS.value)
  if _TRANSPORT.value == "http":  # one line if the address is taken
    http_server.bind(_HOST.value, _PORT.value).close()
  compilation.enable_cache()
  model = lm.load(
    _MODEL.value, precision=_PRECISION.value, instruction=_INSTRUCTION.value
  )
  running = engine.Engine(model, slots=_SLOTS.value, queue_size=4 * _SLOTS.value)
  server = mcp_tool.make(
    service.Service(
      model,
      running,
      limits.Limits(),
      metrics.Metrics(running),
      _LANGUAGE.value,
      targets=read,
    )
  )
  if _TRANSPORT.value == "stdio":
    server.run("stdio")
  else:
    console.say(f"serving MCP on http://{_HOST.value}:{_PORT.value}/mcp")
    server.run("streamable-http", host=_HOST.value, port=_PORT.value)


if __name__ == "__main__":
  app.run(main)
