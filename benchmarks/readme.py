"""What the pages show between their markers: written, and checked against the files.

A section stands in one page: the README has the first results, docs/results.md and
docs/running.md the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import os
import pathlib
import re

import pandas as pd

from benchmarks import demonstrations_study
from benchmarks import experiments
from benchmarks import figures
from benchmarks import network_study
from benchmarks import robustness_tables
from benchmarks import seeing
from benchmarks import skills
from benchmarks import solving
from benchmarks import system_tables
from benchmarks import tables
from benchmarks import yardstick
from metamimic import plotting

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'results'
"""Folder of the files."""

# Pages, from the root.
_README, _RESULTS, _RUNNING = 'README.md', 'docs/results.md', 'docs/running.md'
_ABLATIONS = """\
What our own choices are worth: the plain run, then the same with one thing changed.
*Difference* is to the plain run on the same demonstrations or starts; that of the task
policy has one critic, five times today's pull, features as they are, and no new
beginning."""
_DEMONSTRATIONS = """\
How many demonstrations it takes: the first of the file's are trained on, the held-out
ones are the same. Rewards are calibrated on those that a run has."""
_SKILLS = """\
Skills that training never shows. One scene with two bricks; each run is trained on
demonstrations of six of eight skills, and measured on held-out demonstrations of all
eight: reward over replay's, and how often the skill succeeds. Reaching succeeds where
the hand comes to rest, within a millimetre a control step, as policies hardly do.
*Trained on* pools the runs that were. Below the table, of each skill the first held-out
demonstration, and what a policy makes of it that was never trained on the skill
(`python -m benchmarks.film_strips`)."""
_PIXELS = """\
From pictures of 64 × 64 pixels: no object's pose is in the observation, the goal or the
reward that is learned from. Measured by the reward that all the above are measured by.
*Body* is what the robot knows of its own joints. What is shown *pictures* alone has to
see where the arm shall be; what sees its *body* alone is kept from all pictures, and
rewarded by them like the others."""
_ROBUSTNESS = """\
Where something goes wrong on {where}: the share of episodes from held-out starts in
which the task is solved at any time, of all seeds together
(`python -m benchmarks.robustness {name}`). An arm that follows has until the
demonstration's end, the others until the time limit."""
_IN_TRAINING = """ *Displaced in training* are
objects by up to {farthest:g} cm, and turned by up to {turned} rad; *noise in training*
is of up to {noise} on the actions."""


_LAYERS = """\
Whether larger networks with normalisation are needed, as the paper says: lifting from
features, the same learner and environment steps with policies and critics of several
sizes. A network has a first layer and residual blocks of one layer each."""
_TORSOS = """\
The same from pictures of 32 × 32 pixels, with residual torsos for policy and critic
each: the small ones of Espeholt et al. 2018, and the large ones that are recalled of
the paper, all with a quarter of their filters, and learning from batches of 32. Goals
are body and picture."""
_STUDIED: Mapping[str, tuple[str, network_study.Part]] = {
  'units × residual blocks, from features': (_LAYERS, 'layers'),
  'filters of the stages, from pictures': (_TORSOS, 'torsos'),
}
"""What sizes are of, in the figure -> what is said of them, and the part."""
_YARDSTICK = """\
A public yardstick: `reach_duplo` from pictures with dm_control's own reward, no
demonstrations, and episodes of 250 frames, beside what the authors of DrQ-v2 have
published (`python -m benchmarks.yardstick`). The two are not the same task: DrQ-v2 sees
pictures alone, three in a row of 84 × 84 pixels, and repeats each action twice; ours
sees one of 64 × 64 and the robot's own joints, whose mean and deviation it has from
demonstrations, and acts in every frame."""
_PROFILE = """\
What each preset gets done on two cores, on lift_brick, half a minute after it has begun
to learn: steps of all learners and of all actors, by the clock and per CPU second of
those who do them; and how CPU time is shared. The task policy there has one critic and
features as they are. Below it, what the main threads of actors and learners are at,
waiting for a core and for each other included (`python -m benchmarks.profiling`)."""
_FAULTS = """\
From a fault to the learner's next logged step (a row comes every two seconds), and what
was lost: the progress at the fault, less that in the set from which the run goes on.
These are runs of the preset `tiny`, which save a set every five seconds, or less often:
saving takes no more than a fiftieth of the time. By default it is one a minute. A node
is killed with SIGKILL and comes back by itself; after its end the launcher is started
again by hand (`python -m benchmarks.faults`)."""
_CURVES = """\
Whether runs learn as others do while nodes are killed all along, all of them in turn:
lifting, held-out reward; 95 % prediction intervals
(`python -m benchmarks.fault_curves`)."""
_MEMORY = """\
What each process takes that it shares with nobody, and how that grows in the second
half of a run of the preset `tiny` that goes on for hours (`python -m benchmarks.soak`);
networks and replay of other presets take more. Threads are those of
libraries, which come and go. The nursery is idle: what it shares with nodes becomes its
own as they write to their copies."""


