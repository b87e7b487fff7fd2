"""The loss of Diffusion DPO: errors in, a number out."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def error(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
  """e: each row's mean squared error over all latent elements, in float32.

  It is not weighted. For a model that predicts v this equals the error of x0 weighted
  by 1 / (1 - abar), since x0' - x0 = -sqrt(1 - abar) (v' - v).

  Args:
    predicted: [B, ...], the model's prediction.
    target: [B, ...].

  Returns: [B].
  """
  return (predicted.float() - target.float()).square().flatten(1).mean(1)


def dpo(
  error_P2: torch.Tensor, reference_P2: torch.Tensor, *, beta: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
  """Loss of Diffusion DPO (arXiv:2311.12908, eq. 14): mean over pairs, in nats.

  -log sigmoid(-(beta / 2) [(e_w - e_w,ref) - (e_l - e_l,ref)]). The factor 1/2 is that
  of the authors' code; diffusers' `research_projects/diffusion_dpo` has none, so beta
  500 here is 250 there.

  Args:
    error_P2: `error` of P pairs; column 0 is the chosen video. Both videos of a pair
      have the same noise and the same timestep.
    reference_P2: the same under the frozen reference.

  Returns: the loss, and per-pair metrics by name, each [P]: `margin` is the implicit
    reward of the chosen video minus that of the rejected one, `accuracy` 1 if it is
    positive and 1/2 if it is 0.
  """
  change_P2 = error_P2 - reference_P2
  margin_P = -(beta / 2) * (change_P2[:, 0] - change_P2[:, 1])
  loss_P = -F.logsigmoid(margin_P)
  metrics = {
    "loss": loss_P,
    "accuracy": (margin_P.sign() + 1) / 2,
    "margin": margin_P,
    "error_chosen": error_P2[:, 0],
    "error_rejected": error_P2[:, 1],
    "change_chosen": change_P2[:, 0],
    "change_rejected": change_P2[:, 1],
  }
  return loss_P.mean(), {name: value.detach() for name, value in metrics.items()}
