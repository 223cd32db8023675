"""The development bench: what the default settings were chosen on, and what they are reported on.

Choosing: the deterministic problems of `problems`, and the tasks of `tasks` marked "selection".
The tasks marked "reporting" take no part in any choice: run them once the settings stand.
"""

from benchmarks import store

RESULTS = store.RESULTS / "tune"
