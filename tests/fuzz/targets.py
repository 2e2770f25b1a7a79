"""Everything that reads foreign bytes, each with healthy inputs to start from."""

from tests.fuzz.images import IMAGES
from tests.fuzz.models import MODELS
from tests.fuzz.scans import SCANS
from tests.fuzz.tables import TABLES
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = SCANS | TABLES | MODELS | IMAGES
