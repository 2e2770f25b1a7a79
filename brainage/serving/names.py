"""What the server and its child processes call things: tasks, and files in a job's folder.

The server itself imports no more than this: a network's libraries are for the children alone.
"""

from brainage.cohorts.sample import SAMPLE_AGE_YEARS as SAMPLE_AGE_YEARS

TASK = "brainage.serving.task:examine"
LOOK = "brainage.serving.task:look"
WARM = "brainage.serving.task:warm"

STAGES = "stages.json"
RESULT = "result.json"
REPORT = "report"
IMAGE, MAP = "image.nii.gz", "map.nii.gz"
PICTURES = ("planes", "map", "age_line", "cohort", "volume_curves")
