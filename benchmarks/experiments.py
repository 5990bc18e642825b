"""The experiments that the README and docs/ show, as data."""

import dataclasses
import pathlib
from typing import Any, Literal

from envs import reward_library
from metamimic import presets

RUNS = pathlib.Path(__file__).resolve().parents[1] / 'runs' / 'results'
"""Folder of the runs."""
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


def _beside(task: str, *arguments: str, **values: Any) -> Experiment:
  """Returns an experiment whose controls another one shows."""
  return Experiment(task, arguments, controls=False, **values)


_LIFT, _STACK = 'lift_brick', 'stack_2_bricks'
EXPERIMENTS = {
  _LIFT: Experiment(_LIFT),
  f'{_LIFT}_long': _beside(_LIFT, '--learner-steps', '120000'),
  f'{_LIFT}_bc': _beside(_LIFT, '--algorithm', 'bc', '--learner-steps', '20000'),
  'reach_duplo': Experiment('reach_duplo', ('--learner-steps', '20000')),
  _STACK: Experiment(_STACK, ('--learner-steps', '120000')),
  f'{_STACK}_long': _beside(_STACK, '--learner-steps', '240000'),
  f'{_STACK}_bc': _beside(_STACK, '--algorithm', 'bc', '--learner-steps', '40000'),
}
"""By name; tables show them in this order."""
# What the README shows first has one seed more.
EXPERIMENTS = {
  name: dataclasses.replace(experiment, seeds=(0, 1, 2, 3, 4))
  for name, experiment in EXPERIMENTS.items()
}

_FARTHEST = {_LIFT: '.06', _STACK: '.03'}
"""By task: how far objects are displaced in training, in m. The lifting hand is wide,
and two centimetres do not matter to it."""


def _displaced(task: str) -> tuple[str, ...]:
  return (
    *('--imitation.disturbance.displacement', _FARTHEST[task]),
    *('--imitation.disturbance.turn', '.3'),
  )


# What goes wrong in training: bricks that are displaced and turned, with goals as they
# are in the demonstration and relative to the bricks; noise on the actions.
VARIANTS = ('relative', 'displaced', 'noisy')
"""Ways to train MetaMimic for what goes wrong, on lifting for as many steps each."""
BESIDE_VARIANTS = {_STACK: f'{_STACK}_long'}
"""Plain experiment -> what stands for it beside its variants, of as many steps as the
longest of them."""
for _task, _usual, _relative in (
  (_LIFT, '40000', '40000'),
  (_STACK, '120000', '240000'),  # There, relative goals take longer to learn.
):
  for _name, _steps, _arguments in (
    ('relative', _relative, ('--imitation.relative', *_displaced(_task))),
    ('displaced', _usual, _displaced(_task)),
    ('noisy', _usual, ('--imitation.disturbance.action-noise', '.3')),
  ):
    EXPERIMENTS[f'{_task}_{_name}'] = _beside(
      _task, '--learner-steps', _steps, *_arguments, variant=_name
    )

# About as many environment steps each, of all actors together.
_ALONE = ('--task.replay.samples-per-insert', '51', '--task.learner-steps')
_PACE = {_LIFT: ('60000', '80000', '120000'), _STACK: ('120000', '240000', '300000')}
"""By task: learner steps of imitation, of the task policy beside it, of one alone."""
_RESET = {_LIFT: (40_000, '120000'), _STACK: (140_000, '340000')}
"""By task: learner steps, about half, after which the task policy begins anew, once;
and all of them where it has more than usual."""
_NEVER = ('--task.d4pg.reset-at', '0')
_AS_SEEN = ('--task.no-turned', *_NEVER)
_PLAIN = (*_AS_SEEN, '--task.d4pg.critics', '1', '--task.d4pg.cloning-weight', '5')
"""The task policy and its baselines without what turned out to be better."""


def _anew(task: str, steps: str) -> tuple[str, ...]:
  return '--task.d4pg.reset-at', str(_RESET[task][0] / int(steps))


def _both(
  task: str, *arguments: str, imitation: str = '', solving: str = ''
) -> tuple[str, ...]:
  """Returns the arguments for both learners, of other steps than usual if given."""
  usual = _PACE[task]
  steps = (
    *('--learner-steps', imitation or usual[0]),
    *('--task.learner-steps', solving or usual[1]),
  )
  return ('--task.learn', *steps, *arguments)


