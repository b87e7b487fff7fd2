"""Query curation as in the paper, section 3.2: 10k SFT and 10k DPO queries.

    python launch/curate.py --config=configs/curate.py \
      --config.queries=VidProM_semantic_unique.csv --workdir=runs/vpo

The paper names the kinds of rules but gives no limits. The limits below were chosen to
drop almost none of 6,000 released queries, which had passed the paper's own rules.
"""

import ml_collections

from configs import teacher


def get_config() -> ml_collections.ConfigDict:
  """Returns the config of the stage `curate`."""
  config = ml_collections.ConfigDict()
  # Queries: .json (a list, or the release's rows), .jsonl, .csv (VidProM's), .txt;
  # "" is the small set that comes with the project.
  config.queries = ""
  # Files, or patterns such as "T2VSafetyBench/[0-9]*.txt", whose texts no split may
  # contain: queries equal or similar to them (`near`) are dropped and counted. 226 of
  # T2VSafetyBench's prompts are among the release's training queries.
  config.held_out = ()
  # Measures the rows on this machine ("local") or on the Ray cluster that RAY_ADDRESS
  # names ("ray"; needs the extra `ray`).
  config.engine = "local"
  config.seed = 0  # of the order that decides the splits
  config.max_characters = 10_000  # longer rows are set aside; ours
  # Pika's and Midjourney's flags: "keep", "drop", or "move" to a field of their own,
  # which neither the policy nor the teacher and the judges see. The release keeps them,
  # and its critique has a rule on -camera and -neg.
  config.flags = "keep"

  # Share of the SFT and DPO queries that get a quoted text, a tag or a word to keep, so
  # that the model learns to keep them (docs/data.md); the paper has none.
  config.spans = 0.0

  config.rules = rules = ml_collections.ConfigDict()
  rules.min_words = 1  # the release has queries of one word
  rules.max_words = 160  # longest of 6,000 in the release: 157
  rules.max_tokens = 512  # only with a tokenizer; ours
  rules.tokenizer = ""  # a tokenizer.json or a model directory; "": count no tokens
  rules.max_special = 0.2  # largest share of unusual characters; ours
  rules.drop_urls = True  # set aside rows with a URL; ours
  rules.keywords = ("/image:", "lorem ipsum")  # drop: lost images, filler text
  rules.languages = ()  # ISO 639-1 codes to keep; () keeps all, as the release
  rules.min_distinct = 0.3  # least share of distinct words; ours
  rules.max_run = 10  # longest run of one character; ours

  config.near = near = ml_collections.ConfigDict()
  near.threshold = 0.8  # Jaccard similarity of five-character shingles; ours
  near.permutations = 128  # standard error of the similarity at most 0.044

  config.diversity = diversity = ml_collections.ConfigDict()
  diversity.max_bleu = 0.8  # ours: drops 2.5 % of 6,000 queries of the release
  diversity.references = 10_000  # exact up to this many queries, sampled beyond

  config.safety = safety = ml_collections.ConfigDict()
  # A row is safety-related if one of Detoxify's scores (probabilities) is at least
  # this; ours.
  safety.min_score = ml_collections.ConfigDict(
    {
      "toxicity": 0.5,
      "obscene": 0.5,
      "identity_attack": 0.5,
      "insult": 0.5,
      "threat": 0.5,
      "sexual_explicit": 0.5,
    }
  )
  # True: an LLM judges the candidates again, as in the paper; about 4,000 calls at the
  # paper's sizes. False: the source's labels are used.
  safety.judge = False
  safety.margin = 2.0  # candidates judged for each query that is needed; ours
  safety.template = ""  # template file; "" is vpo_jax/templates/safety.txt
  config.teacher = teacher.get_config()  # used only by the judge

  config.card = True  # write README.md with counts, examples and histograms

  config.sizes = sizes = ml_collections.ConfigDict()
  sizes.sft_general = 9_000  # paper, section 3.2 and appendix 9: 10k, 1k of it unsafe
  sizes.sft_safety = 1_000
  sizes.dpo_general = 9_000
  sizes.dpo_safety = 1_000
  sizes.test_general = 450  # paper, section 4.1: 500 queries test query alignment
  sizes.test_safety = 50
  return config
