"""Findings on one scan: plain values, no words and no pictures yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from brainage.evaluation.normative import Reference, reference_from_json
from brainage.evaluation.volume_curves import VolumeCurves, curves_from_json
from brainage.inference.attribution import LEGENDS
from brainage.inference.model import Model
from brainage.types import BoolArray, FloatArray, Json, Verdict, Volume


@dataclass(frozen=True)
class ModelIdentity:
    """Which model a prediction comes from.

    Attributes
    ----------
    name : str
        Folder of the bundle, or its name in the model registry.
    version : str
        Version in the registry, or of the program that trained it.
    sha256 : str
        Identity of the weights.
    facts : dict
        Content of ``bundle.json``.
    """

    name: str
    version: str
    sha256: str
    facts: Json

    @property
    def reference(self) -> Reference | None:
        """Held-out people of the model's cohort, where it knows them."""
        values = self.facts.get("reference")
        return None if values is None else reference_from_json(values)

    @property
    def offset_years(self) -> float:
        """What `calibrate` found the weights to be off at a site: taken off every prediction."""
        return float((self.facts.get("calibration") or {}).get("offset_years", 0.0))

    @property
    def volume_curves(self) -> VolumeCurves | None:
        """Volumes of healthy people against age, where it knows them."""
        values = self.facts.get("volume_curves")
        return None if values is None else curves_from_json(values)


@dataclass(frozen=True)
class Typed:
    """What was typed in for one report; nothing of it is taken from a file.

    Attributes
    ----------
    person_name, study_id, scan_date : str
        Printed on this report; control characters are dropped and long ones are cut.
    """

    person_name: str = ""
    study_id: str = ""
    scan_date: str = ""


NOTHING_TYPED = Typed()


@dataclass(frozen=True, eq=False)
class AttributionMap:
    """What made this brain look older or younger to the network.

    Attributes
    ----------
    volume : Volume
        Signed map in MNI space.
    method, unit : str
        As in `brainage.inference.attribution`, whose `LEGENDS` tells what the signs mean.
    predicted_age_years, reference_age_years : float
        What the model says of the scan, and of the template that it is set against.
    regions : tuple of (str, float)
        What regions add, in years, the largest first; empty for maps that do not add up.
    """

    volume: Volume
    method: str
    unit: str
    predicted_age_years: float
    reference_age_years: float
    regions: tuple[tuple[str, float], ...] = ()

    @property
    def legend(self) -> tuple[str, str]:
        """What values below and above 0 mean."""
        return LEGENDS[self.method]


@dataclass(frozen=True)
class Earlier:
    """What a report said before.

    Attributes
    ----------
    when : str
        Date of the scan as it was typed in, else that of the report, which is said.
    verdict : str
        Of the quality gate.
    predicted_age_years : float
        By the same model.
    age_years : float, optional
        Age at that scan.
    code : str
        First digits of that scan's SHA-256.
    sex : str
        As it was typed in.
    ood_percentile : float, optional
        Share, in percent, of held-out training scans that are less unusual than that scan.
    """

    when: str
    verdict: str
    predicted_age_years: float
    age_years: float | None
    code: str = ""
    sex: str = ""
    ood_percentile: float | None = None

    @property
    def gap_years(self) -> float | None:
        """Predicted minus chronological age; None where no age was given."""
        return None if self.age_years is None else self.predicted_age_years - self.age_years


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a report says of one scan.

    Attributes
    ----------
    label : str
        What the report calls the scan: no file name, no person.
    verdict : {"ok", "flagged", "failed"}
        Of the quality gate; a failed scan has no predicted age.
    reasons : tuple of str
        One clause for each limit that was broken.
    recognised : str
        What the scan was taken for; empty where it is not known.
    measures : mapping of str to float
        Named values of the quality gate.
    model : ModelIdentity
        What predicted.
    predicted_age_years : float, optional
        Absent for a failed scan.
    interval_years : tuple of float (2,), optional
        Low and high; absent where the model is not calibrated for the level.
    level : float
        Share of ages that the interval shall hold.
    ood_percentile : float, optional
        Share, in percent, of held-out training scans that are less unusual.
    age_years, sex : float and str, optional
        As typed in; never used by the prediction.
    voxel_mm : tuple of float (3,), optional
        Edges of the scan's voxels as it was read.
    series : str
        DICOM series that it was read from, without any text of the file; empty for other scans.
    contradicted : tuple of str
        Which of ``age`` and ``sex``, as typed in, a DICOM header says otherwise; what it says is
        not kept.
    code : str
        First digits of the scan's SHA-256: tells reports apart without naming anybody.
    volumes_ml : mapping of str to float
        ``grey``, ``white``, ``fluid`` and, of the fluid, ``ventricles`` in millilitres of the
        scan's own space.
    image : Volume, optional
        The scan in MNI space, for pictures; absent where only a prediction is at hand.
    mask : numpy.ndarray of bool, optional
        Brain on the image's grid.
    attribution : AttributionMap, optional
        If it was asked for.
    earlier : tuple of Earlier
        What reports on earlier scans of this person said.
    """

    label: str
    verdict: Verdict
    reasons: tuple[str, ...]
    recognised: str
    measures: Mapping[str, float]
    model: ModelIdentity
    predicted_age_years: float | None = None
    interval_years: tuple[float, float] | None = None
    level: float = 0.9
    ood_percentile: float | None = None
    age_years: float | None = None
    sex: str = ""
    voxel_mm: tuple[float, float, float] | None = None
    series: str = ""
    contradicted: tuple[str, ...] = ()
    code: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    image: Volume | None = None
    mask: BoolArray | None = None
    attribution: AttributionMap | None = None
    earlier: tuple[Earlier, ...] = ()

    @property
    def brain_age_gap_years(self) -> float | None:
        """Predicted minus chronological age, raw; None where either is not known."""
        if self.predicted_age_years is None or self.age_years is None:
            return None
        return self.predicted_age_years - self.age_years

    @property
    def brain(self) -> tuple[FloatArray, BoolArray] | None:
        """Image and mask, where both are at hand."""
        if self.image is None or self.mask is None:
            return None
        return self.image.data, self.mask


def identify_model(model: Model) -> ModelIdentity:
    """Identify a loaded model: its name, version, weights and facts."""
    facts = model.bundle.facts
    commit = str(facts.get("git_commit", "unknown"))[:7]
    trained_by = f"brainage {facts.get('brainage_version', '?')}, commit {commit}"
    version = model.version or trained_by
    return ModelIdentity(model.name, version, model.bundle.weights_sha256, facts)