for _task, (_, _, _alone) in _PACE.items():
  EXPERIMENTS |= {
    f'{_task}_task': Experiment(
      _task, _both(_task, *_PLAIN), learns_from='imitation and task actors'
    ),
    f'{_task}_task_self_imitation': _beside(
      _task,
      *_both(_task, *_PLAIN, '--task.learner', 'self_imitation'),
      learns_from='imitation and task actors, by self-imitation',
    ),
  }
  _usual, _longer = _PACE[_task][1], _RESET[_task][1]
  _once = _anew(_task, _usual)
  for _name, _learns_from, _arguments, _steps in (
    ('two_critics', '', _AS_SEEN, _alone),
    ('turned', ', turned', _NEVER, _usual),
    (
      'hurried',
      ', turned, discount .97',
      (*_NEVER, '--task.d4pg.discount', '.97'),
      _usual,
    ),
    ('reset', ', turned, begun anew once', _once, _usual),
    (
      'reset_long',
      ', turned, begun anew once, longer',
      _anew(_task, _longer),
      _longer,
    ),
    (
      'reset_farsighted',
      ', turned, begun anew once, discount .995',
      (*_once, '--task.d4pg.discount', '.995'),
      _usual,
    ),
    (
      'reset_own',
      ', turned, begun anew once, half its own experience',
      (*_once, '--task.imitation-share', '.5', '--task.patience', '2.5'),
      _usual,
    ),
  ):
    EXPERIMENTS[f'{_task}_task_{_name}'] = _beside(
      _task,
      *_both(_task, *_arguments, solving=_steps),
      learns_from='imitation and task actors, two critics, a fifth of the cloning'
      f'{_learns_from}',
    )
  EXPERIMENTS |= {
    f'{_task}_task_displaced': Experiment(
      _task,
      _both(
        _task,
        *(*_PLAIN, '--task.disturbance.displacement', _FARTHEST[_task]),
        *('--task.disturbance.turn', '.5'),
      ),
      learns_from='imitation and task actors, objects displaced',
      controls=False,
    ),
    f'{_task}_task_from_imitation': _beside(
      _task,
      *_both(_task, *_PLAIN, '--task.imitation-share', '1', imitation=_alone),
      learns_from='imitation actors',
    ),
    f'{_task}_d4pg': _beside(
      _task,
      *('--algorithm', 'd4pg', *_PLAIN, *_ALONE, _alone),
      learns_from='task actors',
    ),
    f'{_task}_d4pgfd': _beside(
      _task,
      *('--algorithm', 'd4pgfd', *_PLAIN, *_ALONE, _alone),
      learns_from='task actors, demonstrations',
    ),
    f'{_task}_d4pgfd_reset': _beside(
      _task,
      *('--algorithm', 'd4pgfd', '--task.d4pg.reset-at', '.5', *_ALONE, _alone),
      learns_from='task actors, demonstrations, two critics, a fifth of the cloning, '
      'turned, begun anew once',
    ),
    f'{_task}_bc_no_goal': _beside(
      _task,
      *('--algorithm', 'bc_no_goal', '--task.no-turned', '--learner-steps', '40000'),
      learns_from='demonstrations',
    ),
  }

for _count in (10, 50, 100):
  EXPERIMENTS[f'{_LIFT}_demonstrations_{_count}'] = _beside(
    _LIFT, plain=_LIFT, fewer=_count
  )

# Two cameras, because one does not see what moves along its own axis.
_STRICT = (
  *('--pixels.cameras', 'front', 'side', '--pixels.goal', 'pictures'),
  *('--pixels.look-ahead', '3'),
)
_CLONE = ('--algorithm', 'bc')
_UNTOLD = (*_STRICT, '--pixels.no-tell-critic')
_BODY, _TWO = 'body', 'body, two cameras'
_BOTH = (f'{_BODY}, one camera', f'{_BODY}, picture')
for _name, _seen, _arguments in (
  ('pixels', _BOTH, ()),
  ('pixels_blind', (_BODY, _BODY), ('--pixels.blind',)),
  ('pixels_bc', _BOTH, _CLONE),
  ('pixels_strict', (_TWO, 'pictures'), (*_STRICT, '--learner-steps', '40000')),
  ('pixels_strict_untold', (f'{_TWO}, its critic no more', 'pictures'), _UNTOLD),
  ('pixels_strict_bc', (_TWO, 'pictures'), (*_STRICT, *_CLONE)),
):
  EXPERIMENTS[f'{_LIFT}_{_name}'] = _beside(
    _LIFT, *_arguments, preset='pixels', seen=_seen
  )

_WRIST_REWARD = f'{reward_library.PREFIX}LIFT_BRICK_PIXELS_WRIST'
_WRIST = ('--pixels.cameras', 'wrist')
for _name, _arguments in (
  ('pixels_relative', ()),
  ('pixels_relative_blind', ('--pixels.blind',)),
):
  EXPERIMENTS[f'{_LIFT}_{_name}'] = _beside(
    _LIFT,
    *(*_WRIST, '--imitation.relative', *_displaced(_LIFT), *_arguments),
    *('--learner-steps', '40000'),
    preset='pixels',
    variant='relative',
  )

# About as many environment steps each, of all actors together, as above.
EXPERIMENTS |= {
  f'{_LIFT}_pixels_task': _beside(
    _LIFT,
    *(*_WRIST, '--imitation.reward', _WRIST_REWARD, '--task.learn'),
    *('--task.learner-steps', '30000', '--task.start-after', '15000'),
    preset='pixels',
    learns_from='imitation and task actors, from pictures',
  ),
  f'{_LIFT}_pixels_d4pg': _beside(
    _LIFT,
    *(*_WRIST, '--algorithm', 'd4pg', '--task.learner-steps', '31000'),
    *('--task.replay.samples-per-insert', '25.5'),
    preset='pixels',
    learns_from='task actors, from pictures',
  ),
}

