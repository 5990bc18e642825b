"""What an experiment is, and the settings that several of them share."""

import dataclasses
from typing import Any, Literal

RECORDED = {'two_bricks': (800, 160)}
"""Task -> demonstrations in its file, to learn from and held out, if not `_USUAL`."""
_USUAL = (500, 50)


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Runs that differ in nothing but their seed."""

  task: str
  """Its demonstrations are data/<task>.hdf5, as many as `recorded` says."""
  arguments: tuple[str, ...] = ()
  """Of the launcher, beside the preset."""
  preset: str = 'laptop'
  """See `metamimic.presets.PRESETS`."""
  seeds: tuple[int, ...] = (0, 1, 2, 3)
  """A run each; four of 50 episodes make 200."""
  controls: bool = True
  """Whether the table shows its arms without a learned policy; another experiment's on
  the same demonstrations say the same."""
  learns_from: str = ''
  """Where the experience of a policy comes from that is to solve the task; empty: there
  is no such policy."""
  plain: str = ''
  """Name of the experiment that this one changes one thing of; empty: it is plain."""
  change: str = ''
  """What it changes, for a table; of an ablation."""
  fewer: int = 0
  """How many of the training demonstrations its runs have; 0: all."""
  variant: str = ''
  """Which of `VARIANTS` it is; its reward may be another than the plain one's."""
  sized: Literal['', 'layers', 'torsos'] = ''
  """Of which part of the networks the size, and whether they are normalised, is what it
  is about: layers that see features, or torsos that see pictures; empty: of none."""
  novel: tuple[str, ...] = ()
  """Skills that its runs are not trained on."""
  seen: tuple[str, str] = ('', '')
  """What its policies see, and what they are shown of a demonstration, if pictures are
  what it is about."""

  @property
  def recorded(self) -> tuple[int, int]:
    """Demonstrations in its file, to learn from and held out."""
    return RECORDED.get(self.task, _USUAL)

  @property
  def demonstrations(self) -> int:
    """How many of the training demonstrations its runs have."""
    return self.fewer or self.recorded[0]

  @property
  def all_arguments(self) -> tuple[str, ...]:
    """What the launcher is given, but for the seed and the places of files."""
    fewer = ('--train-demonstrations', str(self.fewer)) if self.fewer else ()
    novel = ('--without-skills', *self.novel) if self.novel else ()
    return ('--preset', self.preset, *self.arguments, *fewer, *novel)


def beside(task: str, *arguments: str, **values: Any) -> Experiment:
  """Returns an experiment whose controls another one shows."""
  return Experiment(task, arguments, controls=False, **values)


LIFT, STACK = 'lift_brick', 'stack_2_bricks'
PACE = {LIFT: ('60000', '80000', '120000'), STACK: ('120000', '240000', '300000')}
"""By task: learner steps of imitation, of the task policy beside it, of one alone."""
NEVER = ('--task.d4pg.reset-at', '0')
AS_SEEN = ('--task.no-turned', *NEVER)
PLAIN = (*AS_SEEN, '--task.d4pg.critics', '1', '--task.d4pg.cloning-weight', '5')
"""The task policy and its baselines without what turned out to be better."""


def both(
  task: str, *arguments: str, imitation: str = '', solving: str = ''
) -> tuple[str, ...]:
  """Returns the arguments for both learners, of other steps than usual if given."""
  usual = PACE[task]
  steps = (
    *('--learner-steps', imitation or usual[0]),
    *('--task.learner-steps', solving or usual[1]),
  )
  return ('--task.learn', *steps, *arguments)
