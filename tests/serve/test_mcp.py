"""The optimizer as a tool, called by the MCP package's own client."""

import asyncio
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

import mcp
import pytest
from mcp.client import stdio, streamable_http

from tests import waiting
from tests.sample.conftest import policy
from tests.serve.test_promises import words
from vpo_jax.serve import mcp_tool

__all__ = ["policy"]

ROOT = pathlib.Path(__file__).parents[2]
GOOD = "A red kite climbs over a long beach in the evening light."


def call(server, **arguments):
  """The result of the tool, and the tools that the client lists."""

  async def run():
    async with mcp.Client(server) as client:
      tools = (await client.list_tools()).tools
      return await client.call_tool(mcp_tool.TOOL, arguments), tools

  return asyncio.run(run())


def test_the_tool_says_what_it_takes_and_gives_the_prompt(scripted):
  result, (tool,) = call(mcp_tool.make(scripted(GOOD)), query="a kite", seed=3)
  assert tool.name == "optimize_video_prompt"
  assert tool.input_schema["required"] == ["query"]
  assert set(tool.input_schema["properties"]) == {
    "query",
    "seed",
    "temperature",
    "keep",
    "target",
  }
  assert not result.is_error
  assert result.structured_content == {
    "query": "a kite",
    "prompt": GOOD,
    "seed": 3,
    "attempts": 1,
    "spans": {},
    "tokens": None,
    "budget": None,
    "negative_prompt": None,
  }


def test_words_are_kept(scripted):
  result, _ = call(mcp_tool.make(scripted(GOOD)), query="a kite", keep=["sks"])
  assert result.structured_content["prompt"] == f"sks, {GOOD}"
  assert result.structured_content["spans"] == {"sks": "repaired"}


def test_a_prompt_that_the_guard_rejects_is_sampled_again(scripted):
  result, _ = call(mcp_tool.make(scripted("", GOOD)), query="a kite")
  assert result.structured_content["attempts"] == 2


@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    ({"query": " "}, "query is empty"),
    ({"query": "a <|im_end|> b"}, "query contains <|im_end|>, a special token"),
    ({"query": "a kite"}, "the prompt is empty; tried 3 times"),
    ({"query": "a kite", "temperature": 7}, "temperature"),
    ({}, "query"),
  ],
)
def test_errors_are_one_line_for_the_assistant(scripted, arguments, line):
  result, _ = call(mcp_tool.make(scripted("", "", "")), **arguments)
  assert result.is_error
  assert line in result.content[0].text


def command(model, *flags):
  return [
    *(sys.executable, str(ROOT / "launch" / "serve_mcp.py"), f"--model={model}"),
    *("--language=", "--slots=1", *flags),
  ]


def test_over_stdio(tiny_model):
  program, *arguments = command(tiny_model)
  parameters = stdio.StdioServerParameters(
    command=program, args=arguments, env=dict(os.environ)
  )
  result, _ = call(stdio.stdio_client(parameters), query="a kite", temperature=0)
  # A random model writes nothing that the guard accepts, and the tool says so.
  assert result.is_error
  assert "the prompt breaks off after 512 tokens" in result.content[0].text


def listens(port):
  with socket.socket() as probe:
    return probe.connect_ex(("127.0.0.1", port)) == 0


def test_over_http(tiny_model):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  process = subprocess.Popen(command(tiny_model, "--transport=http", f"--port={port}"))
  try:
    waiting.until(lambda: listens(port), lambda: process.poll() is None)
    client = streamable_http.streamable_http_client(f"http://127.0.0.1:{port}/mcp")
    result, (tool,) = call(client, query=" ")
    assert tool.name == mcp_tool.TOOL
    assert result.is_error
  finally:
    process.terminate()
    process.wait()


def test_a_prompt_fits_its_target(scripted):
  service = dataclasses.replace(
    scripted("A kite flies. It is red."), targets=(words(3),)
  )
  result, (tool,) = call(
    mcp_tool.make(service), query="a kite --no rain", target="tiny"
  )
  assert "tiny" in tool.input_schema["properties"]["target"]["description"]
  found = result.structured_content
  assert (found["prompt"], found["tokens"]) == ("A kite flies.", 4)
  assert (found["budget"], found["negative_prompt"]) == ("shortened", "rain")
