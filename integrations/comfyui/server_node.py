"""The node that asks a running server. It needs only the standard library."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from . import node

_FIELDS = {"prompt", "attempts", "spans", "tokens", "budget", "negative_prompt"}
_SECONDS = 600  # until an answer; the first request of a server may compile


class OptimizeServer(node.Node):
  """Sends the query to launch/serve.py."""

  DESCRIPTION = "Rewrites a query into a prompt with a running VPO server."

  @classmethod
  def INPUT_TYPES(cls) -> dict[str, Any]:
    tooltip = "Address of launch/serve.py."
    return node.inputs(
      url=("STRING", {"default": "http://localhost:8000", "tooltip": tooltip})
    )

  def optimize(
    self,
    query: str,
    url: str,
    target: str,
    seed: int,
    temperature: float,
    keep: str,
    best_of: int,
  ) -> tuple[str, str, str]:
    """The prompt, the report and the negative prompt.

    Raises:
      RuntimeError: no server answers, or it refuses the request.
    """
    body: dict[str, Any] = {"query": query, "seed": seed, "temperature": temperature}
    if target.strip():
      body["target"] = target.strip()
    if words := node.words(keep):
      body["keep"] = words
    if best_of > 1:
      body["best_of"] = best_of
    answer = _post(url.strip().rstrip("/"), body)
    report = node.report(answer["spans"], answer["tokens"], answer["budget"])
    report += f"\nattempts: {answer['attempts']}"
    return answer["prompt"], report, answer["negative_prompt"] or ""


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
  if not url.startswith(("http://", "https://")):  # urllib would also read files
    raise RuntimeError(f"url={url!r}: must start with http:// or https://")
  data = json.dumps(body).encode()
  headers = {"Content-Type": "application/json"}
  try:
    request = urllib.request.Request(f"{url}/optimize", data, headers)
    with urllib.request.urlopen(request, timeout=_SECONDS) as response:
      answer = json.load(response)
    if not set(answer) >= _FIELDS:
      raise ValueError("fields are missing")
    return answer
  except urllib.error.HTTPError as error:
    raise RuntimeError(f"{url}: {_message(error)}") from None
  except (OSError, http.client.HTTPException) as error:
    reason = getattr(error, "reason", error)
    raise RuntimeError(f"{url}: {reason}; is launch/serve.py running there?") from None
  except (TypeError, ValueError):
    raise RuntimeError(f"{url}: the answer is not a VPO server's") from None


def _message(error: urllib.error.HTTPError) -> str:
  """What the server says is wrong."""
  try:
    return json.load(error)["error"]["message"]
  except (OSError, http.client.HTTPException, KeyError, TypeError, ValueError):
    return f"HTTP {error.code} {error.reason}"
