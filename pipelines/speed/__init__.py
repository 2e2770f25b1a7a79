"""`brainage speed`: candidates (a method under a schedule) on the same network and data.

`benchmark` takes turns, `single` and `distributed` measure one run, `summary` and `rounds` write
the tables.
"""
