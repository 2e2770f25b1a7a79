"""Preprocessing from a volume in RAS+ to a normalised array on the network's grid."""
