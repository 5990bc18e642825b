"""Named rewards: data only.

A term without a temperature is calibrated on the training demonstrations of a run; all
are recorded in its `run.json`. A temperature is given for what hardly moves in a
demonstration, which therefore says nothing about its scale, and for what may start
farther off than that. Weights are ours.
"""

from envs import distances
from envs import picture_distances
from envs import rewards

_ARM = distances.Angles('arm_cos', 'arm_sin')
_FINGERS = distances.Euclidean('fingers')
_PINCH = distances.Euclidean('pinch_position')

LIFT_BRICK = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.25),
    rewards.Term('fingers', _FINGERS, 0.15),
    rewards.Term('pinch', _PINCH, 0.20),
    rewards.Term('brick', distances.Euclidean('brick/position'), 0.40),
  )
)

LIFT_BRICK_RELATIVE = rewards.Reward(
  (
    rewards.Term('fingers', _FINGERS, 0.15),
    rewards.Term('tilt', distances.Tilt('pinch_rotation'), 0.10, 0.1),
    rewards.Term('reach', distances.Between('pinch_position', 'brick/position'), 0.35),
    rewards.Term(
      'reach_turn',
      distances.HeadingBetween('pinch_rotation', 'brick/orientation'),
      0.08,
      0.2,
    ),
    rewards.Term('lift', distances.Height('brick/position'), 0.32),
  )
)
"""Where the hand is to the brick, and how high that is: it does not matter where."""


def _lift_brick_pixels(camera: str) -> rewards.Reward:
  return rewards.Reward(
    (
      rewards.Term('arm', _ARM, 0.20),
      rewards.Term('fingers', _FINGERS, 0.15),
      rewards.Term('pinch', _PINCH, 0.15),
      rewards.Term('picture', picture_distances.Picture(camera), 0.15),
      rewards.Term('colour', picture_distances.Colour(camera, 'red'), 0.35),
    )
  )


LIFT_BRICK_PIXELS = _lift_brick_pixels('front')
"""From what the robot knows of itself and what a camera sees, and no object's pose.
`colour` is what sees the brick: most of a whole picture's difference is the arm's."""

LIFT_BRICK_PIXELS_WRIST = _lift_brick_pixels('wrist')
"""The same from a wrist camera, which shows a task policy well what to grasp."""

LIFT_BRICK_PIXELS_RELATIVE = rewards.Reward(
  (
    rewards.Term('fingers', _FINGERS, 0.15),
    rewards.Term('tilt', distances.Tilt('pinch_rotation'), 0.10, 0.1),
    rewards.Term('height', distances.Height('pinch_position'), 0.25),
    # Far wider than calibrated: a brick that starts six centimetres off its place must
    # still be worth going to, and no reason to end an episode.
    rewards.Term(
      'centroid', picture_distances.ColourCentroid('wrist', 'red'), 0.35, 0.12
    ),
    rewards.Term('colour', picture_distances.Colour('wrist', 'red'), 0.15, 0.12),
  )
)
"""Where the hand sees the brick, and how high the hand is: it does not matter where.
No object's pose is in it. A brick that stays behind when the hand rises is seen so."""

REACH_DUPLO = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.25),
    rewards.Term('fingers', _FINGERS, 0.15),
    rewards.Term('pinch', _PINCH, 0.40),
    rewards.Term('duplo', distances.Euclidean('duplo/position'), 0.20, 0.02),
  )
)

STACK_2_BRICKS = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.22),
    rewards.Term('fingers', _FINGERS, 0.13),
    rewards.Term('pinch', _PINCH, 0.17),
    rewards.Term('base', distances.Euclidean('base/position'), 0.10, 0.02),
    rewards.Term('top', distances.Euclidean('top/position'), 0.30),
    rewards.Term('base_turn', distances.Rotation('base/orientation'), 0.03, 0.3),
    rewards.Term('top_turn', distances.Rotation('top/orientation'), 0.05),
  )
)

STACK_2_BRICKS_RELATIVE = rewards.Reward(
  (
    rewards.Term('fingers', _FINGERS, 0.15),
    rewards.Term('tilt', distances.Tilt('pinch_rotation'), 0.10, 0.1),
    rewards.Term('reach', distances.Between('pinch_position', 'top/position'), 0.30),
    # Bricks that are both displaced by 3 cm may be 6 cm off each other's place, and be
    # turned, too: the terms must still be worth following there.
    rewards.Term(
      'reach_turn',
      distances.HeadingBetween('pinch_rotation', 'top/orientation'),
      0.07,
      0.2,
    ),
    rewards.Term(
      'stack', distances.Between('top/position', 'base/position'), 0.30, 0.03
    ),
    rewards.Term(
      'stack_turn',
      distances.HeadingBetween('top/orientation', 'base/orientation'),
      0.08,
      0.3,
    ),
  )
)
"""Where things are to each other, in the world's directions: it does not matter where
all of it is, and hardly how a brick is turned once the hand is there."""

TWO_BRICKS = rewards.Reward(
  (
    rewards.Term('arm', _ARM, 0.22),
    rewards.Term('fingers', _FINGERS, 0.13),
    rewards.Term('pinch', _PINCH, 0.17),
    rewards.Term('base', distances.Euclidean('base/position'), 0.20),
    rewards.Term('top', distances.Euclidean('top/position'), 0.20),
    rewards.Term('base_turn', distances.Rotation('base/orientation'), 0.04),
    rewards.Term('top_turn', distances.Rotation('top/orientation'), 0.04),
  )
)

PREFIX = f'{__name__}:'
"""How the name of a reward begins that is declared here."""

DEFAULTS = {
  'lift_brick': 'envs.reward_library:LIFT_BRICK',
  'reach_duplo': 'envs.reward_library:REACH_DUPLO',
  'stack_2_bricks': 'envs.reward_library:STACK_2_BRICKS',
  'two_bricks': 'envs.reward_library:TWO_BRICKS',
}
"""By task."""

PIXELS = {'lift_brick': 'envs.reward_library:LIFT_BRICK_PIXELS'}
"""By task, for what is learned from pictures."""

PIXELS_RELATIVE = {'lift_brick': 'envs.reward_library:LIFT_BRICK_PIXELS_RELATIVE'}
"""Likewise, for goals that are relative to the objects; from the camera `wrist`."""

RELATIVE = {
  'lift_brick': 'envs.reward_library:LIFT_BRICK_RELATIVE',
  'stack_2_bricks': 'envs.reward_library:STACK_2_BRICKS_RELATIVE',
}
"""By task, for goals that are relative to the objects."""
