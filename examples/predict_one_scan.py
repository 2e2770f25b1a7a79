"""Predict one scan.

The released model on one scan: age, interval, verdict, and the one-page report.
"""

# %% A phantom stands for your scan. Give the path of a NIfTI or MGH file, a DICOM folder or a zip.

from pathlib import Path

import matplotlib.pyplot as plt

import brainage
from brainage.cohorts.phantom import write_phantom_cohort
from brainage.scans.volume import load_volume

cohort = write_phantom_cohort(Path("phantoms"), subjects=1, seed=0)
scan = brainage.read_cohort(cohort).cohort.table["path"][0]

# %% Predict. A scan that cannot be used raises an error that says why.

model = brainage.load_model()
result = model.predict(scan)
low, high = result.interval_years
print(f"predicted age {result.age_years:.1f} years, 90 % interval {low:.0f} to {high:.0f}")
print(f"verdict: {result.verdict} {'; '.join(result.reasons)}")
print(f"less unusual training scans: {result.ood:.0f} %")

# %% Write the report as HTML, PDF and JSON. The age is optional and enters nothing but the gap.

findings = brainage.write_report(scan, "report", age_years=50)
print("wrote", ", ".join(sorted(path.name for path in Path().glob("report.*"))))

# %% Look at the scan. A phantom is computed: its predicted age means nothing.

voxels = load_volume(scan).data
middle = [size // 2 for size in voxels.shape]
planes = [voxels[middle[0]], voxels[:, middle[1]], voxels[:, :, middle[2]]]
figure, axes = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
for panel, plane in zip(axes, planes, strict=True):
    panel.imshow(plane.T, origin="lower", cmap="gray")
    panel.axis("off")
figure.suptitle(f"predicted {result.age_years:.0f} years ({low:.0f} to {high:.0f}), a phantom")
figure.savefig("predict_one_scan.png", dpi=120)
