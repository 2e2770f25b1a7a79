"""What the server and its child processes call things: tasks, and files in a job's folder.

The server itself imports no more than this: a network's libraries are for the children alone.
"""

TASK = "brainage.serving.task:examine"
LOOK = "brainage.serving.task:look"
WARM = "brainage.serving.task:warm"

STAGES = "stages.json"
RESULT = "result.json"
REPORT = "report"
IMAGE, MAP = "image.nii.gz", "map.nii.gz"
PICTURES = ("planes", "age_line", "cohort")

# One of brainage.inference.attribution.METHODS.
MAP_METHOD = "smoothgrad"
SAMPLE_AGE_YEARS = 58.0
SAMPLE_WORDS = "this sample is computed and nobody's brain: its age shows how a page looks, no more"
