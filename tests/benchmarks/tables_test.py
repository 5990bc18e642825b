"""Tests of benchmarks.tables and benchmarks.readme, on made-up results."""

from collections.abc import Callable
import json
import math
import pathlib

import pandas as pd
import pytest

from benchmarks import readme
from benchmarks import results
from benchmarks import robustness
from benchmarks import solving
from benchmarks import tables

_LIFT, _TASK = 'lift_brick', 'lift_brick_task'
_STARTS = 4


def _rows(arm: str, rewards: list[float], solved: float = 20.0) -> pd.DataFrame:
  """Returns an arm's held-out episodes, its seeds' rewards given."""
  learned = 0 if arm in ('replay', 'zero') else 40_000
  return pd.DataFrame(
    [
      {
        'seed': seed,
        'learner_steps': learned,
        'arm': arm,
        'demonstration': f'demo_{i}',
        'split': 'valid',
        'steps': 40,
        'completed': 0.9,
        'success': int(not math.isnan(solved)),
        'solved': solved,
        'reward/arm': reward,
        'total': reward + 0.01 * i,
      }
      for seed, reward in enumerate(rewards)
      for i in range(_STARTS)
    ]
  )


@pytest.fixture(name='write')
def write_fixture(tmp_path: pathlib.Path) -> Callable[..., None]:
  """Returns a function that writes the files of an experiment."""

  def write(name: str, *arms: pd.DataFrame) -> None:
    pd.concat(arms).to_csv(tmp_path / f'{name}.csv', index=False)
    run = {'wall_seconds': 90.0, 'environment_steps': {'imitation': 7, 'task': 3000}}
    about = {'runs': {'0': run, '1': {**run, 'wall_seconds': 150.0}}}
    (tmp_path / f'{name}.json').write_text(json.dumps(about))

  write(_LIFT, _rows('metamimic', [0.7, 0.8, 0.9]), _rows('replay', [1.0]))
  return write


def _texts(table: tables.Table) -> list[dict[str, str]]:
  return [
    dict(zip(table.header, (cell.text for cell in row), strict=True))
    for row in table.rows
  ]


