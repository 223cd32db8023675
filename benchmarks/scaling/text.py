"""The words of docs/scaling.md around its numbers."""

PAGE = """# Scaling

What a step costs on several ranks: measured on the one machine that there was, and by a model that is tested on these
measurements. Everything below is written by `python -m benchmarks.scaling`; `report` alone writes it again from what is
kept in `benchmarks/results/scaling`.

## Measured

{machine}; {cores} cores for all ranks, seed {seed}. The machine's load average before the runs of 1, 2 and 4 ranks was
{load}; under a load, times say what exchanges cost where ranks wait for their turn on a core. Four ranks on {cores}
cores cannot be faster than {cores}, and none of this is a network's doing.

A step of `Options()` with m = 16 on logistic loss, its batch shared out by `data_parallel`: medians, in milliseconds.
The simulation takes processor times from the run on one rank, its ratio of wall to processor time, and from the second
table how much longer an exchange takes than on one rank.

| ranks | d | batch | measured | simulated | error |
| ---: | ---: | ---: | ---: | ---: | ---: |
{measured}

The error is {median:.0f} % in the median and {worst:.0f} % at worst.

A gradient of length d that costs nothing to compute, through `data_parallel`: smallest and median time in milliseconds.

| d | 1 rank | 2 ranks | 4 ranks |
| ---: | ---: | ---: | ---: |
{exchanges}

## The model

A step evaluates g gradients that make up a batch of n samples (g = 3 with the default's overlap: the part taken over,
the shared part, the fresh samples). On P ranks, with the same work for each:

- batch shared out: T = n d c / P + g X(P, d) + s + e d, X(P, d) = 2 log2(P) l + 2 (P - 1) (o + 8 (d + 1) / (P b)).
  Every rank does the whole of the solver's work, s + e d, and holds all vectors.
- vectors in parts, data in columns: T = n d c / P + s + e d / P + (q + 2 g) (log2(P) l + (P - 1) o) + g X(P, n / g);
  of the 2 g, half come before a sum and half after a gradient, so that all ranks stop where one fails.

Measured on one rank, processor time with caches shared with other work: c = {number:.2f} ns for a number of the data,
s = {fixed:.2f} ms, e = {entry:.1f} ns (m = 16; the sums over the blocks are part of it). The solver makes
q = {gathers:.1f} exchanges of a few numbers a step, counted over a run. Latency l, start of a message o and bandwidth b
are the network's: 30 us, 2 us, 1.1 GB/s for 10 Gb/s Ethernet; 2 us, 0.5 us, 11 GB/s for InfiniBand at 100 Gb/s. These
are assumed, not measured.

`benchmarks/scaling/model.py` simulates the first case rank by rank: a rank without a block waits, one with more blocks
is waited for, ranks share cores.

## Further out, by the model

One core a node, as fast as the measured one; 1,024 blocks; not measured.

| d | batch | network | s a step, 1 node | batch shared out, best | nodes | vectors in parts, there |
| ---: | ---: | --- | ---: | ---: | ---: | ---: |
{far}

![Seconds a step against nodes](_static/scaling.png)

Sharing out the batch stops helping where the solver's own work and the exchange of a gradient, neither of which gets
shorter with more nodes, outweigh the share of the batch; larger batches move that point out in proportion. Vectors in
parts share the solver's work too, and send numbers by the sample instead of by the parameter: that is better for models
that are linear in long rows, and impossible where the model cannot be cut by columns.

The number of blocks bounds the ranks that compute at once; it is part of what decides a result's bits, so choose it
once: a power of two that is no smaller than the largest number of ranks.
"""
