"""Tests of agents.builder where a run learns from pictures."""

from collections.abc import Mapping
import contextlib
import dataclasses
import pathlib
import threading
from typing import Any

import numpy as np
import pytest
import reverb
import tensorflow as tf

from agents import adders
from agents import builder
from agents import environments
from agents import learners
from agents import replay
from agents import sampling
from agents.d4pg import demonstrators
from envs import imitation as imitation_lib
from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic import config as config_lib
from metamimic import loading
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import presets
from metamimic import run_description
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage

SIZE = 32
_TINY = presets.PRESETS['tiny'][1]
_REPLAY = dataclasses.replace(_TINY.replay, min_size=20)
CONFIG = dataclasses.replace(
  _TINY,
  learner_steps=6,
  pixels=config_lib.PixelsConfig(('front',), SIZE),
  network=config_lib.NetworkConfig(
    policy_width=8, critic_width=8, filters=(4,), embedding=8
  ),
  d4pg=dataclasses.replace(_TINY.d4pg, batch_size=16, steps_per_call=2),
  bc=config_lib.BCConfig(batch_size=16, steps_per_call=2),
  replay=_REPLAY,
  actor=dataclasses.replace(_TINY.actor, environments=2),
  task=dataclasses.replace(
    _TINY.task,
    learner_steps=6,
    start_after=20,
    d4pg=dataclasses.replace(_TINY.task.d4pg, batch_size=16, steps_per_call=2),
    replay=_REPLAY,
    actor=dataclasses.replace(_TINY.actor, environments=1),
  ),
  evaluation=dataclasses.replace(_TINY.evaluation, videos=0),
)
STEPS = 30  # Of each actor.


@pytest.fixture(name='path', scope='module')
def path_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
  """Returns a file of demonstrations; what is drawn of them stays beside it."""
  path = str(tmp_path_factory.mktemp('demonstrations') / 'lift.hdf5')
  demonstrations, _ = recording.record('lift_brick', train=2, valid=2, seed=0)
  storage.save(path, demonstrations)
  return path


def _make(
  path: str,
  run_dir: pathlib.Path,
  algorithm: Any = 'metamimic',
  learn: bool = False,
  torso: Any = 'patches',
  task_learner: Any = 'd4pg',
  **pixels: Any,
) -> builder.Builder:
  config = dataclasses.replace(
    CONFIG,
    network=dataclasses.replace(CONFIG.network, torso=torso),
    demonstrations=path,
    algorithm=algorithm,
    pixels=dataclasses.replace(CONFIG.pixels, **pixels),
    task=dataclasses.replace(CONFIG.task, learn=learn, learner=task_learner),
  )
  run_dir.mkdir()
  preparation.prepare(config, str(run_dir))
  return builder.Builder(config, str(run_dir), threading.Event())


def _act(made: builder.Builder, client: reverb.Client, index: int) -> Any:
  """Lets an actor do its steps, and end; returns it."""
  actor = made.actor(client, index)
  rounds = STEPS // len(actor.environments)
  done = iter([False] * (rounds + 1) + [True] * 9)
  actor._should_stop = lambda: next(done)
  actor.run()
  assert actor._steps == STEPS
  return actor


