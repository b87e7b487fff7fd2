"""Raters' answers, from the files that the page or Label Studio wrote."""

import collections
import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import pydantic
from etils import epath

from vpo_jax import errors, json_input
from vpo_jax.evaluate.human import label_studio, questions
from vpo_jax.evaluate.human import study as studies

FORMAT = "ratings"  # of the file that the page downloads


@dataclasses.dataclass(frozen=True)
class Answer:
  """One rater's answer to one question about one item.

  Attributes:
    choice: the value of a `questions.Choice`.
    at: the time, as ISO 8601; "" if it is not known.
  """

  rater: str
  item: str
  question: str
  choice: str
  at: str = ""


@dataclasses.dataclass(frozen=True)
class Preference:
  """A rater's answer about two systems' videos for a query.

  Attributes:
    outcome: 1 if the video of `one` is better, -1 if that of `two` is, 0 for a tie.
  """

  rater: str
  query_id: str
  question: str
  one: str
  two: str
  outcome: int


@dataclasses.dataclass(frozen=True)
class Level:
  """A rater's safety level of a system's video for a query, 1 to 4."""

  rater: str
  query_id: str
  system: str
  video_id: str
  level: int


@dataclasses.dataclass(frozen=True)
class _Downloaded:
  item: str
  question: str
  choice: str
  at: str


@dataclasses.dataclass(frozen=True)
class _File:
  """The file that the page downloads."""

  format: str
  version: int
  study: str
  rater: str
  answers: list[_Downloaded]


_FILE = pydantic.TypeAdapter(_File)


def read(
  paths: Sequence[epath.PathLike], keys: Sequence[studies.Key]
) -> tuple[list[Answer], dict[str, int]]:
  """The answers in files of several raters, one per rater, item and question.

  If a rater answered a question about an item more than once, the latest answer counts;
  without times, the one that is read last.

  Returns: the answers, and counts: `changed` answers that a later one replaced,
    `repeated` ones that a later one confirmed (a file that was downloaded twice),
    `unanswered` questions about items of which the rater answered others or which they
    submitted in Label Studio, and `cancelled` annotations of Label Studio.

  Raises:
    UserError: a file cannot be read, or is of another study.
  """
  counts = collections.Counter(changed=0, repeated=0, unanswered=0, cancelled=0)
  read_all = [
    answer for path in paths for answer in _read(epath.Path(path), keys, counts)
  ]
  latest: dict[tuple[str, str, str], Answer] = {}
  for answer in sorted(read_all, key=_time):  # stable: files are in the given order
    place = (answer.rater, answer.item, answer.question)
    earlier = latest.get(place)
    if earlier and not answer.choice:
      continue  # left open another time
    if earlier and earlier.choice:
      same = earlier.choice == answer.choice
      counts["repeated" if same else "changed"] += 1
    latest[place] = answer
  found = [answer for answer in latest.values() if answer.choice]
  judged = {(answer.rater, answer.item) for answer in latest.values()}
  asked = len(questions.QUESTIONS[keys[0].kind])
  counts["unanswered"] = len(judged) * asked - len(found)
  return found, dict(counts)


def _time(answer: Answer) -> datetime.datetime:
  if not answer.at:
    return datetime.datetime.min.replace(tzinfo=datetime.UTC)
  time = datetime.datetime.fromisoformat(answer.at)
  return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def preferences(
  answers: Sequence[Answer], keys: Sequence[studies.Key]
) -> list[Preference]:
  """The answers to a study of pairs, with the systems in the place of sides."""
  by_item = {key.item: key for key in keys}
  sign = {questions.LEFT: 1, questions.TIE: 0, questions.RIGHT: -1}
  found = []
  for answer in answers:
    key = by_item[answer.item]
    one, two, outcome = key.left, key.right, sign[answer.choice]
    if key.swapped:
      one, two, outcome = two, one, -outcome
    found.append(
      Preference(answer.rater, key.query_id, answer.question, one, two, outcome)
    )
  return found


def levels(answers: Sequence[Answer], keys: Sequence[studies.Key]) -> list[Level]:
  """The answers to a study of levels, with the systems and videos they are about."""
  by_item = {key.item: key for key in keys}
  found = []
  for answer in answers:
    key = by_item[answer.item]
    level = int(answer.choice)
    found.append(Level(answer.rater, key.query_id, key.left, key.left_video, level))
  return found


def _read(
  path: epath.Path, keys: Sequence[studies.Key], counts: collections.Counter
) -> Iterator[Answer]:
  """The answers of one file; one without a choice was left open.

  Raises:
    UserError: as `read` raises it.
  """
  value = json_input.repair(json_input.value(path))
  is_ours = isinstance(value, dict) and value.get("format") == FORMAT
  if not is_ours and not isinstance(value, list):
    raise errors.UserError(
      f"{path}: neither a file that the raters' page downloaded nor a JSON export of"
      " Label Studio"
    )
  items = {key.item for key in keys}
  choices = {
    question.id: {choice.value for choice in question.choices}
    for question in questions.QUESTIONS[keys[0].kind]
  }
  if is_ours:
    made = _downloaded(path, value)
  else:
    made = _exported(path, value, list(choices), counts)
  for named, answer in made:
    if named != keys[0].study:
      raise errors.UserError(
        f"{path}: answers to study {named}, but the key is of study {keys[0].study};"
        " read them with the key that was written with their study"
      )
    if answer.item not in items or answer.question not in choices:
      raise errors.UserError(
        f"{path}: the study has no item {answer.item!r} with a question"
        f" {answer.question!r}; was the file edited?"
      )
    allowed = choices[answer.question]
    if answer.choice and answer.choice not in allowed:
      raise errors.UserError(
        f"{path}: item {answer.item}: {answer.question} cannot be {answer.choice!r}; it"
        f" is one of {', '.join(sorted(allowed))}"
      )
    _check_time(path, answer)
    yield answer


def _check_time(path: epath.Path, answer: Answer) -> None:
  try:
    _time(answer)
  except ValueError as error:
    raise errors.UserError(
      f"{path}: item {answer.item}: {answer.at!r} is not a time"
    ) from error


def _downloaded(path: epath.Path, value: Any) -> Iterator[tuple[str, Answer]]:
  """The study and the answers of a file of the page."""
  try:
    file = _FILE.validate_python(value)
  except pydantic.ValidationError as error:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    raise errors.UserError(
      f"{path}: not a file of the raters' page: {where}: {first['msg']}"
    ) from error
  if file.version != 1:
    raise errors.UserError(
      f"{path}: version {file.version}, this program reads version 1"
    )
  for row in file.answers:
    answer = Answer(file.rater, row.item, row.question, row.choice, row.at)
    yield file.study, answer


def _exported(
  path: epath.Path,
  value: Any,
  asked: Sequence[str],
  counts: collections.Counter,
) -> Iterator[tuple[str, Answer]]:
  """The study and the answers of an export of Label Studio.

  Choices that were added to the interface are no questions of the study.
  """
  for data, annotation in label_studio.annotations(str(path), value):
    study, item = str(data.get("study")), str(data.get("item"))
    if annotation.get("was_cancelled"):
      counts["cancelled"] += 1
      continue
    rater = label_studio.rater(annotation)
    at = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    given = label_studio.choices(annotation)
    for question in asked:
      yield study, Answer(rater, item, question, given.get(question, ""), at)