@dataclasses.dataclass(frozen=True)
class Section:
  """What stands between a pair of markers."""

  name: str
  """Of the markers."""
  page: str
  """File that it stands in, from the root."""
  blocks: Callable[[pathlib.Path], Sequence['str | tables.Table']]
  """Folder of the files -> paragraphs and tables; none: nothing is shown. Links to
  pictures are from the root."""

  @property
  def markers(self) -> tuple[str, str]:
    """The lines before and after."""
    return f'<!-- {self.name} -->', f'<!-- end of {self.name} -->'


def _solving(folder: pathlib.Path) -> list['str | tables.Table']:
  found = solving.table(folder)
  if not found:
    return []
  alt = 'Share of the episodes solved within so many control steps'
  return [*found, f'![{alt}](results/{solving.FIGURE})']


def _ablations(folder: pathlib.Path) -> list['str | tables.Table']:
  found = tables.ablations(folder)
  return [_ABLATIONS, *found] if found else []


def _demonstrations(folder: pathlib.Path) -> list['str | tables.Table']:
  found = demonstrations_study.table(folder)
  if not found:
    return []
  alt = "Held-out reward, of replay's, over the number of training demonstrations"
  return [_DEMONSTRATIONS, *found, f'![{alt}](results/{demonstrations_study.FIGURE})']


def _robustness(folder: pathlib.Path) -> list['str | tables.Table']:
  blocks: list[str | tables.Table] = []
  for path in sorted(folder.glob('robustness_*.csv')):
    name = path.stem.partition('_')[2]
    task, pictures, _ = name.partition('_pixels')
    where = f'{task}, seen in pictures' if pictures else task
    said = _ROBUSTNESS.format(where=where, name=name)
    if task in experiments.FARTHEST:
      said += _IN_TRAINING.format(
        farthest=100 * float(experiments.FARTHEST[task]),
        turned=experiments.TURNED,
        noise=experiments.NOISE,
      )
    blocks += [said, *robustness_tables.table(path)]
    if path.with_suffix('.svg').exists():
      blocks.append(
        f'![Share solved over the strength of each disturbance, with 95 % intervals, '
        f'on {where}](results/{path.stem}.svg)'
      )
  return blocks


def _skills(folder: pathlib.Path) -> list['str | tables.Table']:
  found = skills.table(folder)
  if not found:
    return []
  blocks: list[str | tables.Table] = [_SKILLS, *found]
  if (folder / 'skills.png').exists():
    alt = 'Of each skill a demonstration, and the policy that was never trained on it'
    blocks.append(f'![{alt}](results/skills.png)')
  return blocks


def _pixels(folder: pathlib.Path) -> list['str | tables.Table']:
  found = seeing.table(folder)
  return [_PIXELS, *found] if found else []


def _yardstick(folder: pathlib.Path) -> list['str | tables.Table']:
  found = yardstick.table(folder)
  if not found:
    return []
  alt = 'Return over frames on reach_duplo, from pictures, beside that of DrQ-v2'
  return [_YARDSTICK, *found, f'![{alt}](results/{yardstick.NAME}.svg)']


def _networks(folder: pathlib.Path) -> list['str | tables.Table']:
  blocks: list[str | tables.Table] = []
  for said, part in _STUDIED.values():
    found = network_study.table(folder, part)
    blocks += [said, *found] if found else []
  if not blocks:
    return []
  alt = 'Held-out reward over the size of networks, normalised and not'
  return [*blocks, f'![{alt}](results/{network_study.FIGURE})']


def _studied(folder: pathlib.Path) -> dict[str, pd.DataFrame]:
  """Returns what there is to draw of the size of networks, by what sizes are of."""
  found = {
    of: network_study.summary(folder, part) for of, (_, part) in _STUDIED.items()
  }
  return {of: rows for of, rows in found.items() if len(rows)}


def _profile(folder: pathlib.Path) -> list['str | tables.Table']:
  found = system_tables.profile(folder)
  return [_PROFILE, *found] if found else []


def _survival(folder: pathlib.Path) -> list['str | tables.Table']:
  blocks: list[str | tables.Table] = []
  for text, found in (
    (_FAULTS, system_tables.faults(folder)),
    (_CURVES, system_tables.curves(folder)),
    (_MEMORY, system_tables.memory(folder)),
  ):
    blocks += [text, *found] if found else []
  return blocks


SECTIONS = (
  Section('results', _README, tables.results),
  Section('solving', _RESULTS, _solving),
  Section('skills', _RESULTS, _skills),
  Section('pixels', _RESULTS, _pixels),
  Section('yardstick', _RESULTS, _yardstick),
  Section('networks', _RESULTS, _networks),
  Section('ablations', _RESULTS, _ablations),
  Section('demonstrations', _RESULTS, _demonstrations),
  Section('robustness', _RESULTS, _robustness),
  Section('speed', _RESULTS, system_tables.speed),
  Section('profile', _RESULTS, _profile),
  Section('survival', _RUNNING, _survival),
)
PAGES = tuple(dict.fromkeys(section.page for section in SECTIONS))
"""Pages with sections, from the root."""


