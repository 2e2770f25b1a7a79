"""Everything that reads foreign bytes, each with healthy inputs to start from."""

from tools.fuzz.images import IMAGES
from tools.fuzz.models import MODELS
from tools.fuzz.node import NODE
from tools.fuzz.scans import SCANS
from tools.fuzz.tables import TABLES
from tools.fuzz.target import Target

TARGETS: dict[str, Target] = SCANS | NODE | TABLES | MODELS | IMAGES
