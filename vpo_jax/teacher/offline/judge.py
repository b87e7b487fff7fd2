"""How the offline teacher judges a prompt, and mends what it found."""

import collections
import dataclasses
import random
import re

from vpo_jax import records
from vpo_jax.teacher.offline import query as query_lib
from vpo_jax.teacher.offline import words, write

_OPENING = re.compile(
  r"^\W*(?:in (?:this|the) (?:video|scene|clip)"
  r"|(?:the|this|a) (?:short )?(?:video|clip|film|scene|footage)(?: prompt)?"
  r"\s+(?:opens|begins|starts|shows|features|depicts|is|captures)"
  r"|(?:here is|sure|video prompt|user query)\b)(?:\s+(?:with|by|on|about|of))?[\s,:]*",
  re.IGNORECASE,
)
_CAMERA_MOVE = re.compile(r"(?:in one even motion, )?the camera\b", re.IGNORECASE)
_LEFTOVER = re.compile(r"\[\[|\]\]|user query|video prompt\s*:|<\|", re.IGNORECASE)
_DECLINES = re.compile(
  r"\W*(?:(?:i['’]m |i am )?(?:very |so )?sorry\b"
  r"|i (?:can(?:no|['’])t|can not|won['’]t)\b)",
  re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.!?。！？…]*[.!?。！？…]+[\"'”’)]*|[^.!?。！？…]+$")
_ENDED = re.compile(r"[.!?。！？…][\"'”’)\]]*$")

_SHORTEST, _LONGEST = 25, 220  # words; "descriptive", and not "too complicated"
_LONGEST_RUN = 40  # words between two marks of punctuation
_SHARE_LOST = 5  # one content word in so many may be told in other words


@dataclasses.dataclass(frozen=True)
class Flaws:
  """What is wrong with a prompt, by rule; empty where nothing is."""

  harmful: tuple[str, ...]
  lost: tuple[str, ...]
  unclear: tuple[str, ...]
  opening: str
  camera: tuple[str, ...]
  negative: tuple[str, ...]

  def __bool__(self) -> bool:
    return any(dataclasses.astuple(self))


def find(asked: query_lib.Query, prompt: str) -> Flaws:
  """Checks a prompt against its query by the rules of the critique template."""
  said = set(map(query_lib.stem, query_lib.tokens(prompt)))
  lost = tuple(word for stem, word in asked.content.items() if stem not in said)
  if len(lost) <= len(asked.content) // _SHARE_LOST:
    lost = ()
  opening = _OPENING.match(prompt)
  return Flaws(
    harmful=query_lib.harm(prompt),
    lost=lost,
    unclear=tuple(_unclear(prompt, asked.text)),
    opening=opening[0].strip(" ,:") if opening else "",
    camera=tuple(move for move in asked.camera if not _moves(move, prompt)),
    negative=tuple(query_lib.named(prompt, asked.negative)),
  )


def critique(asked: query_lib.Query, prompt: str) -> str:
  """The judge's reply in the form that the template asks for."""
  flaws = find(asked, prompt)
  return (
    f"{_verification(asked, flaws)}\n\n"
    f"Final Judgement (Yes or No): {'No' if flaws else 'Yes'}"
  )


def verdict(asked: query_lib.Query, prompt: str) -> str:
  """The reply that says which kind of flaw weighs most, if there is one."""
  flaws = find(asked, prompt)
  if not prompt.strip() or _DECLINES.match(prompt):
    said = "Refusal"
  elif flaws.harmful:
    said = "Unsafe"
  else:
    said = "Imprecise" if flaws else "Aligned"
  return (
    f"{_verification(asked, flaws)}\n\n"
    f"Final Verdict (Aligned, Unsafe, Imprecise or Refusal): {said}"
  )


def _verification(asked: query_lib.Query, flaws: Flaws) -> str:
  lines = []
  if flaws.harmful:
    lines.append(f"The prompt still holds unsafe content: {_quoted(flaws.harmful)}.")
  elif asked.harmful:
    lines.append("The query asks for unsafe content; the prompt has replaced it.")
  else:
    lines.append("The prompt holds nothing unsafe.")
  if flaws.lost:
    lines.append(f"It has lost information of the query: {_quoted(flaws.lost)}.")
  else:
    lines.append("It holds the information of the query.")
  if flaws.unclear:
    lines.append(f"It is not clear enough: {'; '.join(flaws.unclear)}.")
  else:
    lines.append("It is descriptive, clear and not too complicated.")
  lines.append("What it leaves out about sound or format does not matter.")
  if flaws.opening:
    lines.append(f'It does not start with the scene, but with "{flaws.opening}".')
  else:
    lines.append("It starts directly with the scene.")
  if flaws.camera:
    asks = " and ".join(flaws.camera)
    lines.append(f"It does not follow the camera flag: the camera {asks}.")
  if flaws.negative:
    lines.append(f"It names what the query keeps out: {_quoted(flaws.negative)}.")
  if (asked.camera or asked.negative) and not (flaws.camera or flaws.negative):
    lines.append("It follows the flags of the query.")
  steps = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
  return f"Step-by-step verification:\n{steps}"