def _learn(learner: Any) -> None:
  """Does a step of a learner, however long its samples take."""
  while True:
    with contextlib.suppress(sampling.Starved):
      learner.step()
      return


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize(
  ('algorithm', 'learn', 'pixels'),
  [
    ('metamimic', False, {'goal': 'pictures'}),
    ('metamimic', False, {'goal': 'pictures', 'tell_critic': False}),
    ('metamimic', True, {}),
    ('metamimic', True, {'blind': True}),
    ('metamimic', True, {'torso': 'residual'}),
    ('metamimic', True, {'task_learner': 'self_imitation'}),
    ('metamimic', True, {'torso': 'residual', 'task_learner': 'self_imitation'}),
    ('d4pg', False, {}),
    ('d4pgfd', False, {}),
    ('d4pgfd', False, {'blind': True}),
  ],
)
def test_a_run_from_pictures_acts_learns_and_evaluates(
  algorithm: str,
  learn: bool,
  pixels: dict[str, Any],
  path: str,
  tmp_path: pathlib.Path,
) -> None:
  made = _make(path, tmp_path / 'run', algorithm, learn, **pixels)
  config, blind = made._config, 'blind' in pixels
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    processes = {
      name: made.learner(client, index) for index, name in enumerate(config.learners)
    }
    for process in processes.values():
      process._publish_surely()
      process._fill()
      process._warm_up()
    for index, name in enumerate(config.actors):
      actor = _act(made, client, index)
      # Who follows is rewarded by pictures, whoever sees them.
      sees = not blind or name == 'imitation'
      for environment in actor.environments:
        assert ('pixels/front' in environment.observation_spec()) == sees
      (writer,) = {adder._writer for adder in actor._adders}
      assert isinstance(writer, adders.Writer if blind else adders.PictureWriter)
    _check_written(client, made)

    for name, process in processes.items():
      learner = process._learner
      _check_sampled(learner, made, name)
      decoding = learner._encoders.decoding
      assert (decoding is not None) == ('goal' in pixels)
      if decoding is not None:
        assert decoding.tells_critic == pixels.get('tell_critic', True)
      # An encoder, or torsos.
      own = config.network.torso == 'residual'
      # Where nothing turns out better there is nothing that a policy imitates.
      names = (
        {'critic', 'value'} if config.imitates_itself(name) else {'policy', 'critic'}
      )
      seeing = [learner.state[n] for n in names & {*learner.state}]
      see = [learner._encoders.online, *(seeing if own else ())]
      online = [v for module in see for v in module.variables]
      before = [v.numpy() for v in online]
      assert bool(before) != blind
      _learn(learner)
      assert learner.num_steps == 2
      for old, new in zip(before, online, strict=True):
        assert np.isfinite(new).all() and (old != new.numpy()).any()
      process._publish_surely()

    evaluator = made.evaluator(client)
    for name, learned in zip(config.learners, evaluator._learned, strict=True):
      assert learned.reader.update().learner_steps == 2
      used = processes[name]._learner.state[loading.saved_name(config, name, 'encoder')]
      read = [v.numpy() for v in learned.reader._variables]
      for variable in used.variables:
        assert any(np.array_equal(variable.numpy(), value) for value in read)
      (episode,) = learned.run([2], lambda: False)
      assert episode.steps > 0
      if config.follows(name):
        # Measured as everything else is: by where the brick is.
        assert set(episode.terms) == {'arm', 'fingers', 'pinch', 'brick'}
        assert 0 < episode.total < 1
  finally:
    server.stop()


def _check_written(client: reverb.Client, made: builder.Builder) -> None:
  """Asserts that replay holds what actors did, and demonstrations where it should."""
  config = made._config
  sizes = {
    table: info.current_size
    for table, info in client.server_info().items()
    if 'parameters' not in table
  }
  if config.algorithm == 'd4pgfd':
    demonstrations = made._demonstrations()
    assert sizes.pop('demonstrations') == demonstrators.num_transitions(demonstrations)
    _check_demonstrated(client, made)
  written = {t for name in config.actors for t in replay.written_by(config, name)}
  assert sizes == dict.fromkeys(written, STEPS)


def _check_sampled(learner: Any, made: builder.Builder, name: str) -> None:
  """Asserts that what a learner was compiled for is what comes."""
  sampled: Any = None
  while sampled is None:
    with contextlib.suppress(sampling.Starved):
      sampled = next(learner._dataset)
  blank = learners.blank_batch(name, made._config, made._codec)
  tf.nest.assert_same_structure(blank, sampled)
  for a, b in zip(tf.nest.flatten(blank), tf.nest.flatten(sampled), strict=True):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
  if not made._config.pixels.blind:
    assert (replay.GOALS in sampled) == (name == 'imitation')


