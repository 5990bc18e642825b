"""Scripted demonstrators of the tasks, and the two kinds of people they stand for.

Training demonstrations come from `TRAIN_RANGE`. Held-out ones come from
`HELD_OUT_RANGE`: slower or faster, lower or higher, with wider detours than anything
seen in training, so that imitating them is more than recalling.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math

import numpy as np

from envs import scene as scene_lib
from metamimic.demonstrations import skills

Interval = tuple[float, float]
Expert = Callable[[skills.Hand], skills.Actions]
"""Takes a hand in a fresh scene and yields actions until the task is done."""

_LIFT_HEIGHT = 0.22  # m, four times what counts as lifted
_CARRY_HEIGHT = 0.10  # m, enough to clear a brick with one held underneath
_BRICK_ON_STUDS = 0.0192 + 0.0046  # m between bottom faces of two bricks not clicked
_RELEASE = 0.004  # m above the studs


@dataclasses.dataclass(frozen=True)
class Range:
  """What a style is drawn from: each value from the union of some intervals."""

  speed: Sequence[Interval]
  hover: Sequence[Interval]
  lift: Sequence[Interval]
  pre_shape: Sequence[Interval]
  close_steps: Sequence[Interval]
  detour: Sequence[Interval]
  detour_probability: float
  pause_probability: float

  def sample(self, rng: np.random.Generator) -> skills.Style:
    """Draws a style, uniformly and each value by itself."""
    return skills.Style(
      speed=_draw(self.speed, rng),
      hover=_draw(self.hover, rng),
      lift=_draw(self.lift, rng),
      pre_shape=_draw(self.pre_shape, rng),
      close_steps=round(_draw(self.close_steps, rng)),
      detour=_draw(self.detour, rng),
      detour_probability=self.detour_probability,
      pause_probability=self.pause_probability,
    )


def _draw(intervals: Sequence[Interval], rng: np.random.Generator) -> float:
  lengths = np.array([high - low for low, high in intervals])
  low, high = intervals[rng.choice(len(intervals), p=lengths / lengths.sum())]
  return float(rng.uniform(low, high))


TRAIN_RANGE = Range(
  speed=((0.70, 0.95),),
  hover=((0.06, 0.09),),
  lift=((0.90, 1.10),),
  pre_shape=((0.60, 0.70),),
  close_steps=((24, 31),),
  detour=((0.03, 0.07),),
  detour_probability=0.3,
  pause_probability=0.3,
)
"""People seen in training."""

HELD_OUT_RANGE = Range(
  speed=((0.62, 0.70), (0.95, 1.10)),
  hover=((0.05, 0.06), (0.09, 0.11)),
  lift=((0.80, 0.90), (1.10, 1.20)),
  pre_shape=((0.54, 0.60), (0.70, 0.75)),
  close_steps=((32, 36),),
  detour=((0.07, 0.10),),
  detour_probability=0.3,
  pause_probability=0.3,
)
"""People kept for evaluation; no value lies within the training range."""

RANGES: Mapping[str, Range] = {'train': TRAIN_RANGE, 'valid': HELD_OUT_RANGE}
"""Split -> what its demonstrators' styles are drawn from."""


def lift_brick(hand: skills.Hand) -> skills.Actions:
  """Grasps the brick and lifts it some 20 cm."""
  yield from hand.approach('brick', _grasp_turn(hand, 'brick', ()))
  yield from hand.close('brick')
  yield from hand.lift('brick', _LIFT_HEIGHT)
  yield from hand.hold(6, skills.CLOSED)


def reach_duplo(hand: skills.Hand) -> skills.Actions:
  """Brings the open hand to where it could grasp the brick, and stays there."""
  yield from hand.approach('duplo', _grasp_turn(hand, 'duplo', ()))
  yield from hand.hold(8, None)


def stack_2_bricks(hand: skills.Hand) -> skills.Actions:
  """Puts the top brick on the base, parallel or crosswise, and lets go."""
  yield from hand.approach('top', _grasp_turn(hand, 'top', ('base',)))
  yield from hand.close('top')
  yield from hand.lift('top', _CARRY_HEIGHT)
  yield from hand.maybe_pause(skills.CLOSED)
  yield from hand.maybe_detour(skills.CLOSED, height=0.10)
  yield from hand.place('top', 'base', math.pi / 2, _BRICK_ON_STUDS, _RELEASE)


EXPERTS: Mapping[str, Expert] = {
  'lift_brick': lift_brick,
  'reach_duplo': reach_duplo,
  'stack_2_bricks': stack_2_bricks,
}
"""Task -> its demonstrator."""

# Points of a brick seen from above, m, in its own frame.
_OUTLINE = np.stack(
  np.meshgrid(np.linspace(-0.017, 0.017, 5), np.linspace(-0.033, 0.033, 9)), -1
).reshape(-1, 2)


def _grasp_turn(hand: skills.Hand, name: str, others: Sequence[str]) -> float:
  """Returns the rotation of the hand relative to an object at which to grasp it.

  Of the four along the object's sides: the one whose way for the fingers is clear of
  the others, then the one across the narrow side, then the least turn of the wrist.
  """
  scene = hand.scene
  facing = skills.yaw_of(scene.object_orientation(name))
  costs = []
  for quarter in range(4):
    turn = skills.wrap(facing + quarter * math.pi / 2 - hand.yaw, 2 * math.pi)
    blocked = sum(
      _points_in_the_way(scene, name, other, hand.yaw + turn, hand.style.pre_shape)
      for other in others
    )
    cost = 3.0 * (blocked > 0) + 0.06 * blocked + 0.5 * (quarter % 2) + 0.3 * abs(turn)
    costs.append((cost, quarter * math.pi / 2))
  return min(costs)[1]


def _points_in_the_way(
  scene: scene_lib.Scene, name: str, other: str, yaw: float, pre_shape: float
) -> int:
  """Counts points of `other` where the fingers pass that close on `name`."""
  turned = skills.yaw_of(scene.object_orientation(other))
  cos, sin = math.cos(turned), math.sin(turned)
  points = _OUTLINE @ np.array([[cos, sin], [-sin, cos]])
  points += (scene.object_position(other) - scene.object_position(name))[:2]
  cos, sin = math.cos(yaw), math.sin(yaw)
  x, y = points @ [cos, sin], points @ [sin, -cos]
  # Reach of a fingertip at this opening, from 8.3 cm wide open, with its thickness.
  reach = 0.041 + 0.058 * (1 - (pre_shape - 0.15) / 0.9)
  single = (x > 0.008) & (x < reach) & (y > -0.034) & (y < 0)
  pair = (x < -0.008) & (x > -reach) & (y > -0.062) & (y < 0.034)
  return int((single | pair).sum())