def test_results_are_of_all_seeds_and_name_their_rows(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  write('lift_brick_bc', _rows('bc', [0.5, 0.5]), _rows('replay', [1.0]))
  (table,) = tables.results(tmp_path)
  mimic, replay, cloning = _texts(table)
  assert mimic['arm'] == 'MetaMimic'
  assert mimic['reward (95 %)'] == '0.815 (0.549–1.000)'
  assert (mimic['of replay'], mimic['completed']) == ('0.80', '0.90')
  assert (mimic['seeds × episodes'], mimic['minutes']) == ('3 × 4', '2.0')
  assert mimic['learner steps'] == '40,000'
  assert replay['seeds × episodes'] == '1 × 4' and replay['minutes'] == ''
  # Its controls are those of the experiment before.
  assert cloning['arm'] == 'behavioural cloning (sees actions)'
  sources = dict(
    zip(table.header, (cell.source for cell in table.rows[0]), strict=True)
  )
  assert sources['of replay'] == (
    'results/lift_brick.csv, arm=metamimic split=valid learner_steps=40000: '
    "mean of total, over replay's"
  )
  assert sources['minutes'] == 'results/lift_brick.json, runs.*.wall_seconds: mean'


def test_what_was_not_run_is_not_shown(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  del write
  assert solving.table(tmp_path) == []
  assert tables.ablations(tmp_path) == []
  assert tables.demonstrations(tmp_path) == []
  assert tables.demonstrations_summary(tmp_path).empty
  assert tables.pixels(tmp_path) == []
  empty = {s.name for s in readme.SECTIONS if not readme.render(s, tmp_path)}
  assert empty == {s.name for s in readme.SECTIONS} - {'results'}


def test_what_is_learned_from_pictures_has_a_table_of_its_own(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  arms = [_rows('metamimic', [0.8]), _rows('wrong_demonstration', [0.3], math.nan)]
  write('lift_brick_pixels', *arms, _rows('replay', [1.0]))
  write('lift_brick_pixels_blind', _rows('metamimic', [0.7]))
  write('lift_brick_pixels_bc', _rows('bc', [0.6]))
  assert len(_texts(tables.results(tmp_path)[0])) == 2  # Those of features.
  (table,) = tables.pixels(tmp_path)
  seeing, misled, blind, cloning = _texts(table)
  assert {r['arm'] for r in (seeing, misled, blind)} == {'MetaMimic'}
  assert cloning['arm'] == 'behavioural cloning (sees actions)'
  assert (seeing['sees'], seeing['is shown']) == ('body, one camera', 'body, picture')
  assert misled['is shown'] == 'body, picture of another demonstration'
  assert blind['sees'] == blind['is shown'] == 'body'
  assert [r['success (95 %)'][:4] for r in (seeing, misled, blind)] == [
    *('1.00', '0.00', '1.00')
  ]
  assert 'of replay' not in seeing


def test_ablations_stand_below_the_plain_run(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  write('lift_brick_ablation_n_step_1', _rows('metamimic', [0.6, 0.7, 0.8]))
  write(_TASK, _rows('task_policy', [math.nan], 10), _rows('replay', [1.0]))
  write(
    'lift_brick_ablation_task_no_cloning',
    _rows('task_policy', [math.nan], math.nan),
    _rows('replay', [1.0]),
  )
  imitation, task = tables.ablations(tmp_path)
  plain, changed = _texts(imitation)
  assert (plain['change'], plain['difference (95 %)']) == ('none', '')
  assert changed['change'] == 'n = 1'
  assert changed['difference (95 %)'].startswith('−0.100 (−0.')
  assert ' to +0.' in changed['difference (95 %)']
  assert 'of replay' not in changed
  place = imitation.header.index('difference (95 %)')
  assert imitation.rows[1][place].source == (
    'results/lift_brick_ablation_n_step_1.csv, arm=metamimic split=valid '
    'learner_steps=40000 less results/lift_brick.csv, arm=metamimic split=valid '
    'learner_steps=40000: mean of total'
  )
  plain, changed = _texts(task)
  assert plain['solved (95 %)'].startswith('1.00 (')
  assert plain["of the demonstrators' (95 %)"] == '0.50 (0.50–0.50)'
  assert changed['solved (95 %)'].startswith('0.00 (0.00–')
  assert changed['difference (95 %)'] == '−1.000 (−1.000 to −1.000)'
  assert changed["of the demonstrators' (95 %)"] == '–'
  # They are in no other table.
  assert len(_texts(tables.results(tmp_path)[0])) == 2
  assert [row['arm'] for row in _texts(solving.table(tmp_path)[0])] == [
    'task policy',
    'open-loop replay (sees actions)',
  ]


def test_an_ablation_without_its_plain_run_has_no_difference(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  write('lift_brick_ablation_n_step_1', _rows('metamimic', [0.6]))
  (tmp_path / 'lift_brick.csv').unlink()
  ((row,),) = (_texts(table) for table in tables.ablations(tmp_path))
  assert (row['change'], row['difference (95 %)']) == ('n = 1', '')


def test_numbers_of_demonstrations_end_with_the_plain_run(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  for count, reward in ((100, 0.6), (10, 0.3)):
    write(
      f'lift_brick_demonstrations_{count}',
      _rows('metamimic', [reward] * 3),
      _rows('replay', [1.0]),
    )
  (table,) = tables.demonstrations(tmp_path)
  counts = [row['training demonstrations'] for row in _texts(table)]
  assert counts == ['10', '100', '500']
  summary = tables.demonstrations_summary(tmp_path)
  assert summary['demonstrations'].tolist() == [10, 100, 500]
  assert summary['ratio'].tolist() == pytest.approx(
    [r / 1.015 for r in (0.315, 0.615, 0.815)]
  )
  assert (summary['ratio_low'] < summary['ratio']).all()
  assert (summary['ratio_high'] > summary['ratio']).all()


def test_robustness_pools_seeds_and_says_how_many(tmp_path: pathlib.Path) -> None:
  for name, (disturbance, strength) in tables.ROBUSTNESS.items():
    known = (*robustness.SWEEPS.get(disturbance, ()), 0.0)
    assert strength in known, name
  undisturbed = {'disturbance': 'none', 'strength': 0.0}
  noisy = {'disturbance': 'action_noise', 'strength': 0.2}
  half = _rows('metamimic', [0.5, 0.5])
  half.loc[half['seed'] == 1, 'solved'] = math.nan
  rows = [
    _rows('metamimic', [0.5, 0.5]).assign(**undisturbed),
    half.assign(**noisy),
    _rows('replay', [1.0]).assign(**undisturbed),
    _rows('replay', [1.0], math.nan).iloc[:2].assign(**noisy),
    _rows('zero', [0.1]).assign(**undisturbed),
  ]
  path = tmp_path / 'robustness_lift_brick.csv'
  pd.concat(rows).to_csv(path, index=False)
  (table,) = tables.robustness(path)
  mimic, replay = _texts(table)
  assert (mimic['undisturbed'], mimic['action noise .2']) == ('1.00', '0.50')
  assert 'action noise .4' not in mimic
  assert mimic['N (seeds × starts)'] == '2 × 4'
  assert (replay['action noise .2'], replay['N (seeds × starts)']) == (
    '0.00',
    '1 × 2 to 1 × 4',
  )
  section = next(s for s in readme.SECTIONS if s.name == 'robustness')
  assert '.svg' not in readme.render(section, tmp_path)
  path.with_suffix('.svg').write_text('<svg/>')
  assert readme.render(section, tmp_path).endswith(
    'on lift_brick](../results/robustness_lift_brick.svg)'
  )


@pytest.fixture(name='root')
def root_fixture(tmp_path: pathlib.Path, write: Callable[..., None]) -> pathlib.Path:
  """Returns where all pages are, with all sections written."""
  write('lift_brick_demonstrations_10', _rows('metamimic', [0.5, 0.5, 0.6]))
  (tmp_path / 'docs').mkdir()
  for page in readme.PAGES:
    markers = ['\n'.join(s.markers) for s in readme.SECTIONS if s.page == page]
    text = 'Before.\n\n' + '\n\nBetween 1.\n\n'.join(markers) + '\n\nAfter.\n'
    (tmp_path / page).write_text(text)
  readme.write(tmp_path, tmp_path)
  return tmp_path


def test_writing_keeps_all_else_and_again_changes_nothing(root: pathlib.Path) -> None:
  texts = {page: (root / page).read_text() for page in readme.PAGES}
  assert list(texts) == ['README.md', 'docs/results.md', 'docs/running.md']
  for page, text in texts.items():
    assert text.startswith('Before.') and text.endswith('After.\n')
    sections = [s for s in readme.SECTIONS if s.page == page]
    assert text.count('Between 1.') == len(sections) - 1
  assert '| lift_brick | MetaMimic |' in texts['README.md']
  assert '<!-- ablations -->\n<!-- end of ablations -->' in texts['docs/results.md']
  assert '(../results/demonstrations.svg)' in texts['docs/results.md']
  figure = (root / 'demonstrations.svg').read_text()
  assert 'training demonstrations' in figure
  readme.write(root, root)
  assert {page: (root / page).read_text() for page in texts} == texts
  assert (root / 'demonstrations.svg').read_text() == figure


def test_every_number_has_a_source(root: pathlib.Path) -> None:
  numbers, differences = readme.check(root, root)
  assert differences == []
  assert (
    'results: lift_brick, MetaMimic | completed: 0.90 <- results/lift_brick.csv, '
    'arm=metamimic split=valid learner_steps=40000: mean of completed'
  ) in numbers
  assert any(
    n.startswith(
      'demonstrations: lift_brick | training demonstrations: 10 <- results/'
      'lift_brick_demonstrations_10.json'
    )
    for n in numbers
  )


def test_a_changed_number_is_found(
  root: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  check = readme.check
  monkeypatch.setattr(readme, 'check', lambda: check(root, root))
  assert results.check() == 0
  assert 'WRONG' not in capsys.readouterr().out
  page = root / 'README.md'
  page.write_text(page.read_text().replace('| 0.80 |', '| 0.81 |', 1))
  assert results.check() == 1
  wrong = [x for x in capsys.readouterr().out.splitlines() if x.startswith('WRONG')]
  assert wrong == [
    "WRONG: README.md, results: lift_brick, MetaMimic | of replay: it says '0.81', the "
    "files '0.80' (results/lift_brick.csv, arm=metamimic split=valid "
    "learner_steps=40000: mean of total, over replay's)"
  ]


@pytest.mark.parametrize(
  ('page', 'old', 'new'),
  [
    ('README.md', '{row}', ''),
    ('README.md', '{row}', '{row}{row}'),
    ('docs/results.md', 'the first of the file', 'the last of the file'),
    ('docs/results.md', '(../results/', '(results/'),
    ('docs/results.md', '<!-- speed -->', '<!-- speed -->\nTwice as fast.'),
    ('docs/running.md', '<!-- survival -->', '<!-- survival -->\nNever lost.'),
  ],
)
def test_missing_added_and_reworded_lines_are_found(
  page: str, old: str, new: str, root: pathlib.Path
) -> None:
  text = (root / page).read_text()
  row = next((line for line in text.splitlines(True) if 'MetaMimic' in line), '')
  changed = text.replace(old.format(row=row), new.format(row=row), 1)
  assert changed != text
  (root / page).write_text(changed)
  differences = readme.check(root, root)[1]
  assert differences
  assert all(d.startswith(f'{page}, ') for d in differences)


@pytest.mark.parametrize(
  ('page', 'name'), [('README.md', 'results'), ('docs/running.md', 'survival')]
)
def test_missing_markers_are_named(page: str, name: str, root: pathlib.Path) -> None:
  (root / page).write_text(f'<!-- {name} -->')
  message = f'{page}: expected the markers <!-- {name} --> and <!-- end of {name} -->'
  for do in (readme.write, readme.check):
    with pytest.raises(ValueError, match=message):
      do(root, root)