def _check_demonstrated(client: reverb.Client, made: builder.Builder) -> None:
  """Asserts that replay holds demonstrations as they were drawn."""
  codec, demonstrations = made._codec, made._demonstrations(with_actions=True)
  references = made._references(demonstrations)
  samples = reverb.TrajectoryDataset.from_table_signature(
    client.server_address, replay.DEMONSTRATIONS, max_in_flight_samples_per_worker=8
  )
  for sample in samples.take(8):
    items = tf.nest.map_structure(lambda x: x[None], sample.data)
    batch = tf.nest.map_structure(lambda x: x[0].numpy(), codec.unpack(items, codec.n))
    ((i, t),) = [
      (i, t)
      for i in demonstrations.train
      for t in range(demonstrations.demonstrations[i].num_steps)
      if np.array_equal(
        demonstrations.demonstrations[i].observations['body'][t],
        batch['observation']['body'],
      )
    ]
    np.testing.assert_array_equal(
      batch['action'], demonstrations.demonstrations[i].actions[t]
    )
    if codec.pictures is not None:
      frames = references[i].observations['pixels/front']
      then = t + int(batch['real'].sum())
      for name, step in (('observation', t), ('next_observation', then)):
        seen = batch[name][policy_lib.PIXELS]
        np.testing.assert_array_equal(seen, frames[step])


@pytest.mark.filterwarnings('ignore:Even though the')  # Datasets keep their graphs.
@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize(
  ('algorithm', 'pixels'),
  [
    ('bc', {}),
    ('bc', {'goal': 'pictures'}),
    ('bc', {'blind': True}),
    ('bc', {'torso': 'residual'}),
    ('bc_no_goal', {}),
  ],
)
def test_cloning_from_pictures_learns_and_is_measured(
  algorithm: str, pixels: dict[str, Any], path: str, tmp_path: pathlib.Path
) -> None:
  made = _make(path, tmp_path / 'run', algorithm, **pixels)
  blind, shows = 'blind' in pixels, algorithm == 'bc'
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    process = made.learner(client, 0)
    learner = process._learner
    batch = next(learner._dataset)
    _check_frames(made, batch, shows and not blind, blind)
    variables = [*learner._learned]
    encoder = learner._seeing.encoder.variables
    assert bool(encoder) == (not blind and 'torso' not in pixels)
    before = [v.numpy() for v in variables]
    metrics = learner.step()
    assert learner.num_steps == CONFIG.bc.steps_per_call
    assert ('decoding_error' in metrics) == ('goal' in pixels)
    for old, new in zip(before, variables, strict=True):
      assert np.isfinite(new).all() and (old != new.numpy()).any()
    process._publish_surely()
    (learned,) = made.evaluator(client)._learned
    learned.reader.update()
    read = [v.numpy() for v in learned.reader._variables]
    for variable in encoder:
      assert any(np.array_equal(variable.numpy(), value) for value in read)
    (episode,) = learned.run([2], lambda: False)
    assert episode.steps > 0
    if shows:
      assert set(episode.terms) == {'arm', 'fingers', 'pinch', 'brick'}
  finally:
    server.stop()


def _check_frames(made: builder.Builder, batch: Any, shows: bool, blind: bool) -> None:
  """Asserts that a batch has what was drawn of its frames, and of later ones."""
  observation = batch['observation']
  expected = {'body', 'goal'}
  if not blind:
    expected.add(policy_lib.PIXELS)
  if shows:
    expected.add(policy_lib.GOAL_PIXELS)
  assert set(observation) == expected
  references = made._references(made._demonstrations())
  ahead = made._config.pixels.look_ahead
  for row, (i, t) in enumerate(observation['goal'].numpy()[:20]):
    np.testing.assert_array_equal(
      observation['body'][row], references[i].observations['body'][t]
    )
    if blind:
      continue
    frames = references[i].observations['pixels/front']
    np.testing.assert_array_equal(observation[policy_lib.PIXELS][row], frames[t])
    if shows:
      later = [frames[min(t + k, len(frames) - 1)] for k in ahead]
      np.testing.assert_array_equal(observation[policy_lib.GOAL_PIXELS][row], later)