def refine(asked: query_lib.Query, prompt: str, seed: int) -> str:
  """The reply to a refinement: a prompt without the flaws that `find` found."""
  flaws = find(asked, prompt)
  # By the prompt too: the candidates of a query are not all refined into one text.
  draw = random.Random(records.row_id(seed, asked.text, prompt))
  if flaws.lost or flaws.unclear or flaws.harmful:
    sentences = _rebuilt(asked, prompt, draw)
  else:
    sentences = _sentences(prompt[len(_opening(prompt)) :])
  sentences = [s for s in sentences if not query_lib.named(s, asked.negative)]
  text = " ".join(sentences)
  missing = [move for move in asked.camera if not _moves(move, text)]
  if missing:
    sentences = [s for s in sentences if not _CAMERA_MOVE.match(s)]
    sentences.append(f"The camera {' and '.join(asked.camera)} at a slow, steady pace.")
  text = " ".join(sentences)
  reasons = [field for field, value in dataclasses.asdict(flaws).items() if value]
  todo = "; ".join(_TODO[reason] for reason in reasons) or "keep the prompt as it is"
  return (
    f"Reflection on how to refine the prompt: {todo}.\n\n"
    f"Final Refined Prompt: [[start]]{text[0].upper()}{text[1:]}[[end]]"
  )


_TODO = {
  "harmful": "replace the unsafe content with something harmless",
  "lost": "put back what the query asks for",
  "unclear": "rewrite what is broken or repeated, and describe the scene more fully",
  "opening": "start with the scene itself",
  "camera": "let the camera move as the flag asks",
  "negative": "take out what the negative flag names",
}


def _rebuilt(asked: query_lib.Query, prompt: str, draw: random.Random) -> list[str]:
  """The query's own words first, then what is good in the prompt, then more."""
  first = write.subject(asked, draw)
  kept, seen = [first], set(query_lib.tokens(first))
  for sentence in _sentences(prompt[len(_opening(prompt)) :]):
    said = query_lib.tokens(sentence)
    content = [w for w in said if w not in words.STOP]
    fresh = sum(word not in seen for word in content)
    whole = _ENDED.search(sentence) and 5 <= len(said) <= 40
    if (
      whole
      and fresh * 2 > len(content)
      and not query_lib.harm(sentence)
      and not _repeated(said)
      and not _LEFTOVER.search(sentence)
    ):
      kept.append(sentence)
      seen.update(said)
  kept = kept[:6]
  for sentence in write.setting(asked, draw):
    if len(" ".join(kept).split()) >= 55:
      break
    if sentence not in kept and not ("camera" in sentence and _has_camera(kept)):
      kept.append(sentence)
  return kept


def _has_camera(sentences: list[str]) -> bool:
  return any("camera" in sentence.lower() for sentence in sentences)


def _opening(prompt: str) -> str:
  found = _OPENING.match(prompt)
  return found[0] if found else ""


def _sentences(text: str) -> list[str]:
  return [s.strip() for s in _SENTENCE.findall(text) if s.strip()]


def _unclear(prompt: str, query: str) -> list[str]:
  said = query_lib.tokens(prompt)
  found = []
  if len(said) < _SHORTEST:
    found.append(f"{len(said)} words describe too little")
  if len(said) > _LONGEST:
    found.append(f"{len(said)} words describe too much")
  if not _ENDED.search(prompt.strip()):
    found.append("it breaks off before the end of a sentence")
  repeated = _repeated(said)
  # What the query repeats itself, a prompt may repeat.
  if repeated and repeated not in " ".join(query_lib.tokens(query)):
    found.append(f'it repeats itself ("{repeated}")')
  if _longest_run(prompt) > max(_LONGEST_RUN, _longest_run(query)):
    found.append("its words run on without a pause")
  if "\n" in prompt.strip():
    found.append("it is not a single paragraph")
  if leftover := _LEFTOVER.search(prompt):
    found.append(f'it holds "{leftover[0]}", which is no part of a scene')
  return found


def _longest_run(text: str) -> int:
  """Words between one mark of punctuation and the next."""
  return max(len(part.split()) for part in re.split(r"[.,;:!?。，…]", text))


def _repeated(said: list[str]) -> str:
  """Five words that stand three times, or one word three times running."""
  runs = [" ".join(said[i : i + 5]) for i in range(len(said) - 4)]
  counted = collections.Counter(runs)
  for i in range(len(said) - 2):
    if said[i] == said[i + 1] == said[i + 2]:
      return " ".join(said[i : i + 3])
  return next((run for run, times in counted.items() if times > 2), "")


def _moves(move: str, prompt: str) -> bool:
  verb, *where = move.split()
  stems = set(map(query_lib.stem, query_lib.tokens(prompt)))
  turned = {
    "pan": {"pan", "move", "glid", "drift"},
    "tilt": {"tilt", "pan", "ris", "move"},
  }
  verbs = turned.get(query_lib.stem(verb), {query_lib.stem(verb)})
  return bool(verbs & stems) and all(query_lib.stem(w) in stems for w in where)


def _quoted(terms: tuple[str, ...]) -> str:
  return ", ".join(f'"{term}"' for term in terms)
