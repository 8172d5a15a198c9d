"""The commands, one file for each part of the work; every import of an upper floor happens inside its command."""
