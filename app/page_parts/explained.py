"""Terms that are not everyday, in plain words."""

FAILED = (
    "What to do: look at the picture. If the blue line does not follow the brain, the program did "
    "not find it. Give a T1-weighted scan of the whole head, without contrast agent, with slices "
    "of at most 4 mm."
)
CHECKS = {
    "Bars": "blue is the range of ordinary scans, the mark is this scan; red lies outside.",
    "Taken for": "what the program thinks it was given: a whole head, a brain cut out of one, or "
    "a brain that already lies in the standard space (MNI).",
    "Agreement with the template": "how much the brain resembles an average brain after being "
    "laid upon it. 1 is the same; most good scans have 0.4 to 0.7.",
    "Overlap of the brain's outline": "how much of both outlines is shared; 1 is all.",
    "Contrast": "how much brighter white matter is than grey matter, as a multiple of the brain's "
    "spread of brightness. Near or below 0 the scan is hardly T1-weighted.",
    "Noise": "speckle that a voxel does not share with its neighbours; more is worse.",
    "Sharpness": "how steep edges are; less may mean motion or thick slices.",
    "Training scans that are more usual": "how many percent of the model's training scans are "
    "more usual. Near 100: do not trust the age.",
}
GAPS = {
    "Brain-age gap": "predicted age minus age. It is the error of the prediction, and holds "
    "biology, scanner, motion and chance.",
    "Percentile": "how many percent of people of about the same age, whom the network had not "
    "seen, have a lower gap. 50 is the middle; 5 and 95 are seen in every tenth person. "
    "Predictions lean to the middle of the training ages: in the young a gap above 0 can have a "
    "low percentile, in the old one below 0 a high one.",
    "Gap corrected for age bias": "has that lean taken out, by use of the age. For comparing "
    "groups only.",
}
