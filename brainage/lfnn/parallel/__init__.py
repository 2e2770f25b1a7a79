"""Run blocks on several devices: transport, streams, profile, simulation."""
