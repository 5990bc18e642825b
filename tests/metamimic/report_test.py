"""Tests of metamimic.report on a run directory made up for them."""

import base64
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from metamimic import config as config_lib
from metamimic import report
from metamimic import video

_TERMS = ('arm', 'fingers', 'pinch', 'object')
_REWARDS = {
  'metamimic': 0.86,
  'replay': 0.99,
  'tracker': 0.95,
  'zero': 0.29,
  'wrong_demonstration': 0.34,
  'no_demonstration': 0.31,
}
_STEPS = np.arange(0, 40_001, 500)
_STARTED = 1.7e9  # Unix seconds.


def _write(path: pathlib.Path, table: pd.DataFrame) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  table.to_csv(path, index=False, float_format='%.5f')


def _curve(final: float) -> np.ndarray:
  return 0.29 + (final - 0.29) * (1 - np.exp(-_STEPS / 9000))


def _learner() -> pd.DataFrame:
  noise = np.random.default_rng(0).normal(1, 0.04, (4, _STEPS.size))
  return pd.DataFrame(
    {
      'wall_time': _STARTED + _STEPS / 60,
      'learner_steps': _STEPS,
      'environment_steps': 2000 + 2.5 * _STEPS,
      'replay_size': 2000 + 2.5 * _STEPS,
      'learner_steps_per_second': 62 * noise[0],
      'environment_steps_per_second': 155 * noise[1],
      'critic_loss': (1.2 + 1.5 * np.exp(-_STEPS / 4000)) * noise[2],
      'policy_loss': -7 * (1 - np.exp(-_STEPS / 9000)) * noise[3],
    }
  )


def _actor() -> pd.DataFrame:
  steps = np.arange(0, 102_000, 500)
  random = np.random.default_rng(1)
  return pd.DataFrame(
    {
      'wall_time': _STARTED + steps / 150,
      'environment_steps': steps,
      'episodes': steps // 120,
      'steps_per_second': 150.0,
      'reward': 0.8 - 0.5 * np.exp(-steps / 3e4) + random.normal(0, 0.04, steps.size),
      'completed': 0.9,
      **{f'reward/{term}': 0.7 for term in _TERMS},
    }
  )


def _evaluator() -> pd.DataFrame:
  rows = []
  for split, final in (('valid', 0.86), ('train', 0.89)):
    for steps, reward in list(zip(_STEPS, _curve(final), strict=True))[::5]:
      success = max(0, reward - 0.45) / 0.45
      rows.append((steps / 60, steps, 'metamimic', split, 10, reward, reward, success))
    for arm in ('replay', 'tracker', 'zero'):
      rows.append((1, 0, arm, split, 10, _REWARDS[arm], 1.0, 1.0))
  columns = 'wall_time learner_steps arm split episodes reward completed success'
  return pd.DataFrame(rows, columns=columns.split())


def _evaluation(episodes: int = 40) -> pd.DataFrame:
  random = np.random.default_rng(2)
  rows = []
  for arm, mean in _REWARDS.items():
    for split in ('valid', 'train'):
      for i in range(episodes):
        factor = 1 if arm == 'replay' else random.beta(20, 2) / 0.91
        terms = np.clip(mean * factor * np.array([1.1, 0.95, 1.0, 0.95]), 0, 1)
        success = int(random.uniform() < (0.97 if mean > 0.5 else 0.02))
        steps = 0 if arm in ('replay', 'tracker', 'zero') else 40_000
        # From the same starts the policy takes three quarters of the time.
        solved = (90 if arm == 'metamimic' else 120) + i % 5 if success else np.nan
        rows.append(
          {
            'seed': 0,
            'learner_steps': steps,
            'arm': arm,
            'demonstration': f'demo_{i}',
            'split': split,
            'steps': 150,
            'completed': min(1.0, mean * factor),
            'success': success,
            'solved': solved,
            **{f'reward/{t}': v for t, v in zip(_TERMS, terms, strict=True)},
            'total': terms.mean(),
          }
        )
  return pd.DataFrame(rows)


def _videos(folder: pathlib.Path) -> None:
  for i in range(3):
    ramp = np.linspace(60, 200, 40 * 320).reshape(1, 40, 320, 1)
    frames = np.broadcast_to(np.repeat(ramp, 6, 1), (15, 240, 320, 3)).astype(np.uint8)
    joined = video.side_by_side(frames, frames, ('demonstration', 'agent'))
    video.write(folder / f'demo_{i}.mp4', joined)


