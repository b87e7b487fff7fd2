"""Makes a study for raters from an evaluation's videos (paper, sections 4.2 and 4.4).

    python launch/human_study.py --config=configs/human_study.py --workdir=runs/mine

Writes <workdir>/human_study: the folder study/ for the raters, who open its index.html;
key.jsonl, which they must not see; and label_studio.json and label_studio.xml.
launch/human_results.py reads the answers.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.evaluate.human.human_study", "human_study.py")
