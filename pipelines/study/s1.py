"""Table S1: MNIST, the fully connected network, accuracy over δ, for each reading of a worker."""

from pipelines.study import jobs, reference
from pipelines.study.draw import over
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("accuracy_percent",),
    draw=over("leader_fraction", "accuracy_percent"),
    reference=reference.S1,
)
