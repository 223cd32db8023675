"""Settings that tests share."""

from mblsr1 import Options

#: The paper's regime with re-solved steps: each batch drawn anew, SR1 alone, the batch grown by Algorithm 6.
RESOLVING = Options(
    memory=16, overlap=0.0, growth="progress", sample_matrix="sr1", whole_matrix="sr1", anneal=False, poor_ratio=0.1,
    good_ratio=0.5, ratio_reset=False,
)  # fmt: skip