def make_run(directory: pathlib.Path) -> pathlib.Path:
  """Writes a finished run as the contract of the run directory has it."""
  directory.mkdir(parents=True, exist_ok=True)
  config = config_lib.Config(
    demonstrations='data/lift_brick.hdf5', learner_steps=40_000
  )
  config_lib.save(config, str(directory / 'config.json'))
  (directory / 'run.json').write_text(
    json.dumps({'task': 'lift_brick', 'reward': 'envs.reward_library:LIFT_BRICK'})
  )
  summary = {
    'learner_steps': {'imitation': 40_000},
    'environment_steps': {'imitation': 102_000},
    'wall_seconds': 725.0,
  }
  (directory / 'summary.json').write_text(json.dumps(summary))
  _write(directory / 'logs' / 'learner-imitation.csv', _learner())
  _write(directory / 'logs' / 'actor-0.csv', _actor())
  _write(directory / 'logs' / 'evaluator.csv', _evaluator())
  _write(directory / 'evaluation.csv', _evaluation())
  _videos(directory / 'videos')
  return directory


@pytest.fixture(name='run', scope='module')
def _run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return make_run(tmp_path_factory.mktemp('runs') / 'lift')


@pytest.fixture(name='page', scope='module')
def _page(run: pathlib.Path) -> str:
  return pathlib.Path(report.write(run)).read_text()


def _text(page: str) -> str:
  """The page without its markup, styles, figures and embedded videos."""
  bare = re.sub(r'<(style|svg).*?</\1>', ' ', page, flags=re.DOTALL)
  return ' '.join(re.sub(r'<[^>]*>', ' ', bare).split())


def test_says_what_was_run(page: str) -> None:
  text = _text(page)
  assert 'MetaMimic on lift_brick Run lift' in text
  assert 'not finished' not in text
  assert 'demonstrations data/lift_brick.hdf5' in text
  assert 'learner steps 40 000' in text
  assert 'environment steps 102 000' in text
  assert 'wall time 12 min 5 s' in text
  assert 'd4pg.batch_size 128' in text


def test_headline_has_the_numbers_of_the_evaluation(
  run: pathlib.Path, page: str
) -> None:
  rows = pd.read_csv(run / 'evaluation.csv')
  rows = rows[rows['split'] == 'valid']
  reward = rows.groupby('arm')['total'].mean()
  success = rows[rows['arm'] == 'metamimic']['success'].mean()
  text = _text(page)
  assert f'MetaMimic earns {reward["metamimic"]:.2f} (95 % interval 0.' in text
  ratio = 100 * reward['metamimic'] / reward['replay']
  assert f'{ratio:.0f} % of open-loop replay' in text
  assert f'succeeds at the task in {100 * success:.0f} % (95 % interval' in text
  assert f'{reward["zero"]:.2f} without moving' in text
  assert f'{reward["wrong_demonstration"]:.2f} when it is shown the wrong' in text


def test_has_a_row_for_each_arm_and_split(page: str) -> None:
  tables = re.findall(r'<tbody>(.*?)</tbody>', page, re.DOTALL)
  assert len(tables) == 4
  # Of two splits each, what an arm earns and how it solves the task.
  for table in tables:
    names = re.findall(r'<tr[^>]*>\s*<td>(.*?)</td>', table)
    assert names == [
      'MetaMimic',
      'open-loop replay',
      'joint tracker',
      'no action',
      'MetaMimic, shown another demonstration',
      'MetaMimic, shown nothing',
    ]
  for table in tables[:2]:
    assert table.count('class="interval"') == 12


def test_needs_no_other_file(run: pathlib.Path, page: str) -> None:
  sources = re.findall(r'<video[^>]* src="data:video/mp4;base64,([^"]*)"', page)
  written = [path.read_bytes() for path in sorted((run / 'videos').iterdir())]
  assert [base64.b64decode(source) for source in sources] == written
  assert page.count('<svg ') == 5
  markup = re.sub(r'<svg .*?</svg>', '', page, flags=re.DOTALL)
  assert not re.search(r'(src|href)="(?!data:)', markup)
  assert not list(run.glob('*.tmp'))


def test_identifiers_in_the_page_are_unique(page: str) -> None:
  for figure in re.findall(r'<svg .*?</svg>', page, re.DOTALL):
    clips = re.findall(r'<clipPath id="(\w+)"', figure)
    assert clips
    assert all(page.count(f'id="{clip}"') == 1 for clip in clips)