def _split(text: str, section: Section) -> tuple[str, str, str]:
  """Returns what is before, between and after the markers, without these."""
  begin, end = section.markers
  before, found, rest = text.partition(begin)
  between, found_too, after = rest.partition(end)
  if not (found and found_too):
    raise ValueError(f'{section.page}: expected the markers {begin} and {end}')
  return before, between, after


def render(section: Section, folder: pathlib.Path) -> str:
  """Returns what is to stand between a section's markers.

  Args:
    section: in `SECTIONS`.
    folder: of the files.
  """
  texts = ['\n'.join(_lines(block)) for block in _blocks(section, folder)]
  return '\n\n'.join(texts)


def _blocks(section: Section, folder: pathlib.Path) -> list['str | tables.Table']:
  """Returns a section's blocks, with links as they are from its page."""
  results = os.path.relpath('results', os.path.dirname(section.page) or '.')
  return [
    block.replace('](results/', f']({results}/') if isinstance(block, str) else block
    for block in section.blocks(folder)
  ]


def _lines(block: 'str | tables.Table') -> list[str]:
  return block.splitlines() if isinstance(block, str) else block.lines()


def write(root: pathlib.Path = ROOT, folder: pathlib.Path = RESULTS) -> None:
  """Writes the sections of all pages, and figures, from the files.

  Args:
    root: where the pages are.
    folder: of the files.

  Raises:
    ValueError: a marker is missing.
  """
  texts = {page: (root / page).read_text() for page in PAGES}
  for section in SECTIONS:
    before, _, after = _split(texts[section.page], section)
    begin, end = section.markers
    content = render(section, folder)
    texts[section.page] = f'{before}{begin}\n{content}\n{end}{after}'.replace(
      f'{begin}\n\n{end}', f'{begin}\n{end}'
    )
  summary = demonstrations_study.summary(folder)
  if len(summary):
    (folder / demonstrations_study.FIGURE).write_text(
      plotting.svg(figures.demonstrations(summary))
    )
  curves = solving.curves(folder)
  if curves:
    (folder / solving.FIGURE).write_text(plotting.svg(figures.steps_to_success(curves)))
  studied = _studied(folder)
  if studied:
    (folder / network_study.FIGURE).write_text(plotting.svg(figures.networks(studied)))
  for page, text in texts.items():
    (root / page).write_text(text)


def check(
  root: pathlib.Path = ROOT, folder: pathlib.Path = RESULTS
) -> tuple[list[str], list[str]]:
  """Compares the sections of all pages with the files.

  Args:
    root: where the pages are.
    folder: of the files.

  Returns:
    A line for each number that a page shows, with the file and rows that it comes from;
    and a line for each difference, with the page.

  Raises:
    ValueError: a marker is missing.
  """
  texts = {page: (root / page).read_text() for page in PAGES}
  numbers, differences = [], []
  for section in SECTIONS:
    shown = [
      line for line in _split(texts[section.page], section)[1].splitlines() if line
    ]
    expected = list(_expected(section, folder))
    for line, (words, columns, cells) in itertools.zip_longest(
      shown, expected, fillvalue=('', (), ())
    ):
      row = line if isinstance(line, str) else ''
      found, wrong = _compare(row, words, columns, cells)
      numbers += [f'{section.name}: {number}' for number in found]
      differences += [f'{section.page}, {section.name}: {text}' for text in wrong]
  return numbers, differences


_Line = tuple[str, tuple[str, ...], tuple[tables.Cell, ...]]
"""A line of a page; of a table's row its columns and cells, too."""


def _expected(section: Section, folder: pathlib.Path) -> Iterator[_Line]:
  for block in _blocks(section, folder):
    lines = _lines(block)
    if isinstance(block, str):
      yield from ((line, (), ()) for line in lines)
      continue
    yield from ((line, (), ()) for line in lines[:2])
    for line, row in zip(lines[2:], block.rows, strict=True):
      yield line, block.header, row


def _compare(
  shown: str, expected: str, columns: Sequence[str], cells: Sequence[tables.Cell]
) -> tuple[list[str], list[str]]:
  """Returns the numbers of a line with their sources, and its differences."""
  texts = [text.strip() for text in shown.strip().strip('|').split('|')]
  if not cells or len(texts) != len(cells):
    differs = shown != expected
    return [], [f'it says {shown!r}, the files {expected!r}'] if differs else []
  label = ', '.join(cell.text for cell in cells if cell.text and not cell.source)
  numbers, differences = [], []
  for text, column, cell in zip(texts, columns, cells, strict=True):
    if cell.source and re.search(r'\d', text):
      numbers.append(f'{label} | {column}: {text} <- {cell.source}')
    if text != cell.text:
      differences.append(
        f'{label} | {column}: it says {text!r}, the files {cell.text!r} '
        f'({cell.source or "no measurement"})'
      )
  return numbers, differences
