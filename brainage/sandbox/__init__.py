"""Many tasks, each in a child process that may crash, hang or eat memory without harm."""
