"""A data set of the Hugging Face hub, by name; a short probe comes before any download."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from train.data._dataset import Dataset
from train.data._folder import load_dataset
from train.data._materialise import materialise
from train.errors import DataError

if TYPE_CHECKING:
    from train.sections import Data

PROBE_SECONDS = 5.0
_TRUE = ("1", "true", "yes", "on")


def load_hub(options: Data) -> Dataset:
    """Load `data.name`, from the network or from the hub's own local cache.

    Raises:
        DataError: the hub is out of reach and the data set is not in the cache.
    """
    name = str(options.name)
    from datasets import config as hub

    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE
    if offline or not _reachable(hub.HF_ENDPOINT):
        # The library itself takes minutes to give up behind a silent firewall.
        hub.HF_HUB_OFFLINE = True
        try:
            splits = load_dataset(name)
        except DataError:
            why = "HF_HUB_OFFLINE is set" if offline else f"no answer in {PROBE_SECONDS:g} s"
            raise DataError(
                f"data.name: the hub data set {name} is out of reach ({why}) and not in the local "
                "cache. Connect to the network; or fetch its folder elsewhere and give "
                'data.path="FOLDER"; or use a built-in: data.name=mnist-5k.'
            ) from None
    else:
        splits = load_dataset(name)
    return materialise(splits, name, options)


def _reachable(endpoint: str) -> bool:
    """Return whether the endpoint answers at all, in seconds even where DNS hangs."""
    answered = threading.Event()

    def probe() -> None:
        request = urllib.request.Request(endpoint, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()
