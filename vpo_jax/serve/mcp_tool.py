"""The optimizer as a tool of the Model Context Protocol, for assistants and editors."""

from typing import Annotated

import pydantic
from mcp.server import mcpserver
from mcp.server.mcpserver import exceptions

from vpo_jax.serve import api_errors, optimize_route, protocol
from vpo_jax.serve import service as services

TOOL = "optimize_video_prompt"


class Result(pydantic.BaseModel):
  """The tool's answer.

  Attributes:
    prompt: for the text-to-video model.
    seed: with the same one, the same query gets the same prompt.
    attempts: how often a prompt was sampled until the guard accepted one.
    spans: what was to be kept unchanged: "kept" if the model did, "repaired" if it was
      inserted.
    tokens: the prompt's, of the target's text encoder; null without a target.
    budget: whether the target reads all of the prompt: "kept", or "shortened" if it was
      cut for that; null without a target.
    negative_prompt: for the video model, if the query excludes something by a flag.
  """

  query: str
  prompt: str
  seed: int
  attempts: int
  spans: dict[str, str]
  tokens: int | None
  budget: str | None
  negative_prompt: str | None


def make(service: services.Service) -> mcpserver.MCPServer:
  """A server with the one tool `optimize_video_prompt`.

  The tool fails with one line if the query is not valid, or if the guard rejects every
  attempt.
  """
  known = " or ".join(target.name for target in service.targets) or "leave it empty"
  server = mcpserver.MCPServer("vpo-jax", log_level="ERROR")

  @server.tool(name=TOOL, title="Optimize a video prompt")
  async def rewrite(
    query: Annotated[
      str, pydantic.Field(description="What the video should show, in any words.")
    ],
    seed: Annotated[
      int, pydantic.Field(description="Another seed gives another prompt.", ge=0)
    ] = 0,
    temperature: Annotated[
      float, pydantic.Field(description="0 is the most likely prompt.", ge=0, le=2)
    ] = 0.7,
    keep: Annotated[
      list[str],
      pydantic.Field(description="Words that the prompt must contain unchanged."),
    ] = [],  # noqa: B006 (not changed; the schema shows it)
    target: Annotated[
      str, pydantic.Field(description=f"Video model of the prompt: {known}.")
    ] = "",
  ) -> Result:
    """Rewrites a short query as a detailed, harmless prompt for a text-to-video model.

    Give the user's own words. The prompt is in English and keeps what was asked for;
    text in quotes and tags in angle brackets are kept unchanged.
    """
    try:
      body = protocol.OptimizeRequest(
        query=query, seed=seed, temperature=temperature, keep=keep, target=target
      )
      found = await optimize_route.optimize_one(service, body)
    except Exception as error:
      line = api_errors.from_exception(error).body.error.message
      raise exceptions.ToolError(line) from error
    if found.problem:
      line = f"the prompt {found.problem}; tried {found.attempts} times"
      raise exceptions.ToolError(line)
    return Result(
      query=found.query,
      prompt=found.prompt,
      seed=found.seed,
      attempts=found.attempts,
      spans=found.spans,
      tokens=found.tokens,
      budget=found.budget,
      negative_prompt=found.negative_prompt,
    )

  return server
