"""Studies of our own choices and of the size of networks, as data."""

from benchmarks import experiment
from metamimic import presets

_LIFT = experiment.LIFT
STUDIES: dict[str, experiment.Experiment] = {}
"""By name; tables show them in this order."""


def _widths(units: int) -> tuple[str, ...]:
  return tuple(
    word
    for network in ('policy', 'critic')
    for word in (f'--network.{network}-width', str(units))
  )


for _width, _blocks in ((64, 1), (256, 1), (256, 4), (512, 4)):
  for _normalised in (True, False):
    _name = f'{_LIFT}_network_{_width}x{_blocks}' + ('' if _normalised else '_plain')
    STUDIES[_name] = experiment.beside(
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
    STUDIES[f'{_LIFT}_torso_{_name}' + ('' if _normalised else '_plain')] = (
      experiment.beside(
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
  STUDIES[f'{_LIFT}_ablation_{_name}'] = experiment.beside(
    _LIFT, *_arguments, plain=_LIFT, change=_change
  )
for _name, (_change, _arguments) in _TASK_ABLATIONS.items():
  STUDIES[f'{_LIFT}_ablation_{_name}'] = experiment.beside(
    _LIFT,
    *experiment.both(_LIFT, *experiment.PLAIN, *_arguments),
    learns_from='imitation and task actors',
    plain=f'{_LIFT}_task',
    change=_change,
  )
