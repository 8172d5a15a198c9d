"""Devices, processes, files: what every part of a run stands on."""
