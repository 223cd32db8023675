"""The experiments of section 5 of the paper, a module each, and the page that reports them.

A module PART has ``STORE``, ``jobs(scale, only)`` (settings of the runs that are missing and can be told; asked again
when those are done) and ``work(settings)``, which makes a run and saves it. ``report_PART`` has ``claims()``,
``section()`` (Markdown) and ``pictures(folder)``, all from what is stored.
"""

from benchmarks import store

RESULTS = store.RESULTS / "experiments"
#: In the order of the page.
PARTS = ("figure1", "figure2", "figure3", "ablation")
SCALES = ("small", "full")
