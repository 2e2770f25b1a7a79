"""Table S2: convolutional networks on MNIST and CIFAR-10, error over δ."""

from pipelines.study import jobs, reference
from pipelines.study.draw import over
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("error_percent", "parameters"),
    draw=over("leader_fraction", "error_percent"),
    reference=reference.S2,
)
