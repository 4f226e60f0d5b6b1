"""Papers, each one command away: jobs, claims as data, a report with intervals."""

from train.reproduce._claims import Claim as Claim
from train.reproduce._claims import Estimate as Estimate
from train.reproduce._claims import Statistic as Statistic
from train.reproduce._claims import computed as computed
from train.reproduce._claims import computed_ratio as computed_ratio
from train.reproduce._claims import correlation as correlation
from train.reproduce._claims import difference as difference
from train.reproduce._claims import exact as exact
from train.reproduce._claims import geometric_mean as geometric_mean
from train.reproduce._claims import judge as judge
from train.reproduce._claims import mean as mean
from train.reproduce._claims import ratio as ratio
from train.reproduce._job import DIVERGED as DIVERGED
from train.reproduce._job import FAILED as FAILED
from train.reproduce._job import Asked as Asked
from train.reproduce._job import Job as Job
from train.reproduce._job import measurement as measurement
from train.reproduce._job import training as training
from train.reproduce._paper import Paper as Paper
from train.reproduce._paper import Table as Table
from train.reproduce._results import Results as Results
from train.reproduce._runner import default_workers as default_workers
from train.reproduce._runner import run_all_jobs as run_all_jobs
from train.reproduce._settings import SCALES as SCALES
from train.reproduce._settings import Settings as Settings
from train.tables import CONFIGS as CONFIGS
