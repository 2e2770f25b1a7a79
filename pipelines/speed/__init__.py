"""`brainage speed`: entrants side by side on the same network and data, in one run.

An entrant is a method under a schedule. `single` builds those of one device, `distributed` those
of several; `race` takes turns, `report` writes the table.
"""
