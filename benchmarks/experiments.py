"""The experiments that the README and docs/ show, as data."""

import dataclasses

from benchmarks import experiment
from benchmarks import studies
from envs import reward_library

_LIFT, _STACK = experiment.LIFT, experiment.STACK
EXPERIMENTS = {
  _LIFT: experiment.Experiment(_LIFT),
  f'{_LIFT}_long': experiment.beside(_LIFT, '--learner-steps', '120000'),
  f'{_LIFT}_bc': experiment.beside(
    _LIFT, '--algorithm', 'bc', '--learner-steps', '20000'
  ),
  'reach_duplo': experiment.Experiment('reach_duplo', ('--learner-steps', '20000')),
  _STACK: experiment.Experiment(_STACK, ('--learner-steps', '120000')),
  f'{_STACK}_long': experiment.beside(_STACK, '--learner-steps', '240000'),
  f'{_STACK}_bc': experiment.beside(
    _STACK, '--algorithm', 'bc', '--learner-steps', '40000'
  ),
}
"""By name; tables show them in this order."""
# What the README shows first has one seed more.
EXPERIMENTS = {
  name: dataclasses.replace(usual, seeds=(0, 1, 2, 3, 4))
  for name, usual in EXPERIMENTS.items()
}

FARTHEST = {_LIFT: '.06', _STACK: '.03'}
"""By task: how far objects are displaced in training, in m. The lifting hand is wide,
and two centimetres do not matter to it."""
TURNED, NOISE = '.3', '.3'
"""How far they are turned, to either side, in rad; and noise on the actions, of full
scale 1."""


def _displaced(task: str) -> tuple[str, ...]:
  return (
    *('--imitation.disturbance.displacement', FARTHEST[task]),
    *('--imitation.disturbance.turn', TURNED),
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
    ('noisy', _usual, ('--imitation.disturbance.action-noise', NOISE)),
  ):
    EXPERIMENTS[f'{_task}_{_name}'] = experiment.beside(
      _task, '--learner-steps', _steps, *_arguments, variant=_name
    )

# About as many environment steps each, of all actors together.
_ALONE = ('--task.replay.samples-per-insert', '51', '--task.learner-steps')
_RESET = {_LIFT: (40_000, '120000'), _STACK: (140_000, '340000')}
"""By task: learner steps, about half, after which the task policy begins anew, once;
and all of them where it has more than usual."""


def _anew(task: str, steps: str) -> tuple[str, ...]:
  return '--task.d4pg.reset-at', str(_RESET[task][0] / int(steps))


for _task, (_, _, _alone) in experiment.PACE.items():
  EXPERIMENTS |= {
    f'{_task}_task': experiment.Experiment(
      _task,
      experiment.both(_task, *experiment.PLAIN),
      learns_from='imitation and task actors',
    ),
    f'{_task}_task_self_imitation': experiment.beside(
      _task,
      *experiment.both(_task, *experiment.AS_SEEN, '--task.learner', 'self_imitation'),
      learns_from='imitation and task actors, by self-imitation',
    ),
  }
  _usual, _longer = experiment.PACE[_task][1], _RESET[_task][1]
  _once = _anew(_task, _usual)
  for _name, _learns_from, _arguments, _steps in (
    ('two_critics', '', experiment.AS_SEEN, _alone),
    ('turned', ', turned', experiment.NEVER, _usual),
    (
      'hurried',
      ', turned, discount .97',
      (*experiment.NEVER, '--task.d4pg.discount', '.97'),
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
    EXPERIMENTS[f'{_task}_task_{_name}'] = experiment.beside(
      _task,
      *experiment.both(_task, *_arguments, solving=_steps),
      learns_from='imitation and task actors, two critics, a fifth of the cloning'
      f'{_learns_from}',
    )
  EXPERIMENTS |= {
    f'{_task}_task_displaced': experiment.Experiment(
      _task,
      experiment.both(
        _task,
        *(*experiment.PLAIN, '--task.disturbance.displacement', FARTHEST[_task]),
        *('--task.disturbance.turn', TURNED),
      ),
      learns_from='imitation and task actors, objects displaced',
      controls=False,
    ),
    f'{_task}_task_from_imitation': experiment.beside(
      _task,
      *experiment.both(
        _task, *experiment.PLAIN, '--task.imitation-share', '1', imitation=_alone
      ),
      learns_from='imitation actors',
    ),
    f'{_task}_d4pg': experiment.beside(
      _task,
      *('--algorithm', 'd4pg', *experiment.PLAIN, *_ALONE, _alone),
      learns_from='task actors',
    ),
    f'{_task}_d4pgfd': experiment.beside(
      _task,
      *('--algorithm', 'd4pgfd', *experiment.PLAIN, *_ALONE, _alone),
      learns_from='task actors, demonstrations',
    ),
    f'{_task}_d4pgfd_reset': experiment.beside(
      _task,
      *('--algorithm', 'd4pgfd', '--task.d4pg.reset-at', '.5', *_ALONE, _alone),
      learns_from='task actors, demonstrations, two critics, a fifth of the cloning, '
      'turned, begun anew once',
    ),
    f'{_task}_bc_no_goal': experiment.beside(
      _task,
      *('--algorithm', 'bc_no_goal', '--task.no-turned', '--learner-steps', '40000'),
      learns_from='demonstrations',
    ),
  }

for _count in (10, 50, 100):
  EXPERIMENTS[f'{_LIFT}_demonstrations_{_count}'] = experiment.beside(
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
  EXPERIMENTS[f'{_LIFT}_{_name}'] = experiment.beside(
    _LIFT, *_arguments, preset='pixels', seen=_seen
  )

_WRIST_REWARD = f'{reward_library.PREFIX}LIFT_BRICK_PIXELS_WRIST'
_WRIST = ('--pixels.cameras', 'wrist')
for _name, _arguments in (
  ('pixels_relative', ()),
  ('pixels_relative_blind', ('--pixels.blind',)),
):
  EXPERIMENTS[f'{_LIFT}_{_name}'] = experiment.beside(
    _LIFT,
    *(*_WRIST, '--imitation.relative', *_displaced(_LIFT), *_arguments),
    *('--learner-steps', '40000'),
    preset='pixels',
    variant='relative',
  )

# About as many environment steps each, of all actors together, as above.
EXPERIMENTS |= {
  f'{_LIFT}_pixels_task': experiment.beside(
    _LIFT,
    *(*_WRIST, '--imitation.reward', _WRIST_REWARD, '--task.learn'),
    *('--task.learner-steps', '30000', '--task.start-after', '15000'),
    preset='pixels',
    learns_from='imitation and task actors, from pictures',
  ),
  f'{_LIFT}_pixels_d4pg': experiment.beside(
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
EXPERIMENTS[YARDSTICK] = experiment.beside(
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
  EXPERIMENTS[f'two_bricks_without_{"_".join(_novel)}'] = experiment.Experiment(
    'two_bricks',
    ('--learner-steps', '80000', '--evaluation.final-episodes', '160'),
    novel=_novel,
  )

EXPERIMENTS |= studies.STUDIES