def test_large_videos_are_linked(
  run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(report, '_EMBED_FILE', 10)
  page = pathlib.Path(report.write(run)).read_text()
  assert 'data:video/mp4' not in page
  assert page.count('src="videos/demo_') == 3
  assert '<a href="videos/demo_0.mp4">' in page


def test_partial_run_says_what_is_missing(tmp_path: pathlib.Path) -> None:
  config_lib.save(config_lib.Config(), str(tmp_path / 'config.json'))
  text = _text(pathlib.Path(report.write(tmp_path)).read_text())
  assert 'MetaMimic on unknown task' in text
  assert 'not finished when this was written' in text
  assert 'Nothing has been evaluated yet.' in text
  assert 'No evaluation has been logged yet.' in text
  assert 'no arm has been measured yet' in text
  assert 'There are no videos' in text
  assert 'The learner has not logged anything yet.' in text
  assert 'wall time unknown' in text


def test_running_run_is_reported_so_far(tmp_path: pathlib.Path) -> None:
  run = make_run(tmp_path)
  (run / 'summary.json').unlink()
  evaluation = _evaluation()
  _write(run / 'evaluation.csv', evaluation[evaluation['arm'] != 'metamimic'])
  with open(run / 'logs' / 'learner-imitation.csv', 'a') as f:
    f.write('1700000700.0,405')  # The writer has not come to the end of the line.
  text = _text(pathlib.Path(report.write(run)).read_text())
  assert 'On held-out demonstrations MetaMimic has not been evaluated yet.' in text
  assert 'learner steps 40 000' in text
  assert 'wall time 11 min 7 s' in text


def test_a_run_that_goes_on_for_longer_is_not_finished(tmp_path: pathlib.Path) -> None:
  run = make_run(tmp_path)
  assert 'learner steps 40 000' in _text(pathlib.Path(report.write(run)).read_text())
  path = run / 'config.json'
  settings = config_lib.load(str(path))
  config_lib.save(dataclasses.replace(settings, learner_steps=80_000), str(path))
  with open(run / 'logs' / 'learner-imitation.csv', 'a') as f:
    f.write(f'1700000700.0,55000{"," * 6}\n')
  text = _text(pathlib.Path(report.write(run)).read_text())
  assert 'not finished' in text
  assert 'learner steps 55 000' in text


def test_bc_needs_no_environment_steps(tmp_path: pathlib.Path) -> None:
  run = make_run(tmp_path)
  config_lib.save(config_lib.Config(algorithm='bc'), str(run / 'config.json'))
  (run / 'summary.json').write_text(
    json.dumps({'learner_steps': {'cloning': 40_000}, 'environment_steps': {}})
  )
  (run / 'logs' / 'actor-0.csv').unlink()
  learner = _learner()[['wall_time', 'learner_steps', 'learner_steps_per_second']]
  (run / 'logs' / 'learner-imitation.csv').unlink()
  _write(run / 'logs' / 'learner-cloning.csv', learner.assign(loss=0.1))
  _write(run / 'evaluation.csv', _evaluation().replace({'arm': {'metamimic': 'bc'}}))
  page = pathlib.Path(report.write(run)).read_text()
  assert 'behavioural cloning on lift_brick' in _text(page)
  assert 'behavioural cloning earns 0.8' in _text(page)
  assert 'environment steps' not in _text(page)
  assert '>Loss</text>' in page


def _solving(starts: int) -> pd.DataFrame:
  """Returns a task policy's last episodes: each but the first is a success."""
  rows = _evaluation(starts)
  rows = rows[rows['arm'] == 'metamimic']
  first = rows['demonstration'] == 'demo_0'
  rewards = [c for c in rows if c.startswith('reward/')]
  rows[['completed', 'total', *rewards]] = np.nan
  return rows.assign(
    arm='task_policy',
    learner_steps=60_000,
    success=np.where(first, 0, 1),
    solved=np.where(first, np.nan, 30),
  )


@pytest.fixture(name='run_with_two', scope='module')
def run_with_two_fixture(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Returns a run that learned a task policy beside the other."""
  run = make_run(tmp_path_factory.mktemp('runs') / 'two')
  task = config_lib.TaskConfig(learn=True, learner_steps=60_000)
  config = config_lib.Config(learner_steps=40_000, task=task)
  config_lib.save(config, str(run / 'config.json'))
  summary = {
    'learner_steps': {'imitation': 40_000, 'task': 60_000},
    'environment_steps': {'imitation': 102_000, 'task': 1_000},
    'wall_seconds': 725.0,
  }
  (run / 'summary.json').write_text(json.dumps(summary))
  _write(run / 'logs' / 'learner-task.csv', _learner())
  success = pd.DataFrame({'environment_steps': [500, 1000], 'success': [0.0, 0.5]})
  _write(run / 'logs' / 'actor-1.csv', success)
  _write(run / 'evaluation.csv', pd.concat([_evaluation(), _solving(40)]))
  return run


@pytest.fixture(name='page_of_two', scope='module')
def page_of_two_fixture(run_with_two: pathlib.Path) -> str:
  return pathlib.Path(report.write(run_with_two)).read_text()


def test_actors_that_joined_later_count_for_the_learner_they_act_for(
  run_with_two: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  run = tmp_path / 'run'
  shutil.copytree(run_with_two, run)
  for index in (2, 10, 13):
    shutil.copy(run / 'logs' / 'actor-1.csv', run / 'logs' / f'actor-{index}.csv')
  read = report._read(run)
  assert list(read.actors) == [0, 1, 2, 10, 13]
  assert len(report._of(read, 'imitation')) == 3
  assert len(report._of(read, 'task')) == 2


def test_headline_says_how_the_task_policy_does(
  run_with_two: pathlib.Path, page_of_two: str
) -> None:
  text = _text(page_of_two)
  assert 'MetaMimic on lift_brick Run two' in text
  assert 'MetaMimic earns 0.8' in text
  assert (
    'Shown nothing, the task policy solves the task from 98 % (95 % interval 87–100 %) '
    'of 40 held-out starts, in 0.25 of the time that the demonstrators take.'
  ) in text.replace('\N{NO-BREAK SPACE}', ' ')
  assert 'learner steps 100 000' in text
  assert 'environment steps 103 000' in text


def test_both_policies_have_rows_and_figures(page_of_two: str) -> None:
  arms, _, solving, _ = re.findall(r'<tbody>(.*?)</tbody>', page_of_two, re.DOTALL)
  policies = [
    re.findall(r'<tr class="policy">\s*<td>(.*?)</td>', table)
    for table in (arms, solving)
  ]
  assert policies == [['MetaMimic', 'task policy']] * 2
  cells = [
    re.findall(r'<td>([^<]*)', row)
    for row in re.findall(r'<tr class="policy">(.*?)</tr>', arms, re.DOTALL)
  ]
  # It follows nothing, and so has neither reward nor ratio nor share completed.
  assert cells[1][:5] == ['task policy', '40', '–', '–', '–']
  assert cells[1][6] == '60 000'
  headings = re.findall(r'<h3>(.*?)</h3>', page_of_two)
  assert headings[:2] == ['MetaMimic', 'task policy']
  assert headings[-2:] == ['Learner of imitation', 'Learner of the task']
  # Two curves, steps to success, terms, distribution, training of two.
  assert page_of_two.count('<svg ') == 7
  assert page_of_two.count('success while exploring') == 1
  assert page_of_two.count('reward while exploring') == 1


def test_a_dense_rewards_return_is_said(
  run_with_two: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  run = tmp_path / 'dense'
  shutil.copytree(run_with_two, run)
  task = config_lib.TaskConfig(reward='dense')
  config_lib.save(
    config_lib.Config(algorithm='d4pg', task=task), str(run / 'config.json')
  )
  rows = _solving(40).assign(arm='d4pg', **{'return': 61.5})
  rows.loc[rows['demonstration'] == 'demo_0', 'return'] = 101.5
  _write(run / 'evaluation.csv', rows)
  page = _text(pathlib.Path(report.write(run)).read_text())
  assert 'of 40 held-out starts; its return, of the dense reward, is 62.5.' in page


def test_names_from_files_are_escaped(tmp_path: pathlib.Path) -> None:
  config = config_lib.Config(demonstrations='<script>alert(1)</script>')
  config_lib.save(config, str(tmp_path / 'config.json'))
  page = pathlib.Path(report.write(tmp_path)).read_text()
  assert '<script>' not in page


def test_refuses_what_is_no_run(tmp_path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError, match=r'no config\.json in it; expected a run'):
    report.write(tmp_path)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match=r'config\.json: expected a JSON object'):
    report.write(tmp_path)
  config_lib.save(config_lib.Config(), str(tmp_path / 'config.json'))
  (tmp_path / 'evaluation.csv').write_text('seed,arm\n0,zero\n')
  with pytest.raises(ValueError, match=r'evaluation.csv: columns .* are missing'):
    report.write(tmp_path)


def test_command(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
  command = [sys.executable, '-m', 'metamimic.report']
  done = subprocess.run([*command, str(run)], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(run / 'report.html')
  refused = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
  assert refused.returncode == 1
  assert refused.stderr.startswith('error: ') and 'no config.json' in refused.stderr