class _Reads(dict):
  """An observation that tells which of its groups were read."""

  def __init__(self, values: Mapping[str, np.ndarray]) -> None:
    super().__init__(values)
    self.groups: set[str] = set()

  def __getitem__(self, group: str) -> np.ndarray:
    self.groups.add(group)
    return super().__getitem__(group)


@pytest.mark.parametrize('pixels', [{}, {'goal': 'pictures'}, {'blind': True}])
def test_no_objects_pose_is_anywhere_in_learning_from_pictures(
  pixels: dict[str, Any], path: str, tmp_path: pathlib.Path
) -> None:
  made = _make(path, tmp_path / 'run', learn=True, **pixels)
  blind = 'blind' in pixels
  demonstrations = made._demonstrations()
  objects = tasks.get('lift_brick').objects
  assert objects and 'objects' in demonstrations.demonstrations[0].observations
  seen = {'body'} if blind else {'body', 'pixels/front'}

  # What is kept: the row's groups, and all of its numbers.
  codec = made._codec
  assert codec._groups == ['body', 'goal']
  vectors, rest = len(codec.horizons) + 1, codec.n * (1 + 2 * len(codec.rewards))
  assert codec.size == vectors * (33 + 2) + 9 + rest
  assert made._layout.objects == () and set(made._layout.spec()) == seen

  # What goals are looked up in.
  bank = made._bank(demonstrations)
  assert list(bank.lookup(tf.constant([[0, 1]]), (1,))) == ['body']
  assert (bank.pictures is None) == blind

  # What policies are given, and know the mean of.
  for name in made._config.learners:
    policy = made._policy(name, demonstrations)
    given = {'body', 'goal', policy_lib.PIXELS, policy_lib.GOAL_PIXELS}
    assert set(policy._inputs(1)) <= given
    assert [v.shape for v in policy.features.variables] == [(33,), (33,)]

  # What the reward of those who learn by it reads.
  (environment,) = environments.imitating(
    made._config, made._run_dir, demonstrations, [0]
  )
  assert isinstance(environment, imitation_lib.ImitationEnvironment)
  first = environment.reset(0, step=5).observation
  assert 'objects' in first  # It is there, for evaluations; nobody reads it.
  now, goal = _Reads(first), _Reads(environment.goal)
  result = environment._reward(now, goal)
  assert set(result.terms) == {'arm', 'fingers', 'pinch', 'picture', 'colour'}
  assert now.groups == goal.groups == {'body', 'pixels/front'}
  # One that reads more cannot even be bound.
  layout = preparation.actor_layout(made._config, 'lift_brick')
  with pytest.raises(ValueError, match="no field 'brick/position'"):
    rewards.load(reward_library.DEFAULTS['lift_brick'], layout)


def test_actors_are_given_the_pictures_reward_and_evaluations_the_usual_one(
  path: str, tmp_path: pathlib.Path
) -> None:
  made = _make(path, tmp_path / 'run')
  about = run_description.read(str(tmp_path / 'run'))
  (acting,) = environments.imitating(
    made._config, made._run_dir, made._demonstrations(), [0]
  )
  assert isinstance(acting, imitation_lib.ImitationEnvironment)
  given = rewards.temperatures(acting._reward)
  assert given == about['training_temperatures']
  measured = rewards.temperatures(run_description.reward(str(tmp_path / 'run')))
  assert measured == about['temperatures']
  assert set(measured) != set(given)
  # Who does as the demonstrator did is given all of it, by pictures of the same scene.
  whole = storage.load(path, with_actions=True).demonstrations[0]
  acting.reset(0, step=0)
  for action in whole.actions[:10]:
    assert acting.step(action).reward['imitation'] == pytest.approx(1, abs=1e-3)
