"""For torch: MB-LSR1 as a `torch.optim.Optimizer`, and whole runs over the parameters of a module.

`MBLSR1` is for a training loop of your own, `minimize` for the whole default with overlapping batches;
`frozen_statistics` keeps batch-norm statistics and random generators as they are.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError("mblsr1.torch needs torch: python -m pip install 'mblsr1[torch]'") from error

from mblsr1.torch.draws import frozen_statistics
from mblsr1.torch.module import minimize
from mblsr1.torch.optimizer import MBLSR1

__all__ = ["MBLSR1", "frozen_statistics", "minimize"]
