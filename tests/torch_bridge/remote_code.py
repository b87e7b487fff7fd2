"""A very small VisionReward, which the test copies into its model directory.

The answer depends on the video's brightness and the question's words and their
positions, so that it shows any error in the frames, the text, the padding or the
batching. As reported of CogVLM2-Video's code, only the first row's video is read,
padding on the left shifts the position ids, and an answer may be `yes`, `Yes` or
` yes`.
"""

import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class TinyConfig(PretrainedConfig):
  model_type = "tiny_visionreward"

  def __init__(self, vocab_size=32, yes=(3, 5, 7), no=(4, 6, 8), shifts=True, **kwargs):
    self.vocab_size, self.yes, self.no = vocab_size, yes, no
    self.shifts = shifts  # positions by padding; False behaves as it should
    self.num_hidden_layers = 1
    super().__init__(**kwargs)


class TinyForCausalLM(PreTrainedModel, GenerationMixin):
  config_class = TinyConfig
  _supports_cache_class = False

  def __init__(self, config):
    super().__init__(config)
    self.scale = torch.nn.Parameter(torch.ones(()))
    self.seen = []
    self.post_init()
    self.generation_config.use_cache = False

  def build_conversation_input_ids(
    self, tokenizer, *, query, images, history, template_version
  ):
    assert template_version == "chat"
    assert history == []
    assert query.endswith("\n")
    (video,) = images
    assert video.dtype == torch.uint8
    assert video.shape[0] == 3
    self.seen.append((query, tuple(video.shape)))
    ids = torch.tensor(tokenizer.encode(query, add_special_tokens=False))
    return {
      "input_ids": ids,
      "token_type_ids": torch.ones_like(ids),
      "attention_mask": torch.ones_like(ids),
      "images": [video],
    }

  def prepare_inputs_for_generation(self, input_ids, **kwargs):
    names = ("images", "token_type_ids", "attention_mask")
    return {"input_ids": input_ids} | {name: kwargs[name] for name in names}

  def forward(
    self, input_ids, images, token_type_ids, attention_mask, return_dict=True, **_
  ):
    # transformers drops a mask that is all ones.
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    assert torch.equal(token_type_ids, mask)
    light = images[0][0].mean() / 255
    positions = torch.arange(1, input_ids.shape[1] + 1).expand_as(input_ids)
    if not self.config.shifts:
      positions = mask.cumsum(-1)
    words = (input_ids * positions * mask).sum(-1) / mask.sum(-1)
    agree = self.scale * torch.sin(40 * light + 3 * words)
    form = (input_ids * mask).sum(-1) % len(self.config.yes)
    logits = torch.full((*input_ids.shape, self.config.vocab_size), -9.0)
    rows = torch.arange(len(input_ids))
    logits[rows, -1, torch.tensor(self.config.yes)[form]] = agree
    logits[rows, -1, torch.tensor(self.config.no)[form]] = -agree
    return CausalLMOutputWithPast(logits=logits)
