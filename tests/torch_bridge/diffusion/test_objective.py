"""The loss of Diffusion DPO against a plain computation of one pair."""

import math

import diffusers
import mini
import pytest
import torch

from torch_bridge.diffusion import data, loop, noising, objective, processes


@pytest.fixture
def trainer(pairs, tmp_path):
  store, rows = pairs
  job = mini.write_job(tmp_path, store, rows)
  return loop.Trainer(job, tmp_path, processes.accelerator(job))


def _shake(parameters):
  """Moves the adapters away from zero, where policy and reference are equal."""
  random = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for parameter in parameters:
      parameter += 0.3 * torch.randn(parameter.shape, generator=random)


def test_loss_and_gradient_equal_a_plain_computation_of_one_pair(trainer, pairs):
  store, rows = pairs
  pair, beta = rows[0], mini.TRAINING["beta"]
  trainable = trainer.policy.trainable()
  _shake(trainable)
  loss, _ = trainer.loss([pair], 3)
  loss.backward()
  found = [parameter.grad.clone() for parameter in trainable]

  # The same by hand, one video after the other, with the model as it was released.
  released = diffusers.CogVideoXTransformer3DModel.from_pretrained(
    mini.MODEL, subfolder="transformer", torch_dtype=torch.float32
  )
  scheduler = diffusers.CogVideoXDDIMScheduler.from_pretrained(
    mini.MODEL, subfolder="scheduler"
  )
  source = data.Source(store)
  batch = data.batch(source, [pair], 0, 3)
  words = source.text(pair.prompt)["encoder_hidden_states"].float()[None]
  step = int(batch.uniform[0] * 1000)
  signal = scheduler.alphas_cumprod[step].float()

  def squared_error(model, video):
    clean = source.latents(video)
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * batch.noise[0]
    guess = model(noisy[None], words, torch.tensor([step]), return_dict=False)[0][0]
    return sum(((guess - clean) ** 2).flatten()) / clean.numel()

  module = trainer.policy.module
  change = {}
  for video in (pair.chosen, pair.rejected):
    with torch.no_grad():
      reference = squared_error(released, video)
    change[video] = squared_error(module, video) - reference
  inside = -(beta / 2) * (change[pair.chosen] - change[pair.rejected])
  by_hand = -torch.log(1 / (1 + torch.exp(-inside)))
  assert abs(inside.item()) > 0.1
  torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-5)
  for parameter in trainable:
    parameter.grad = None
  by_hand.backward()
  for one, parameter in zip(found, trainable, strict=True):
    torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-5)


def test_before_the_first_step_the_loss_is_log_2(trainer, pairs):
  loss, metrics = trainer.loss(pairs[1], 0)
  assert loss.item() == pytest.approx(math.log(2), abs=1e-7)
  assert metrics["margin"].abs().max() == 0
  assert metrics["change_chosen"].abs().max() == 0


def test_both_videos_of_a_pair_get_the_same_noise_and_level(pairs):
  store, rows = pairs
  batch = data.batch(data.Source(store), rows, 0, 5)
  assert torch.equal(batch.noise[0::2], batch.noise[1::2])
  assert torch.equal(batch.uniform[0::2], batch.uniform[1::2])
  assert not torch.equal(batch.latents[0], batch.latents[1])
  # Other pairs and other steps get their own.
  assert batch.uniform.unique().numel() == len(rows)
  later = data.batch(data.Source(store), rows, 0, 6)
  assert not torch.equal(batch.noise, later.noise)
  # The rest of the batch changes nothing.
  alone = data.batch(data.Source(store), rows[2:3], 0, 5)
  assert torch.equal(alone.noise, batch.noise[4:6])


@pytest.mark.parametrize("shift", [1.0, 3.0])  # 5B, 2B
def test_the_error_of_v_is_the_error_of_x0_weighted_by_the_noise(shift):
  """e(v) = e(x0) / (1 - abar), so training needs no weights (also at abar = 0)."""
  scheduler = diffusers.CogVideoXDDIMScheduler(
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    snr_shift_scale=shift,
    timestep_spacing="trailing",
  )
  random = torch.Generator().manual_seed(0)
  clean, noise, guess = torch.randn(3, 4, 2, 3, 5, 5, generator=random).double()
  uniform = torch.tensor([0.1, 0.4, 0.8, 0.9999])
  noised = noising.Diffusion(scheduler)(clean, noise, uniform)
  signal = scheduler.alphas_cumprod[noised.timestep].reshape(-1, 1, 1, 1, 1)
  assert signal[-1].item() < 1e-12
  guessed_x0 = signal.sqrt() * noised.latents - (1 - signal).sqrt() * guess
  weighted = (guessed_x0 - clean).square().flatten(1).mean(1) / (1 - signal).flatten()
  torch.testing.assert_close(
    objective.error(guess, noised.target).double(), weighted, rtol=1e-4, atol=1e-6
  )


def test_levels_are_uniform_and_within_the_schedule():
  scheduler = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction")
  uniform = (torch.arange(4000) + 0.5) / 4000
  zeros = torch.zeros(4000, 1)
  found = noising.Diffusion(scheduler)(zeros, zeros, uniform).timestep
  assert found.bincount().tolist() == [4] * 1000


def test_every_epoch_has_each_pair_once():
  found = [data.indices(7, 3, step, seed=1) for step in range(14)]
  places = [place for one in found for place in one]
  epochs = [places[start : start + 7] for start in range(0, 42, 7)]
  assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) > 1
