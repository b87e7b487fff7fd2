"""A judge checks that a prompt has all that was asked for."""

import contextlib
import dataclasses
import json

import faulty
import pytest
from starlette import testclient

from configs import miniature, teacher
from tests.serve.test_spans import scripted as replace_sampler
from vpo_jax import errors
from vpo_jax.sample import settings
from vpo_jax.serve import judge as judges
from vpo_jax.serve import optimize, optimize_file, web

SAMPLING = settings.Settings(max_new_tokens=8)
GOOD, LESS = "A red ball falls.", "A ball falls."


@dataclasses.dataclass
class Strict:
  """Finds only prompts with "red" aligned; remembers what it was asked."""

  asked: list[list[str]] = dataclasses.field(default_factory=list)

  def __call__(self, pairs):
    self.asked.append([prompt for _, prompt in pairs])
    return ["aligned" if "red" in prompt else "imprecise" for _, prompt in pairs]


def test_a_prompt_that_is_not_aligned_is_sampled_again(policy, monkeypatch):
  replace_sampler(monkeypatch, [LESS], [GOOD])
  (row,) = optimize.optimize(policy, ["a red ball"], SAMPLING, judge=Strict())
  assert (row.prompt, row.verified, row.problem) == (GOOD, "aligned", None)


def test_what_no_attempt_has_is_a_problem(policy, monkeypatch):
  replace_sampler(monkeypatch, *[[LESS]] * optimize.ATTEMPTS)
  (row,) = optimize.optimize(policy, ["a red ball"], SAMPLING, judge=Strict())
  assert (row.verified, row.problem) == ("imprecise", "is imprecise, says the judge")


def test_the_judge_sees_the_prompt_that_is_returned(policy, monkeypatch):
  replace_sampler(monkeypatch, *[[LESS]] * optimize.ATTEMPTS)
  judge = Strict()
  (row,) = optimize.optimize(policy, ["a ball"], SAMPLING, keep=["red"], judge=judge)
  assert (row.prompt, row.verified) == ("red, A ball falls.", "aligned")
  assert [LESS] not in judge.asked  # it lacks "red", so it is not worth a call


def test_a_judge_without_a_verdict_is_said_and_not_held_against_the_prompt(
  policy, monkeypatch
):
  replace_sampler(monkeypatch, [LESS])
  (row,) = optimize.optimize(
    policy, ["a ball"], SAMPLING, judge=lambda pairs: ["unknown"] * len(pairs)
  )
  assert (row.verified, row.problem) == ("unknown", None)


def test_iterations_are_judged_by_the_query(policy, monkeypatch):
  replace_sampler(monkeypatch, [LESS], [GOOD])
  judge = Strict()
  (row,) = optimize.optimize(
    policy, ["a red ball"], SAMPLING, iterations=2, judge=judge
  )
  assert (row.query, row.prompt, row.verified) == ("a red ball", GOOD, "aligned")
  assert [LESS] not in judge.asked


def test_a_file_is_judged(policy, tmp_path, monkeypatch):
  replace_sampler(monkeypatch, [GOOD, LESS], [LESS], [LESS])
  path, output = tmp_path / "q.txt", tmp_path / "p.csv"
  path.write_text("a red ball\na ball\n")
  counts = optimize_file.optimize_file(
    policy, path, output, SAMPLING, judge=Strict(), judge_name="strict"
  )
  assert counts["with_problem"] == 1
  with pytest.raises(errors.UserError, match="made with judge='strict'"):
    optimize_file.optimize_file(policy, path, output, SAMPLING)


def test_a_server_is_asked_with_the_template_of_table_2():
  config = teacher.get_config()
  miniature.teacher(config)
  judge = judges.make(config)
  query = "a red ball moving left"
  prompts = [
    "One small smooth red ball moving slowly left in front of a calm white background."
    " It is shown in bright light and in plain style.",
    "One green cube rests on a blue floor, in bright light.",
  ]
  assert judge([(query, prompt) for prompt in prompts]) == ["aligned", "imprecise"]


def test_the_server_asks_the_judge_on_request(scripted):
  service = dataclasses.replace(scripted(LESS, GOOD), judge=Strict())
  client = testclient.TestClient(web.make(service))
  body = {"query": "a red ball", "verify": True}
  answer = client.post("/optimize", json=body).json()
  assert (answer["prompt"], answer["verified"], answer["attempts"]) == (
    GOOD,
    "aligned",
    2,
  )
  plain = client.post("/optimize", json={"query": "a red ball"}).json()
  assert (plain["prompt"], plain["verified"]) == (LESS, None)
  with client.stream("POST", "/optimize", json=body | {"stream": True}) as response:
    events = [json.loads(line[6:]) for line in response.iter_lines() if line]
  assert events[-1]["optimized"]["verified"] == "aligned"


def test_a_server_refuses_what_the_judge_refuses_three_times(scripted):
  service = dataclasses.replace(scripted(LESS), judge=Strict())
  client = testclient.TestClient(web.make(service))
  refused = client.post("/optimize", json={"query": "a red ball", "verify": True})
  assert refused.status_code == 422
  assert "is imprecise, says the judge; tried 3 times" in refused.text


def test_a_server_without_a_judge_says_so(scripted):
  client = testclient.TestClient(web.make(scripted(GOOD)))
  refused = client.post("/optimize", json={"query": "a ball", "verify": True})
  assert refused.status_code == 400
  assert refused.json()["error"]["param"] == "verify"


@pytest.fixture
def served(monkeypatch):
  """A judge that asks a server which answers with a script."""
  with contextlib.ExitStack() as stack:

    def start(script):
      server = faulty.Server(script)
      stack.enter_context(faulty.running(server))
      monkeypatch.setenv("JUDGE_KEY", "sk-secret-5151")
      return judges.of_model("m", server.base_url, "JUDGE_KEY")

    yield start


def test_a_single_prompt_without_a_verdict_is_unknown(served):
  """Also if it is the only one: the judge is not a stage, which would end."""
  judge = served(lambda number, body: "I cannot say.")
  assert judge([("a ball", GOOD)]) == ["unknown"]


def test_a_judge_that_rejects_the_key_is_the_servers_fault(served, scripted):
  reply = [200]

  def script(number, body):
    return "Final Verdict: Aligned" if reply[0] == 200 else faulty.error(reply[0], "no")

  judge = served(script)
  reply[0] = 401
  service = dataclasses.replace(scripted(GOOD), judge=judge)
  client = testclient.TestClient(web.make(service))
  refused = client.post("/optimize", json={"query": "a red ball", "verify": True})
  assert refused.status_code == 502
  message = refused.json()["error"]["message"]
  assert message.startswith("the judge cannot be used: teacher at http")
  assert "sk-secret" not in message
  assert "\n" not in message


def test_a_judge_without_a_key_is_one_line(monkeypatch):
  monkeypatch.delenv("JUDGE_KEY", raising=False)
  with pytest.raises(errors.UserError, match=r"--judge_key_env: \$JUDGE_KEY holds no"):
    judges.of_model("m", "", "JUDGE_KEY")


def test_a_judge_is_asked_once_for_each_pair():
  judge = Strict()
  remembers = judges.remembering(judge)
  assert remembers([("q", GOOD), ("q", LESS), ("q", GOOD)]) == [
    "aligned",
    "imprecise",
    "aligned",
  ]
  assert remembers([("q", LESS)]) == ["imprecise"]
  assert judge.asked == [[GOOD, LESS]]
