"""Tests of benchmarks.tables and benchmarks.readme, on made-up results."""

from collections.abc import Callable
import math
import pathlib

import pytest

from benchmarks import readme
from benchmarks import results
from benchmarks import solving
from benchmarks import tables
from tests.benchmarks import conftest


def test_results_are_of_all_seeds_and_name_their_rows(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  write(
    'lift_brick_bc', conftest.rows('bc', [0.5, 0.5]), conftest.rows('replay', [1.0])
  )
  (table,) = tables.results(tmp_path)
  mimic, replay, cloning = conftest.texts(table)
  assert mimic['arm'] == 'MetaMimic'
  assert mimic['reward (95 %)'] == '0.815 (0.549–1.000)'
  assert mimic['completed'] == '0.90'
  assert (mimic['seeds × episodes'], mimic['minutes']) == ('3 × 4', '2.0')
  assert mimic['learner steps'] == '40,000'
  assert replay['seeds × episodes'] == '1 × 4' and replay['minutes'] == ''
  # Its controls are those of the experiment before.
  assert cloning['arm'] == 'behavioural cloning (sees actions)'
  sources = dict(
    zip(table.header, (cell.source for cell in table.rows[0]), strict=True)
  )
  assert sources['completed'] == (
    'results/lift_brick.csv, arm=metamimic split=valid learner_steps=40000: '
    'mean of completed'
  )
  assert sources['minutes'] == 'results/lift_brick.json, runs.*.wall_seconds: mean'


def test_what_was_not_run_is_not_shown(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  del write
  assert solving.table(tmp_path) == []
  assert tables.ablations(tmp_path) == []
  empty = {s.name for s in readme.SECTIONS if not readme.render(s, tmp_path)}
  assert empty == {s.name for s in readme.SECTIONS} - {'results'}


def test_ablations_stand_below_the_plain_run(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  write('lift_brick_ablation_n_step_1', conftest.rows('metamimic', [0.6, 0.7, 0.8]))
  write(
    'lift_brick_task',
    conftest.rows('task_policy', [math.nan], 10),
    conftest.rows('replay', [1.0]),
  )
  write(
    'lift_brick_ablation_task_no_cloning',
    conftest.rows('task_policy', [math.nan], math.nan),
    conftest.rows('replay', [1.0]),
  )
  imitation, task = tables.ablations(tmp_path)
  plain, changed = conftest.texts(imitation)
  assert (plain['change'], plain['difference (95 %)']) == ('none', '')
  assert changed['change'] == 'n = 1'
  assert changed['difference (95 %)'].startswith('−0.100 (−0.')
  assert ' to +0.' in changed['difference (95 %)']
  place = imitation.header.index('difference (95 %)')
  assert imitation.rows[1][place].source == (
    'results/lift_brick_ablation_n_step_1.csv, arm=metamimic split=valid '
    'learner_steps=40000 less results/lift_brick.csv, arm=metamimic split=valid '
    'learner_steps=40000: mean of total'
  )
  plain, changed = conftest.texts(task)
  assert plain['solved (95 %)'].startswith('1.00 (')
  assert plain["of the demonstrators' (95 %)"] == '0.50 (0.50–0.50)'
  assert changed['solved (95 %)'].startswith('0.00 (0.00–')
  assert changed['difference (95 %)'] == '−1.000 (−1.000 to −1.000)'
  assert changed["of the demonstrators' (95 %)"] == '–'
  # They are in no other table.
  assert len(conftest.texts(tables.results(tmp_path)[0])) == 2
  assert [row['arm'] for row in conftest.texts(solving.table(tmp_path)[0])] == [
    'task policy',
    'open-loop replay (sees actions)',
  ]


def test_an_ablation_without_its_plain_run_has_no_difference(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  write('lift_brick_ablation_n_step_1', conftest.rows('metamimic', [0.6]))
  (tmp_path / 'lift_brick.csv').unlink()
  ((row,),) = (conftest.texts(table) for table in tables.ablations(tmp_path))
  assert (row['change'], row['difference (95 %)']) == ('n = 1', '')


@pytest.fixture(name='root')
def root_fixture(tmp_path: pathlib.Path, write: Callable[..., None]) -> pathlib.Path:
  """Returns where all pages are, with all sections written."""
  write('lift_brick_demonstrations_10', conftest.rows('metamimic', [0.5, 0.5, 0.6]))
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
  page.write_text(page.read_text().replace('| 0.90 |', '| 0.91 |', 1))
  assert results.check() == 1
  wrong = [x for x in capsys.readouterr().out.splitlines() if x.startswith('WRONG')]
  assert wrong == [
    "WRONG: README.md, results: lift_brick, MetaMimic | completed: it says '0.91', the "
    "files '0.90' (results/lift_brick.csv, arm=metamimic split=valid "
    'learner_steps=40000: mean of completed)'
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
