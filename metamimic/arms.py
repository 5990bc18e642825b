"""The arms of an evaluation: how people call them, and which of them see actions."""

from collections.abc import Mapping
import dataclasses


@dataclasses.dataclass(frozen=True)
class Arm:
  """Whoever acts in an evaluation."""

  label: str
  """Its name, for people."""
  colour: str
  """Its own in every figure, as #RRGGBB."""
  sees_actions: bool = False
  """Whether it has, or was trained on, the demonstrators' actions."""

  @property
  def full_label(self) -> str:
    """Its name, and whether it sees actions."""
    return f'{self.label} (sees actions)' if self.sees_actions else self.label


# Okabe and Ito's colours first, which colour-blind readers can tell apart.
ARMS: Mapping[str, Arm] = {
  'metamimic': Arm('MetaMimic', '#0072B2'),
  'metamimic_relative': Arm(
    'MetaMimic, relative goals, displaced in training', '#6A3D9A'
  ),
  'metamimic_displaced': Arm('MetaMimic, displaced in training', '#B2A1D9'),
  'metamimic_pixels': Arm('MetaMimic, from pictures', '#D62728'),
  'metamimic_blind': Arm('MetaMimic, kept blind', '#2F4F4F'),
  'metamimic_pixels_relative': Arm(
    'MetaMimic, relative goals from a wrist camera', '#8B0000'
  ),
  'metamimic_blind_relative': Arm('MetaMimic, relative goals, kept blind', '#6B8E23'),
  'bc_pixels': Arm('behavioural cloning, from pictures', '#F7B6D2', sees_actions=True),
  'metamimic_noisy': Arm('MetaMimic, noise in training', '#1B4F72'),
  'task_policy': Arm('task policy', '#56B4E9'),
  'task_policy_displaced': Arm('task policy, displaced in training', '#0B3954'),
  'bc': Arm('behavioural cloning', '#CC79A7', sees_actions=True),
  'bc_no_goal': Arm('behavioural cloning without a goal', '#F0E442', sees_actions=True),
  'd4pg': Arm('D4PG', '#000000'),
  'd4pgfd': Arm('D4PGfD', '#8C564B', sees_actions=True),
  'replay': Arm('open-loop replay', '#009E73', sees_actions=True),
  'tracker': Arm('joint tracker', '#E69F00'),
  'zero': Arm('no action', '#7A7A7A'),
  'wrong_demonstration': Arm('MetaMimic, shown another demonstration', '#D55E00'),
  'no_demonstration': Arm('MetaMimic, shown nothing', '#999999'),
}
"""By name, as in the column `arm` of an evaluation's rows."""
