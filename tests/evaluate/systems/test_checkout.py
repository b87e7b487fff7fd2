"""Other projects' rewriters are read from files of their structure, not executed."""

import os
import pathlib
import subprocess
import sys

import pytest

from vpo_jax import errors, templates
from vpo_jax.evaluate.systems import checkout, message_template

_DIES = 'raise SystemExit("executed")\n'
_CHAT = (
  _DIES
  + '''
sys_prompt_t2v = """Write {{one}} caption.

As many words as below.
"""
sys_prompt_i2v = "Look at the image."


def convert_prompt(prompt: str, retry_times: int = 3, type: str = "t2v"):
  client = OpenAI()
  text = prompt.strip()
  for i in range(retry_times):
    if type == "i2v":
      response = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "system", "content": f"{sys_prompt_i2v}"}],
        max_tokens=100,
      )
    else:
      response = client.chat.completions.create(
        messages=[
          {"role": "system", "content": f"{sys_prompt_t2v}"},
          {"role": "user", "content": 'Caption for : " a girl"'},
          {"role": "assistant", "content": "A girl on a beach."},
          {"role": "user", "content": 'Caption for : " a man"'},
          {"role": "assistant", "content": "A man " "who jogs."},
          {"role": "user", "content": f'In ENGLISH for : " {text} "'},
        ],
        model="glm-4-plus",
        temperature=0.01,
        top_p=0.7,
        stream=False,
        max_tokens=250,
      )
    if response.choices:
      return response.choices[0].message.content
  return prompt
'''
)
_FILES = {
  "cogvideo": {"inference/convert_demo.py": _CHAT},
  "open-sora 2": {
    "opensora/utils/prompt_refine.py": _CHAT.replace("{{one}}", "one"),
    "opensora/utils/inference_utils.py": "",
  },
  "open-sora 1.2": {
    "opensora/utils/inference_utils.py": _DIES
    + 'REFINE_PROMPTS_TEMPLATE = """\nRefine. Examples:\n{}\n\nIn English.\n"""\n',
    "assets/texts/t2v_pllava.txt": "A first. \nA second.\n",
  },
  "wan 2.2": {
    "wan/utils/system_prompt.py": _DIES
    + "T2V_A14B_ZH_SYS_PROMPT = \\\n''' 电影 '''\nT2V_A14B_EN_SYS_PROMPT = 'Film: '\n",
    "wan/utils/prompt_extend.py": "model.generate(**inputs, max_new_tokens=512)\n",
  },
  "wan 2.1": {
    "wan/utils/prompt_extend.py": _DIES
    + "LM_EN_SYS_PROMPT = \\\n  'Film,\\n' \\\n  'in English.'\n"
    + "model.generate(**inputs, max_new_tokens=512)\n",
  },
  "hunyuan": {
    "hyvideo/prompt_rewrite.py": _DIES
    + 'normal_mode_prompt = """Keep all.\ninput: "{input}"\n"""\n'
    + 'master_mode_prompt = """Be beautiful.\ninput: "{input}"\n"""\n',
  },
  "hunyuan 1.5": {
    "hyvideo/utils/rewrite/t2v_prompt.py": _DIES
    + 't2v_rewrite_system_prompt = """Write."""\n',
    "hyvideo/utils/rewrite/clients.py": _DIES
    + """
class QwenClient(object):
  def run_single_recaption(self, system_prompt, prompt, temperature=0.1, max_tokens=99):
    pass
""",
  },
  "prompt-a-video": {
    "booster/inference/inference_chat.py": _DIES
    + '''
TASK_PROMPT = """Refine.
One description. Original prompt:\\n"""

def main():
  for user_prompt in prompts_src:
    dialogs[0][-1]['content'] = TASK_PROMPT + user_prompt + "\\n" + "New prompt:\\n"
''',
  },
}


def made(tmp_path, name, variant=""):
  for path, text in _FILES[name].items():
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
  return checkout.read(name.split()[0], tmp_path, variant)


@pytest.mark.parametrize("name", ["cogvideo", "open-sora 2"])
def test_messages_and_settings_of_the_call_are_read(tmp_path, name):
  found = made(tmp_path, name)
  one = "{{one}}" if name == "cogvideo" else "one"
  assert found.messages('"x"') == [
    {
      "role": "system",
      "content": f"Write {one} caption.\n\nAs many words as below.\n",
    },
    {"role": "user", "content": 'Caption for : " a girl"'},
    {"role": "assistant", "content": "A girl on a beach."},
    {"role": "user", "content": 'Caption for : " a man"'},
    {"role": "assistant", "content": "A man who jogs."},
    {"role": "user", "content": 'In ENGLISH for : " "x" "'},
  ]
  assert found.dump()["settings"] == {
    "temperature": 0.01,
    "top_p": 0.7,
    "max_tokens": 250,
  }
  assert found.empty == "query"


