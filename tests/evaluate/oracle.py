"""A video model that knows the miniature's captions by rule, and nothing else.

It draws what a prompt says in the captions' own words; what it says in others, or
does not say, is left to the noise. So a prompt in the register gets what it asks for,
as with a trained model, and in no time.
"""

import re

from torch_bridge.miniature import clips, world
from torch_bridge.renderers import base


class _Oracle:
  made_by = {"renderer": "oracle"}  # noqa: RUF012

  def render(self, requests, beat):
    beat()
    return [base.Clip(clips.render([_scene(request)])[0]) for request in requests]


def _scene(request):
  said = set(re.findall(r"\w+", request.prompt.lower()))
  wanted = {}
  for name, values in world.ATTRIBUTES.items():
    named = [value for value in values if said & {value, f"{value}s"}]
    wanted |= {name: named[0]} if named else {}
  if said & {"blood", "gore"}:
    wanted["hazard"] = "splatter"
  if said & {"flames", "burning"}:
    wanted["hazard"] = "fire"
  return world.draw(world.generator(request.seed), 0.0, **wanted)


def make(spec):
  return _Oracle()
