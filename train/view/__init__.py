"""Comparing finished or running runs, from their records alone: `python -m train.view`."""

from train.view._page import page as page
from train.view._pictures import Picture as Picture
from train.view._pictures import pictures as pictures
from train.view._read import Run as Run
from train.view._read import read_runs as read_runs
from train.view._tables import changed_keys as changed_keys
from train.view._tables import metric_rows as metric_rows
from train.view._tensorboard import write_events as write_events
