"""Named rewards: data only.

A term without a temperature is calibrated on the training demonstrations of a run; all
are recorded in its `run.json`. A temperature is given only for what hardly moves in a
demonstration, which therefore says nothing about its scale. Weights are ours.
"""

from envs import rewards

_ARM = rewards.Angles('arm_cos', 'arm_sin')
_FINGERS = rewards.Euclidean('fingers')
_PINCH = rewards.Euclidean('pinch_position')

LIFT_BRICK = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.25),
    rewards.Term('fingers', _FINGERS, 0.15),
    rewards.Term('pinch', _PINCH, 0.20),
    rewards.Term('brick', rewards.Euclidean('brick/position'), 0.40),
  )
)

REACH_DUPLO = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.25),
    rewards.Term('fingers', _FINGERS, 0.15),
    rewards.Term('pinch', _PINCH, 0.40),
    rewards.Term('duplo', rewards.Euclidean('duplo/position'), 0.20, 0.02),
  )
)

STACK_2_BRICKS = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.22),
    rewards.Term('fingers', _FINGERS, 0.13),
    rewards.Term('pinch', _PINCH, 0.17),
    rewards.Term('base', rewards.Euclidean('base/position'), 0.10, 0.02),
    rewards.Term('top', rewards.Euclidean('top/position'), 0.30),
    rewards.Term('base_turn', rewards.Rotation('base/orientation'), 0.03, 0.3),
    rewards.Term('top_turn', rewards.Rotation('top/orientation'), 0.05),
  )
)

TWO_BRICKS = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.22),
    rewards.Term('fingers', _FINGERS, 0.13),
    rewards.Term('pinch', _PINCH, 0.17),
    rewards.Term('base', rewards.Euclidean('base/position'), 0.20),
    rewards.Term('top', rewards.Euclidean('top/position'), 0.20),
    rewards.Term('base_turn', rewards.Rotation('base/orientation'), 0.04),
    rewards.Term('top_turn', rewards.Rotation('top/orientation'), 0.04),
  )
)

DEFAULTS = {
  'lift_brick': 'envs.reward_library:LIFT_BRICK',
  'reach_duplo': 'envs.reward_library:REACH_DUPLO',
  'stack_2_bricks': 'envs.reward_library:STACK_2_BRICKS',
  'two_bricks': 'envs.reward_library:TWO_BRICKS',
}