YARDSTICK = 'reach_duplo_pixels_d4pg'
"""What is compared with what others have published: from pictures, with dm_control's
own reward and no demonstration; see `benchmarks.yardstick`."""
EXPERIMENTS[YARDSTICK] = _beside(
  'reach_duplo',
  *('--algorithm', 'd4pg', '--task.reward', 'dense', '--task.learner-steps', '90000'),
  *('--task.d4pg.v-max', '100', '--task.d4pg.n-step', '3'),
  *('--task.d4pg.cloning-weight', '0', '--task.actor.sigma', '.2'),
  *('--task.replay.samples-per-insert', '32', '--task.replay.max-size', '130000'),
  preset='pixels',
  learns_from="task actors, dm_control's own reward, from pictures",
)

# Of each pair one skill has something in common with those that are left, one has not.
for _novel in (
  ('reach', 'unstack'),
  ('push', 'stack'),
  ('lift_top', 'wave'),
  ('lift_base', 'beside'),
):
  EXPERIMENTS[f'two_bricks_without_{"_".join(_novel)}'] = Experiment(
    'two_bricks',
    ('--learner-steps', '80000', '--evaluation.final-episodes', '160'),
    novel=_novel,
  )


def _widths(units: int) -> tuple[str, ...]:
  return tuple(
    word
    for network in ('policy', 'critic')
    for word in (f'--network.{network}-width', str(units))
  )


for _width, _blocks in ((64, 1), (256, 1), (256, 4), (512, 4)):
  for _normalised in (True, False):
    _name = f'{_LIFT}_network_{_width}x{_blocks}' + ('' if _normalised else '_plain')
    EXPERIMENTS[_name] = _beside(
      _LIFT,
      *('--learner-steps', '20000', *_widths(_width)),
      *('--network.policy-blocks', str(_blocks)),
      *('--network.critic-blocks', str(_blocks)),
      *(() if _normalised else ('--network.no-normalise',)),
      seeds=(0, 1, 2),
      sized='layers',
    )

for _name, _torsos in (
  ('small', presets.SMALL_TORSOS),
  ('large', presets.LARGE_TORSOS),
):
  for _normalised in (True, False):
    # A quarter of their filters and less than half of the pictures' sides, for 2 cores.
    _filters = (str(filters // 4) for filters in _torsos.filters)
    EXPERIMENTS[f'{_LIFT}_torso_{_name}' + ('' if _normalised else '_plain')] = _beside(
      _LIFT,
      *('--pixels.size', '32', '--network.torso', _torsos.torso),
      *('--network.filters', *_filters),
      *('--network.torso-blocks', str(_torsos.torso_blocks)),
      *('--network.embedding', str(_torsos.embedding // 4)),
      *(() if _normalised else ('--network.no-normalise',)),
      *('--d4pg.batch-size', '32', '--replay.samples-per-insert', '12.8'),
      *('--learner-steps', '10000'),
      preset='pixels',
      seeds=(0, 1, 2),
      sized='torsos',
    )

_IMITATION_ABLATIONS = {
  'no_starts_within': (
    "episodes start at the demonstration's start",
    ('--imitation.start-within', '0'),
  ),
  'no_early_end': ('episodes never end early', ('--imitation.early-end', '0')),
  'discount_99': (
    'discount .99, atoms to 100',
    ('--d4pg.discount', '.99', '--d4pg.v-max', '100'),
  ),
  'n_step_1': ('n = 1', ('--d4pg.n-step', '1')),
  'n_step_5': ('n = 5', ('--d4pg.n-step', '5')),
  'look_ahead_1': ('only the next frame as the goal', ('--imitation.look-ahead', '1')),
  'temperature_half': (
    'calibrated temperatures × ½',
    ('--imitation.temperature-factor', '.5'),
  ),
  'temperature_double': (
    'calibrated temperatures × 2',
    ('--imitation.temperature-factor', '2'),
  ),
  'no_normalisation': ('no layer normalisation', ('--network.no-normalise',)),
  'width_64': ('64 units a layer', _widths(64)),
  'width_512': ('512 units a layer', _widths(512)),
}
_TASK_ABLATIONS = {
  'task_no_cloning': (
    'no pull to replayed actions',
    ('--task.d4pg.cloning-weight', '0'),
  ),
  'task_no_starts_within': (
    "episodes start as the task's own do",
    ('--task.start-within', '0'),
  ),
  'task_no_target_noise': (
    "no noise on the target's action",
    ('--task.d4pg.target-noise', '0'),
  ),
}
for _name, (_change, _arguments) in _IMITATION_ABLATIONS.items():
  EXPERIMENTS[f'{_LIFT}_ablation_{_name}'] = _beside(
    _LIFT, *_arguments, plain=_LIFT, change=_change
  )
for _name, (_change, _arguments) in _TASK_ABLATIONS.items():
  EXPERIMENTS[f'{_LIFT}_ablation_{_name}'] = _beside(
    _LIFT,
    *_both(_LIFT, *_PLAIN, *_arguments),
    learns_from='imitation and task actors',
    plain=f'{_LIFT}_task',
    change=_change,
  )
