"""Encodes the videos and prompts of preference pairs for training the video model."""

import dataclasses
from collections.abc import Mapping

from etils import epath

from torch_bridge import contract
from vpo_jax import errors, records
from vpo_jax.feedback import bridge
from vpo_jax.runtime import console


@dataclasses.dataclass(frozen=True)
class Encoded:
  """What can be trained on.

  Attributes:
    pairs: by part ("train", "heldout"); encoded in the store.
    rows: the rows of these pairs, in the same order.
    aside: the pairs that cannot be used, with the reason.
  """

  pairs: dict[str, list[contract.EncodedPair]]
  rows: dict[str, list[contract.VideoPair]]
  aside: list[records.SetAside]


@dataclasses.dataclass(frozen=True)
class _Asked:
  """A pair with the requests to encode its prompt, chosen and rejected video."""

  row: contract.VideoPair
  requests: list[contract.EncodeRequest]


def encode(link: bridge.Bridge, stage: str, parts: Mapping[str, epath.Path]) -> Encoded:
  """Encodes all videos and prompts that are not in the store yet.

  Args:
    link: the bridge, without a LoRA.
    stage: for messages.
    parts: files of `contract.VideoPair` rows.

  Raises:
    UserError: a part has no pair that can be used.
  """
  encoded = Encoded({}, {}, [])
  model, settings = link.model_id(), link.settings
  asked = {
    part: [
      one
      for row in _read(path, encoded.aside)
      if (one := _ask(link, row, model, settings, encoded.aside))
    ]
    for part, path in parts.items()
  }
  every = [one for part in asked.values() for pair in part for one in pair.requests]
  failures = link.encode(every) if every else {}
  for part, ones in asked.items():
    kept = []
    for one in ones:
      failed = [failures[r.id].reason for r in one.requests if r.id in failures]
      if failed:
        encoded.aside.append(records.SetAside(one.row.id, one.row.prompt, failed[0]))
      else:
        kept.append(one)
    if not kept:
      reason = f"; the first: {encoded.aside[0].reason}" if encoded.aside else ""
      raise errors.UserError(f"{stage}: {parts[part]}: no pair can be used{reason}")
    encoded.rows[part] = [one.row for one in kept]
    encoded.pairs[part] = [
      contract.EncodedPair(one.row.id, *(request.id for request in one.requests))
      for one in kept
    ]
  if encoded.aside:
    console.say(
      f"{stage}: {len(encoded.aside)} pairs are set aside, the first:"
      f" {encoded.aside[0].reason}"
    )
  return encoded


def _ask(
  link: bridge.Bridge,
  row: contract.VideoPair,
  model: str,
  settings: dict,
  aside: list[records.SetAside],
) -> _Asked | None:
  requests = [contract.encode_request(model, settings, prompt=row.prompt)]
  for path in (row.chosen, row.rejected):
    try:
      sha256 = contract.sha256(link.store.root / path)
    except OSError as error:
      reason = f"pair {row.id}: {path}: {error.strerror}"
      aside.append(records.SetAside(row.id, row.prompt, reason))
      return None
    requests.append(contract.encode_request(model, settings, path=path, sha256=sha256))
  return _Asked(row, requests)


def _read(path: epath.Path, aside: list[records.SetAside]) -> list[contract.VideoPair]:
  rows = []
  with path.open("rb") as file:
    for number, line in enumerate(file, start=1):
      try:
        rows.append(contract.parse(line, contract.VideoPair))
      except contract.BadRow as error:
        reason = f"{path.name}:{number}: {error}"
        text = line[:200].decode(errors="replace").strip()
        aside.append(records.SetAside(contract.content_id(reason), text, reason))
  return rows