def test_open_sora_1_2_has_its_examples_in_the_system_message(tmp_path):
  found = made(tmp_path, "open-sora 1.2")
  assert found.system == "\nRefine. Examples:\nA first.\nA second.\n\nIn English.\n"
  assert (found.user, found.settings.temperature) == ("{query}", 1.0)


@pytest.mark.parametrize(
  ("name", "variant", "system"),
  [
    ("wan 2.2", "", "Film: "),
    ("wan 2.2", "zh", " 电影 "),
    ("wan 2.1", "en", "Film,\nin English."),
  ],
)
def test_wan_has_a_text_for_each_language(tmp_path, name, variant, system):
  found = made(tmp_path, name, variant)
  assert (found.system, found.user) == (system, "{query}")
  assert found.settings.max_tokens == 512


def test_hunyuan_has_two_modes_and_one_text_since_1_5(tmp_path):
  normal, master = (
    made(tmp_path / mode, "hunyuan", mode) for mode in ("normal", "master")
  )
  assert normal.messages("a {cat}") == [
    {"role": "user", "content": 'Keep all.\ninput: "a {cat}"\n'}
  ]
  assert master.user.startswith("Be beautiful.")
  newer = made(tmp_path / "1.5", "hunyuan 1.5")
  assert (newer.system, newer.user) == ("Write.", "{query}")
  assert newer.dump()["settings"] == {"temperature": 0.1, "max_tokens": 99}


def test_prompt_a_video_gives_an_instruction_file(tmp_path):
  text = made(tmp_path, "prompt-a-video")
  task = "Refine.\nOne description. Original prompt:\n"
  assert text == f"{task}{{query}}\nNew prompt:\n"
  (tmp_path / "task.txt").write_text(text)
  assert templates.load("instruction", tmp_path / "task.txt") == text


@pytest.mark.parametrize(
  ("name", "old", "new", "line"),
  [
    ("cogvideo", "sys_prompt_t2v =", "prompt =", "no text to sys_prompt_t2v"),
    (
      "cogvideo",
      '"A girl on a beach."',
      "girl()",
      "are not a system message, examples",
    ),
    ("cogvideo", '{text} "', 'text "', "the user's turn has no place"),
    ("cogvideo", "messages=[", "chat=[", "no call has messages"),
    ("cogvideo", "def convert", "def =", "not Python"),
    ("open-sora 1.2", "{}", "none", "has no place for examples"),
    ("wan 2.2", "EN_SYS", "DE_SYS", "no text to T2V_A14B_EN_SYS_PROMPT"),
    ("wan 2.2", "=512", "=limit", "no call has a number for max_new_tokens"),
    ("hunyuan", "{input}", "it", "the user's turn has no place"),
    ("hunyuan 1.5", "QwenClient", "Client", "no class QwenClient"),
    ("prompt-a-video", "+ user_prompt", "", "the user's turn has no place"),
    ("prompt-a-video", "dialogs[0][-1]['content']", "text", "no message is made of"),
  ],
)
def test_another_version_is_refused_in_one_line(
  tmp_path, monkeypatch, name, old, new, line
):
  changed = {path: text.replace(old, new) for path, text in _FILES[name].items()}
  assert changed != _FILES[name]
  monkeypatch.setitem(_FILES, name, changed)
  with pytest.raises(errors.UserError, match=line) as error:
    made(tmp_path, name)
  assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path):
  with pytest.raises(errors.UserError, match=r"convert_demo\.py: cannot be read"):
    checkout.read("cogvideo", tmp_path)
  with pytest.raises(errors.UserError, match="no such folder"):
    checkout.read("wan", tmp_path / "none")
  with pytest.raises(errors.UserError, match="wan has en and zh"):
    checkout.read("wan", tmp_path, "fr")


def test_the_program_writes_a_file_that_can_be_used(tmp_path):
  made(tmp_path, "cogvideo")
  root = pathlib.Path(__file__).parents[3]
  program = root / "launch" / "make_llm_template.py"
  out = tmp_path / "cogvideo.json"
  command = [sys.executable, program, "--from=cogvideo", f"--checkout={tmp_path}"]
  done = subprocess.run(
    [*command, f"--out={out}"],
    capture_output=True,
    text=True,
    check=True,
    env=os.environ | {"PYTHONPATH": str(root)},
  )
  assert "6 messages" in done.stderr
  assert "temperature=0.01" in done.stderr
  assert message_template.load(out) == checkout.read("cogvideo", tmp_path)
