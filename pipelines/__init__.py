"""The `brainage` command: one module a job."""
